//! One step of the modelled machine: from a state and a choice to the next state.
//!
//! A state is a row of 64-bit words: budgets and ghost, flags of the processes, a word for each actor (its node, and
//! whether it sleeps), and then the shared cells in the order in which they were first touched, without the zeros at
//! the end. A cell is eight aligned bytes of memory, or a lock byte (its holder's number plus one).

use std::collections::HashMap;

use ipc_core::memory::LockByte;

use super::actors::{Actors, Next};
use super::memory::{Access, Explored, Reply};
use super::{Case, Interner, Options, Step, Timeouts, View, What};

/// Where things lie in a state.
const BUDGETS: usize = 0;
const FLAGS: usize = 1;
const ACTORS: usize = 2;

const KILLS_AT: u32 = 32;
const FREEZES_AT: u32 = 40;
const ASLEEP: u64 = 1 << 32;

/// Flags of a process.
pub(super) mod flag {
    pub(in super::super) const DEAD: u64 = 1;
    pub(in super::super) const GONE: u64 = 2;
    pub(in super::super) const RELEASED: u64 = 4;
    pub(in super::super) const FROZEN: u64 = 8;
    pub(in super::super) const STRAY: u64 = 16;
}

/// The number of no actor: every sleep ends.
pub(super) const EVERYBODY: u8 = u8::MAX;

/// A choice of the scheduler, or of fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The actor performs its access. The mask says which sleepers a wake finds.
    Run { actor: u8, woken: u8 },
    /// The actor's sleep ends by its timeout.
    Timeout { actor: u8 },
    /// The process is killed; with `stray`, a forked child of it keeps its lock bytes.
    Kill { process: u8, stray: bool },
    /// The process is stopped for good, but lives.
    Freeze { process: u8 },
    /// The kernel frees the lock bytes of a dead process.
    Release { process: u8 },
    /// The end of a dead process becomes visible.
    Gone { process: u8 },
}

impl Action {
    /// Whether the action is what a property "without further kills" leaves out.
    pub(super) fn is_fate(self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Freeze { .. })
    }

    pub(super) fn pack(self) -> u32 {
        let (kind, index, extra) = match self {
            Self::Run { actor, woken } => (0, actor, woken),
            Self::Timeout { actor } => (1, actor, 0),
            Self::Kill { process, stray } => (2, process, stray.into()),
            Self::Freeze { process } => (3, process, 0),
            Self::Release { process } => (4, process, 0),
            Self::Gone { process } => (5, process, 0),
        };
        u32::from_le_bytes([kind, index, extra, 0])
    }

    pub(super) fn unpack(packed: u32) -> Self {
        let [kind, index, extra, _] = packed.to_le_bytes();
        match kind {
            0 => Self::Run {
                actor: index,
                woken: extra,
            },
            1 => Self::Timeout { actor: index },
            2 => Self::Kill {
                process: index,
                stray: extra != 0,
            },
            3 => Self::Freeze { process: index },
            4 => Self::Release { process: index },
            _ => Self::Gone { process: index },
        }
    }
}

/// What a cell stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cell {
    Memory(usize),
    Lock(LockByte),
}

/// The modelled machine: the case, and all tables that states refer to.
pub(super) struct Machine<'c, C: Case> {
    pub(super) case: &'c C,
    pub(super) options: Options,
    pub(super) names: Vec<String>,
    /// The process of each actor.
    pub(super) processes: Vec<usize>,
    process_count: usize,
    pub(super) actors: Actors<'c, C>,
    ghosts: Interner<C::Ghost>,
    cells: HashMap<Cell, usize>,
    starts: Vec<C::Local>,
}

impl<'c, C: Case> Machine<'c, C> {
    pub(super) fn new(case: &'c C) -> Self {
        let options = case.options();
        let actors = case.actors();
        let processes: Vec<usize> = actors.iter().map(|actor| actor.process).collect();
        let process_count = processes.iter().max().map_or(0, |last| last + 1);
        assert!(
            process_count <= 8 && processes.len() <= 8,
            "at most 8 actors"
        );
        let memory = Explored::new(options.len, process_count, options.fences);
        Self {
            case,
            options,
            names: actors.iter().map(|actor| actor.name.clone()).collect(),
            starts: actors.into_iter().map(|actor| actor.start).collect(),
            actors: Actors::new(case, memory, processes.clone()),
            processes,
            process_count,
            ghosts: Interner::default(),
            cells: HashMap::new(),
        }
    }

