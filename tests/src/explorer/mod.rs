//! An explicit-state model checker that runs the shipped code.
//!
//! A [`Case`] is a handful of actors, each a loop of operations of the library, on one small memory. The explorer
//! visits every state that any interleaving of their accesses can reach, one access at a time, in which any process may
//! be killed before any access, and tries the case's properties on each. Nothing of a protocol is written down twice:
//! the operations run on [`Explored`], which implements the same seam as a real mapping.
//!
//! # What it shows
//!
//! - *Safety*: [`Case::watch`] judges every step, [`Case::check`] every state.
//! - *Nothing wedges*: from every reachable state a [good](Case::good) one can be reached without a further kill.
//! - *Nothing spins for ever*: an operation's state holds everything it has read since it began, so no state of a
//!   running operation comes back. That an exploration ends therefore means that every infinite run holds infinitely many
//!   operations that return.
//! - *Nothing vacuous*: each of the [sights](Case::SIGHTS) that a case names has been seen in some state.
//!
//! # What it does not show
//!
//! Memory is sequentially consistent: orderings and fences are the business of the loom models. Bounds are small. States
//! are told apart by a 128-bit hash; the odds that two of a hundred million collide are below 10^-22.
//!
//! # Modelling
//!
//! Payload copies go by aligned cells of 8 bytes, each a step of its own. A killed process does nothing more; its lock
//! bytes are freed, and its end becomes visible, in later steps of their own and in any order. A kill may instead leave
//! a forked child that keeps the life bytes for ever. A frozen process is one that is never scheduled again, but lives: a
//! process that is stopped and goes on later is just one that others overtake. A sleep ends by a wake, or by a timeout
//! where the case allows it; a wake-up may hit a sleeper that is already dying, and then counts.

mod actors;
pub mod cases;
mod machine;
mod memory;
mod search;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use ipc_core::memory::LockByte;
use ipc_core::participant::ROW;

pub use memory::{Access, Explored, Reply};
pub use search::{Report, Violation, explore};

use machine::{Machine, flag};

/// What is explored, and what must hold.
pub trait Case: Sized {
    /// What an actor keeps between two operations.
    type Local: Clone + Eq + Hash + Debug;
    /// What the judge remembers of the past.
    type Ghost: Clone + Eq + Hash + Debug + Default;

    /// Names of what some state must show, so that a case proves something; see [`sights`](Self::sights).
    const SIGHTS: &'static [&'static str] = &[];

    /// Bounds and what fate may do.
    fn options(&self) -> Options;

    /// The actors, by number.
    fn actors(&self) -> Vec<Actor<Self::Local>>;

    /// What memory and locks begin with, where that is not all zero.
    fn setup(&self) -> Setup {
        Setup::default()
    }

    /// Words whose loads and stores are no steps of their own, but happen together with the access before. Right for words
    /// that nobody stores to in this case: such a load commutes with everything. For others it leaves interleavings
    /// out, which the case has to argue for.
    fn glued(&self, _at: usize) -> bool {
        false
    }

    /// One operation of an actor, from what it kept to what it keeps; `None` when it only idles from now on. Must be a
    /// function of its arguments and of what it reads from `memory`.
    fn operate(&self, actor: usize, memory: &Explored, local: &Self::Local) -> Option<Self::Local>;

    /// Whether the actor begins its next operation now: for newcomers that come after a death.
    fn may_start(&self, _view: &View<'_, Self>, _actor: usize) -> bool {
        true
    }

    /// Whether fate may kill this process.
    fn may_be_killed(&self, _process: usize) -> bool {
        true
    }

    /// Whether fate may freeze this process.
    fn may_be_frozen(&self, _process: usize) -> bool {
        true
    }

    /// Judges a step, and remembers it.
    fn watch(&self, _step: &Step<'_, Self>, _ghost: &mut Self::Ghost) -> Result<(), String> {
        Ok(())
    }

    /// Judges a state.
    fn check(&self, _view: &View<'_, Self>) -> Result<(), String> {
        Ok(())
    }

    /// Whether all is done and clean. Such a state must remain reachable from everywhere.
    fn good(&self, view: &View<'_, Self>) -> bool;

    /// Which of [`SIGHTS`](Self::SIGHTS) the state shows, as bits.
    fn sights(&self, _view: &View<'_, Self>) -> u32 {
        0
    }

    /// What a trace calls the word at `at`.
    fn name_of(&self, at: usize) -> String {
        format!("word {at}")
    }
}