    /// The state in which nobody has done anything and all memory is zero.
    pub(super) fn initial(&mut self) -> Vec<u64> {
        let ghost = self.ghosts.put(C::Ghost::default());
        let budgets = u64::from(ghost)
            | u64::from(self.options.kills) << KILLS_AT
            | u64::from(self.options.freezes) << FREEZES_AT;
        let mut state = vec![budgets, 0];
        for (actor, start) in std::mem::take(&mut self.starts).into_iter().enumerate() {
            state.push(self.actors.root(actor, start.clone()).into());
            self.starts.push(start);
        }
        let setup = self.case.setup();
        for (at, value) in setup.words {
            self.store(&mut state, at, 8, value);
        }
        for (byte, process) in setup.locks {
            let cell = self.enter(Cell::Lock(byte));
            Self::put(&mut state, cell, process as u64 + 1);
        }
        state
    }

    /// How many processes there are.
    pub(super) fn process_count(&self) -> usize {
        self.process_count
    }

    pub(super) fn view<'v>(&'v self, state: &'v [u64]) -> View<'v, C> {
        View {
            machine: self,
            state,
        }
    }

    pub(super) fn ghost(&self, state: &[u64]) -> &C::Ghost {
        self.ghosts.get(state[BUDGETS] as u32)
    }

    pub(super) fn flags(state: &[u64], process: usize) -> u64 {
        state[FLAGS] >> (8 * process) & 0xff
    }

    pub(super) fn node(state: &[u64], actor: usize) -> u32 {
        state[ACTORS + actor] as u32
    }

    pub(super) fn is_asleep(state: &[u64], actor: usize) -> bool {
        state[ACTORS + actor] & ASLEEP != 0
    }

    /// Eight bytes of memory.
    pub(super) fn memory(&self, state: &[u64], at: usize) -> u64 {
        self.cells
            .get(&Cell::Memory(at / 8))
            .map_or(0, |&cell| Self::cell(state, cell))
    }

    /// Who holds a lock byte.
    pub(super) fn holder(&self, state: &[u64], byte: LockByte) -> Option<usize> {
        let cell = self.cells.get(&Cell::Lock(byte))?;
        Self::cell(state, *cell)
            .checked_sub(1)
            .map(|process| process as usize)
    }

    /// Everything that can happen in `state`.
    pub(super) fn actions(&self, state: &[u64], into: &mut Vec<Action>) {
        into.clear();
        let may_run =
            |process: usize| Self::flags(state, process) & (flag::DEAD | flag::FROZEN) == 0;
        for (index, &process) in self.processes.iter().enumerate() {
            let actor = index as u8;
            if !may_run(process) {
                continue;
            }
            if Self::is_asleep(state, index) {
                if self.options.timeouts == Timeouts::Always {
                    into.push(Action::Timeout { actor });
                }
                continue;
            }
            let node = Self::node(state, index);
            match self.actors.next(node) {
                Next::Idle => continue,
                Next::Access(_)
                    if self.actors.at_start(node)
                        && !self.case.may_start(&self.view(state), index) =>
                {
                    continue;
                }
                Next::Access(Access::Wake { at, count }) => {
                    self.wakes(state, *at, *count, |woken| {
                        into.push(Action::Run { actor, woken })
                    });
                }
                Next::Access(_) | Next::Panicked(_) => into.push(Action::Run { actor, woken: 0 }),
            }
        }
        for process in 0..self.process_count {
            let flags = Self::flags(state, process);
            let index = process as u8;
            if flags & flag::DEAD != 0 {
                if flags & flag::RELEASED == 0 {
                    into.push(Action::Release { process: index });
                }
                if self.options.gone && flags & flag::GONE == 0 {
                    into.push(Action::Gone { process: index });
                }
            }
        }
        let sleeps = |actor: usize| may_run(self.processes[actor]) && Self::is_asleep(state, actor);
        if self.options.timeouts == Timeouts::WhenStuck
            && into.is_empty()
            && (0..self.processes.len()).any(sleeps)
        {
            into.push(Action::Timeout { actor: EVERYBODY });
        }
        let kills = state[BUDGETS] >> KILLS_AT & 0xff;
        let freezes = state[BUDGETS] >> FREEZES_AT & 0xff;
        for process in (0..self.process_count).filter(|&process| may_run(process)) {
            let index = process as u8;
            if kills > 0 && self.case.may_be_killed(process) {
                into.push(Action::Kill {
                    process: index,
                    stray: false,
                });
                if self.options.strays {
                    into.push(Action::Kill {
                        process: index,
                        stray: true,
                    });
                }
            }
            if freezes > 0 && self.case.may_be_frozen(process) {
                into.push(Action::Freeze { process: index });
            }
        }
    }

    /// The sets of sleepers that a wake can find. A dying sleeper may still be found, and then counts.
    fn wakes(&self, state: &[u64], at: usize, count: u32, mut found: impl FnMut(u8)) {
        let (mut sleepers, mut dead) = (0u8, 0u8);
        for (actor, &process) in self.processes.iter().enumerate() {
            let here = matches!(self.actors.next(Self::node(state, actor)),
                Next::Access(Access::Sleep { at: place, .. }) if *place == at);
            if here && Self::is_asleep(state, actor) {
                sleepers |= 1 << actor;
                if Self::flags(state, process) & flag::DEAD != 0 {
                    dead |= 1 << actor;
                }
            }
        }
        for set in 0..=sleepers {
            let live = (sleepers & !dead).count_ones();
            if set & !sleepers == 0
                && set.count_ones() == count.min(live + (set & dead).count_ones())
            {
                found(set);
            }
        }
    }

    /// Performs `action` on `state`, giving the state after it in `into`. `Err` if that breaks a rule.
    pub(super) fn apply(
        &mut self,
        state: &[u64],
        action: Action,
        into: &mut Vec<u64>,
    ) -> Result<(), String> {
        into.clear();
        into.extend_from_slice(state);
        let mut before = 0;
        let (actor, process, what) = match action {
            Action::Run { actor, woken } => {
                let actor = usize::from(actor);
                let process = self.processes[actor];
                let node = Self::node(state, actor);
                let access = match self.actors.next(node) {
                    Next::Access(access) => *access,
                    Next::Panicked(text) => {
                        return Err(format!("{} panicked: {text}", self.names[actor]));
                    }
                    Next::Idle => unreachable!("an idle actor does not run"),
                };
                self.check(access)?;
                before = access.at().map_or(0, |at| {
                    let size =
                        if let Access::Read { size, .. } | Access::Write { size, .. } = access {
                            size
                        } else {
                            8
                        };
                    part(self.memory(state, at), at, size.min(8 - (at % 8) as u8))
                });
                match self.perform(into, process, access, woken) {
                    Some(reply) => {
                        into[ACTORS + actor] = self.actors.after(node, reply).into();
                        self.run_glued(into, actor);
                        let returned = self.actors.at_start(into[ACTORS + actor] as u32)
                            || matches!(self.actors.next(into[ACTORS + actor] as u32), Next::Idle);
                        (
                            Some(actor),
                            process,
                            What::Access {
                                access,
                                reply,
                                returned,
                            },
                        )
                    }
                    None => {
                        into[ACTORS + actor] |= ASLEEP;
                        (Some(actor), process, What::FallsAsleep)
                    }
                }
            }
            Action::Timeout { actor: EVERYBODY } => {
                for actor in 0..self.processes.len() {
                    let stopped = flag::DEAD | flag::FROZEN;
                    let runs = Self::flags(state, self.processes[actor]) & stopped == 0;
                    if runs && Self::is_asleep(state, actor) {
                        self.end_sleep(into, actor, true);
                    }
                }
                (None, 0, What::Timeout)
            }
            Action::Timeout { actor } => {
                let actor = usize::from(actor);
                self.end_sleep(into, actor, true);
                (Some(actor), self.processes[actor], What::Timeout)
            }
            Action::Kill { process, stray } => {
                into[BUDGETS] -= 1 << KILLS_AT;
                let process = usize::from(process);
                let mut flags = flag::DEAD;
                if stray {
                    flags |= flag::STRAY;
                }
                if !self.has_anything(state, process) {
                    // Nothing to free, and nobody to take off a queue: one state less.
                    flags |= flag::RELEASED;
                }
                into[FLAGS] |= flags << (8 * process);
                (None, process, What::Killed { stray })
            }
            Action::Freeze { process } => {
                into[BUDGETS] -= 1 << FREEZES_AT;
                into[FLAGS] |= flag::FROZEN << (8 * process);
                (None, process.into(), What::Frozen)
            }
            Action::Release { process } => {
                let process = usize::from(process);
                self.release(into, process);
                into[FLAGS] |= flag::RELEASED << (8 * process);
                (None, process, What::Released)
            }
            Action::Gone { process } => {
                into[FLAGS] |= flag::GONE << (8 * process);
                (None, process.into(), What::Gone)
            }
        };
        let mut ghost = self.ghosts.get(state[BUDGETS] as u32).clone();
        let step = Step {
            actor,
            process,
            what,
            before,
            from: self.view(state),
            to: self.view(into),
        };
        let verdict = self.case.watch(&step, &mut ghost);
        into[BUDGETS] = into[BUDGETS] >> 32 << 32 | u64::from(self.ghosts.put(ghost));
        while into.len() > ACTORS + self.processes.len() && into.last() == Some(&0) {
            into.pop();
        }
        verdict
    }