/// A thread of a process.
#[derive(Clone, Debug)]
pub struct Actor<L> {
    /// For traces.
    pub name: String,
    /// Threads of one process die together and share its lock bytes.
    pub process: usize,
    /// What it begins with.
    pub start: L,
}

impl<L> Actor<L> {
    /// A process of one thread.
    pub fn new(name: impl Into<String>, process: usize, start: L) -> Self {
        Self {
            name: name.into(),
            process,
            start,
        }
    }
}

/// What a case begins with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// 64-bit words, by their places.
    pub words: Vec<(usize, u64)>,
    /// Lock bytes and the processes that hold them.
    pub locks: Vec<(LockByte, usize)>,
}

impl Setup {
    /// That of a [`Participants`](ipc_core::participant::Participants) table at 0 in which each process in turn has joined: process 0 has row 1, and so on.
    pub fn joined(processes: usize) -> Self {
        let mut setup = Self::default();
        for process in 0..processes {
            let who = memory::identity(process);
            let fields = [
                3,
                who.pid.into(),
                who.start,
                who.pid_namespace,
                who.time_namespace,
                who.boot,
            ];
            let row = process * ROW;
            setup.words.extend(
                fields
                    .into_iter()
                    .enumerate()
                    .map(|(n, value)| (row + 8 * n, value)),
            );
            setup
                .locks
                .push((LockByte::Life(process as u16 + 1), process));
        }
        setup
    }
}

/// When a sleep may end without a wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timeouts {
    /// Never: a lost wake-up is a sleep without end.
    #[default]
    Never,
    /// When nothing else can happen, and then for all sleepers: slices are short, and none is left out for ever.
    WhenStuck,
    /// At any time.
    Always,
}

/// Bounds of a case.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of memory.
    pub len: usize,
    /// How many processes may be killed.
    pub kills: u8,
    /// Whether a kill may leave a forked child that keeps the life bytes for ever.
    pub strays: bool,
    /// Whether such a child keeps recovery bytes too, and not only life bytes.
    pub strays_keep_recovery: bool,
    /// Whether `is_gone` learns of a death, at some moment after it.
    pub gone: bool,
    /// How many processes may be frozen.
    pub freezes: u8,
    /// When sleeps end by themselves.
    pub timeouts: Timeouts,
    /// Whether the machine has `membarrier`.
    pub fences: bool,
    /// Where to give up; a report that was cut short is no proof.
    pub max_states: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            len: 4096,
            kills: 0,
            strays: false,
            strays_keep_recovery: false,
            gone: true,
            freezes: 0,
            timeouts: Timeouts::Never,
            fences: false,
            max_states: 100_000_000,
        }
    }
}

/// A state, as properties see it.
pub struct View<'v, C: Case> {
    machine: &'v Machine<'v, C>,
    state: &'v [u64],
}

impl<C: Case> Clone for View<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Case> Copy for View<'_, C> {}

impl<'v, C: Case> View<'v, C> {
    /// The 64-bit word at `at`.
    pub fn word64(&self, at: usize) -> u64 {
        self.machine.memory(self.state, at)
    }

    /// The 32-bit word at `at`.
    pub fn word32(&self, at: usize) -> u32 {
        (self.machine.memory(self.state, at) >> (8 * (at % 8))) as u32
    }

    /// The process that holds a lock byte.
    pub fn holder(&self, byte: LockByte) -> Option<usize> {
        self.machine.holder(self.state, byte)
    }