    /// Performs the accesses that are no steps of their own.
    fn run_glued(&mut self, state: &mut Vec<u64>, actor: usize) {
        loop {
            let node = Self::node(state, actor);
            let access = match self.actors.next(node) {
                Next::Access(access @ (Access::Load { at, .. } | Access::Store { at, .. }))
                    if !self.actors.at_start(node) && self.case.glued(*at) =>
                {
                    *access
                }
                _ => return,
            };
            if let Some(reply) = self.perform(state, self.processes[actor], access, 0) {
                state[ACTORS + actor] = self.actors.after(node, reply).into();
            }
        }
    }

    /// The reply to an access; `None` if the actor falls asleep.
    fn perform(
        &mut self,
        state: &mut Vec<u64>,
        process: usize,
        access: Access,
        woken: u8,
    ) -> Option<Reply> {
        let reply = match access {
            Access::Load { at, size } | Access::Read { at, size } => {
                Reply::value(self.load(state, at, size))
            }
            Access::Store { at, size, value } | Access::Write { at, size, value } => {
                self.store(state, at, size, value);
                Reply::DONE
            }
            Access::Exchange { at, size, old, new } => {
                let found = self.load(state, at, size);
                if found == old {
                    self.store(state, at, size, new);
                }
                Reply {
                    value: found,
                    yes: found == old,
                }
            }
            Access::Add { at, value } => {
                let found = self.load(state, at, 8);
                self.store(state, at, 8, found.wrapping_add(value));
                Reply::value(found)
            }
            Access::Sleep { at, expected } => {
                if self.load(state, at, 4) == u64::from(expected) {
                    return None;
                }
                Reply::yes(false)
            }
            Access::Wake { .. } => {
                for actor in (0..self.processes.len()).filter(|actor| woken >> actor & 1 != 0) {
                    if Self::flags(state, self.processes[actor]) & flag::DEAD != 0 {
                        state[ACTORS + actor] &= !ASLEEP;
                    } else {
                        self.end_sleep(state, actor, false);
                    }
                }
                Reply::value(woken.count_ones().into())
            }
            Access::TryLock(byte) => {
                let cell = self.enter(Cell::Lock(byte));
                let free = Self::cell(state, cell) == 0;
                if free {
                    Self::put(state, cell, process as u64 + 1);
                }
                Reply::yes(free)
            }
            Access::Unlock(byte) => {
                let cell = self.enter(Cell::Lock(byte));
                // The kernel ignores the unlocking of what another process holds.
                if Self::cell(state, cell) == process as u64 + 1 {
                    Self::put(state, cell, 0);
                }
                Reply::DONE
            }
            Access::IsLocked(byte) => Reply::yes(self.holder(state, byte).is_some()),
            Access::IsGone(who) => {
                Reply::yes(who.is_none_or(|process| Self::flags(state, process) & flag::GONE != 0))
            }
        };
        Some(reply)
    }

    /// Ends the sleep of a live actor.
    fn end_sleep(&mut self, state: &mut Vec<u64>, actor: usize, timeout: bool) {
        let node = Self::node(state, actor);
        state[ACTORS + actor] = self.actors.after(node, Reply::yes(timeout)).into();
        self.run_glued(state, actor);
    }

    /// Whether the kernel has anything to do when the process dies.
    fn has_anything(&self, state: &[u64], process: usize) -> bool {
        let mut actors = self.processes.iter().enumerate();
        self.locks_of(state, process).next().is_some()
            || actors.any(|(actor, &of)| of == process && Self::is_asleep(state, actor))
    }

    /// Frees the lock bytes of a dead process, but for what a child of it keeps, and takes its sleepers off their
    /// queues.
    fn release(&self, state: &mut [u64], process: usize) {
        let stray = Self::flags(state, process) & flag::STRAY != 0;
        let kept = |byte| {
            stray && (self.options.strays_keep_recovery || matches!(byte, LockByte::Life(_)))
        };
        let locks: Vec<_> = self.locks_of(state, process).collect();
        for (_, cell) in locks.into_iter().filter(|&(byte, _)| !kept(byte)) {
            state[cell] = 0;
        }
        for actor in (0..self.processes.len()).filter(|&actor| self.processes[actor] == process) {
            state[ACTORS + actor] &= !ASLEEP;
        }
    }

    /// The lock bytes that a process holds, and their cells.
    fn locks_of(&self, state: &[u64], process: usize) -> impl Iterator<Item = (LockByte, usize)> {
        self.cells
            .iter()
            .filter_map(move |(cell, &index)| match *cell {
                Cell::Lock(byte) if Self::cell(state, index) == process as u64 + 1 => {
                    Some((byte, index))
                }
                _ => None,
            })
    }

    /// Refuses what would be a wild access.
    fn check(&self, access: Access) -> Result<(), String> {
        let (at, size, align) = match access {
            Access::Load { at, size }
            | Access::Store { at, size, .. }
            | Access::Exchange { at, size, .. } => (at, size, size),
            Access::Read { at, size } | Access::Write { at, size, .. } => (at, size, 1),
            Access::Add { at, .. } => (at, 8, 8),
            Access::Sleep { at, .. } | Access::Wake { at, .. } => (at, 4, 4),
            _ => return Ok(()),
        };
        if at % usize::from(align) != 0 || at + usize::from(size) > self.options.len {
            return Err(format!("{access} at {at}: misaligned or outside"));
        }
        Ok(())
    }

    fn load(&self, state: &[u64], at: usize, size: u8) -> u64 {
        part(self.memory(state, at), at, size)
    }

    fn store(&mut self, state: &mut Vec<u64>, at: usize, size: u8, value: u64) {
        let cell = self.enter(Cell::Memory(at / 8));
        let shift = 8 * (at % 8);
        let mask = mask(size) << shift;
        let old = Self::cell(state, cell);
        Self::put(state, cell, old & !mask | value << shift & mask);
    }

    /// Where the cell lies in a state.
    fn enter(&mut self, cell: Cell) -> usize {
        let next = ACTORS + self.processes.len() + self.cells.len();
        *self.cells.entry(cell).or_insert(next)
    }

    fn cell(state: &[u64], index: usize) -> u64 {
        state.get(index).copied().unwrap_or(0)
    }

    fn put(state: &mut Vec<u64>, index: usize, value: u64) {
        if state.len() <= index {
            state.resize(index + 1, 0);
        }
        state[index] = value;
    }
}

fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

/// The bytes of a cell that begin at `at`.
fn part(cell: u64, at: usize, size: u8) -> u64 {
    cell >> (8 * (at % 8)) & mask(size)
}