    /// What the actor kept when its current operation began.
    pub fn local(&self, actor: usize) -> &'v C::Local {
        self.machine
            .actors
            .local(Machine::<C>::node(self.state, actor))
    }

    /// Whether the actor stands between two operations.
    pub fn at_start(&self, actor: usize) -> bool {
        self.machine
            .actors
            .at_start(Machine::<C>::node(self.state, actor))
    }

    /// Whether the actor idles for good.
    pub fn is_idle(&self, actor: usize) -> bool {
        matches!(
            self.machine
                .actors
                .next(Machine::<C>::node(self.state, actor)),
            actors::Next::Idle
        )
    }

    /// Whether the actor sleeps.
    pub fn is_asleep(&self, actor: usize) -> bool {
        Machine::<C>::is_asleep(self.state, actor)
    }

    /// Whether the process was killed.
    pub fn is_dead(&self, process: usize) -> bool {
        Machine::<C>::flags(self.state, process) & flag::DEAD != 0
    }

    /// Whether the kernel has freed what a dead process held.
    pub fn is_released(&self, process: usize) -> bool {
        Machine::<C>::flags(self.state, process) & flag::RELEASED != 0
    }

    /// Whether the process was frozen.
    pub fn is_frozen(&self, process: usize) -> bool {
        Machine::<C>::flags(self.state, process) & flag::FROZEN != 0
    }

    /// The number of processes.
    pub fn processes(&self) -> usize {
        self.machine.process_count()
    }

    /// The number of actors.
    pub fn actors(&self) -> usize {
        self.machine.processes.len()
    }

    /// The process of an actor.
    pub fn process_of(&self, actor: usize) -> usize {
        self.machine.processes[actor]
    }

    /// Whether every actor idles, is dead, or is frozen.
    pub fn all_done(&self) -> bool {
        (0..self.actors()).all(|actor| {
            let process = self.process_of(actor);
            self.is_idle(actor) || self.is_dead(process) || self.is_frozen(process)
        })
    }

    /// What the judge remembers.
    pub fn ghost(&self) -> &'v C::Ghost {
        self.machine.ghost(self.state)
    }
}

/// A step, as the judge sees it.
pub struct Step<'v, C: Case> {
    /// Who stepped; `None` for what fate and the kernel do.
    pub actor: Option<usize>,
    /// The process it happened in.
    pub process: usize,
    /// What happened.
    pub what: What,
    /// The eight bytes from the place accessed to the end of its cell, as they were.
    pub before: u64,
    /// The state before.
    pub from: View<'v, C>,
    /// The state after, but for the ghost.
    pub to: View<'v, C>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An access and its reply.
    Access {
        /// What was asked.
        access: Access,
        /// What was told.
        reply: Reply,
        /// Whether the operation returned with it.
        returned: bool,
    },
    /// The actor found its word as expected, and sleeps.
    FallsAsleep,
    /// The sleep ended without a wake-up.
    Timeout,
    /// The process was killed.
    Killed {
        /// A forked child keeps its lock bytes.
        stray: bool,
    },
    /// The process was stopped for good.
    Frozen,
    /// The kernel freed its lock bytes.
    Released,
    /// Its end became visible.
    Gone,
}

impl What {
    /// The word and its new value, if the step is a store or an exchange that took place.
    pub fn stored(&self) -> Option<(usize, u64)> {
        match *self {
            Self::Access {
                access: Access::Store { at, value, .. },
                ..
            } => Some((at, value)),
            Self::Access {
                access: Access::Exchange { at, new, .. },
                reply,
                ..
            } if reply.yes => Some((at, new)),
            _ => None,
        }
    }

    /// Whether an operation returned with this step.
    pub fn returned(&self) -> bool {
        matches!(self, Self::Access { returned: true, .. })
    }
}

/// Values by number, each once.
struct Interner<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn put(&mut self, value: T) -> u32 {
        if let Some(&number) = self.numbers.get(&value) {
            return number;
        }
        let number = u32::try_from(self.values.len()).expect("fewer than 2^32 values");
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}
