//! The search: breadth first through all states, then backwards from the good ones.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::Case;
use super::machine::{Action, EVERYBODY, Machine};

/// What an exploration found.
#[derive(Debug)]
pub struct Report {
    /// States visited.
    pub states: usize,
    /// Steps taken between them.
    pub steps: u64,
    /// Places in operations: how often the code itself was run.
    pub places: usize,
    /// How long it took.
    pub time: Duration,
    /// The first violation, if there is one.
    pub violation: Option<Violation>,
    /// Whether the bound on states cut it short, so that it proves nothing.
    pub cut: bool,
    /// Sights that no state showed.
    pub unseen: Vec<&'static str>,
}

/// A rule that was broken, and how.
#[derive(Debug)]
pub struct Violation {
    /// Which rule.
    pub what: String,
    /// The shortest run to it, one line for each step.
    pub trace: Vec<String>,
}

impl Report {
    /// Whether everything was explored, no rule was broken, and all sights were seen.
    pub fn is_proof(&self) -> bool {
        self.violation.is_none() && !self.cut && self.unseen.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        let rate = self.steps as f64 / seconds.max(1e-9) / 1e6;
        let Self {
            states,
            steps,
            places,
            ..
        } = self;
        write!(
            f,
            "{states} states, {steps} steps, {places} places, {seconds:.1} s, {rate:.2} M steps/s"
        )?;
        if self.cut {
            write!(f, "; CUT SHORT, no proof")?;
        }
        if !self.unseen.is_empty() {
            write!(f, "; NEVER SEEN: {}", self.unseen.join(", "))?;
        }
        if let Some(violation) = &self.violation {
            write!(f, "; VIOLATION: {}", violation.what)?;
            for line in &violation.trace {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

/// No state: the parent of the first one.
const NONE: u32 = u32::MAX;

/// Explores all of `case`. `progress` is told now and then how many states there are and how many wait.
pub fn explore<C: Case>(case: &C, mut progress: impl FnMut(usize, usize)) -> Report {
    let start = Instant::now();
    let mut search = Search::new(case);
    let found = search.forward(&mut progress);
    let violation = match found {
        Err((state, action, what)) => Some((state, action, what)),
        Ok(()) if search.cut => None,
        Ok(()) => search
            .backward()
            .map(|state| (state, None, "no good state can be reached any more".into())),
    };
    let all: Vec<_> = C::SIGHTS.iter().enumerate().collect();
    let unseen = if violation.is_some() { vec![] } else { all }
        .into_iter()
        .filter(|(bit, _)| search.sights >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    Report {
        states: search.seen.keys.len(),
        steps: search.steps,
        cut: search.cut,
        unseen,
        violation: violation.map(|(state, action, what)| Violation {
            trace: search.trace(state, action),
            what,
        }),
        places: search.machine.actors.len(),
        time: start.elapsed(),
    }
}

struct Search<'c, C: Case> {
    machine: Machine<'c, C>,
    seen: Seen,
    /// The state from which each was reached first, and how.
    origins: Vec<(u32, u32)>,
    /// States waiting to be expanded, with their words. They are expanded in the order of their numbers.
    queue: VecDeque<Box<[u64]>>,
    /// Successors of each state, but for those of fate; `bounds[n]` is where those of state n begin.
    successors: Vec<u32>,
    bounds: Vec<usize>,
    good: Vec<u32>,
    sights: u32,
    steps: u64,
    cut: bool,
}

/// The state before the offence, the offending step (none if the state itself offends), and the rule.
type Offence = (u32, Option<Action>, String);

impl<'c, C: Case> Search<'c, C> {
    fn new(case: &'c C) -> Self {
        Self {
            machine: Machine::new(case),
            seen: Seen::default(),
            origins: Vec::new(),
            queue: VecDeque::new(),
            successors: Vec::new(),
            bounds: Vec::new(),
            good: Vec::new(),
            sights: 0,
            steps: 0,
            cut: false,
        }
    }

    fn forward(&mut self, progress: &mut impl FnMut(usize, usize)) -> Result<(), Offence> {
        let initial = self.machine.initial();
        self.enter(&initial, NONE, 0)?;
        let mut actions = Vec::new();
        let mut next = Vec::new();
        let mut number = 0u32;
        while let Some(state) = self.queue.pop_front() {
            self.bounds.push(self.successors.len());
            if number.is_multiple_of(1 << 18) {
                progress(self.seen.keys.len(), self.queue.len());
            }
            if self.seen.keys.len() >= self.machine.options.max_states {
                self.cut = true;
                return Ok(());
            }
            self.machine.actions(&state, &mut actions);
            for &action in &actions {
                self.steps += 1;
                if let Err(what) = self.machine.apply(&state, action, &mut next) {
                    return Err((number, Some(action), what));
                }
                let successor = self.enter(&next, number, action.pack())?;
                if !action.is_fate() {
                    self.successors.push(successor);
                }
            }
            number += 1;
        }
        self.bounds.push(self.successors.len());
        Ok(())
    }

    /// The number of a state, which is judged if it is new.
    fn enter(&mut self, state: &[u64], origin: u32, action: u32) -> Result<u32, Offence> {
        let (number, new) = self.seen.put(hash(state));
        if new {
            self.origins.push((origin, action));
            let view = self.machine.view(state);
            self.machine
                .case
                .check(&view)
                .map_err(|what| (number, None, what))?;
            self.sights |= self.machine.case.sights(&view);
            if self.machine.case.good(&view) {
                self.good.push(number);
            }
            self.queue.push_back(state.into());
        }
        Ok(number)
    }

    /// The first state from which no good one can be reached.
    fn backward(&self) -> Option<u32> {
        let count = self.seen.keys.len();
        // Predecessors, in the same form as successors.
        let mut bounds = vec![0usize; count + 1];
        for &successor in &self.successors {
            bounds[successor as usize + 1] += 1;
        }
        for n in 0..count {
            bounds[n + 1] += bounds[n];
        }
        let mut predecessors = vec![0u32; self.successors.len()];
        let mut fill = bounds.clone();
        for state in 0..count {
            for &successor in &self.successors[self.bounds[state]..self.bounds[state + 1]] {
                predecessors[fill[successor as usize]] = state as u32;
                fill[successor as usize] += 1;
            }
        }
        let mut reaches = vec![false; count];
        let mut open = self.good.clone();
        for &state in &open {
            reaches[state as usize] = true;
        }
        while let Some(state) = open.pop() {
            for &before in &predecessors[bounds[state as usize]..bounds[state as usize + 1]] {
                if !std::mem::replace(&mut reaches[before as usize], true) {
                    open.push(before);
                }
            }
        }
        reaches
            .iter()
            .position(|reaches| !reaches)
            .map(|state| state as u32)
    }

    /// The run that led to `state`, and the step after it.
    fn trace(&mut self, state: u32, last: Option<Action>) -> Vec<String> {
        let mut actions: Vec<Action> = last.into_iter().collect();
        let mut at = state;
        while let (origin, action) = self.origins[at as usize]
            && origin != NONE
        {
            actions.push(Action::unpack(action));
            at = origin;
        }
        actions.reverse();
        let mut lines = Vec::new();
        let mut state = self.machine.initial();
        let mut next = Vec::new();
        for action in actions {
            let verdict = self.machine.apply(&state, action, &mut next);
            lines.push(self.line(&state, &next, action, verdict.is_err()));
            std::mem::swap(&mut state, &mut next);
        }
        lines.extend(self.ends(&state));
        lines
    }

    /// One step of a trace.
    fn line(&self, from: &[u64], to: &[u64], action: Action, offends: bool) -> String {
        let mark = if offends { "  <-- here" } else { "" };
        let name = |actor: u8| &self.machine.names[usize::from(actor)];
        match action {
            Action::Run { actor, woken } => {
                let node = Machine::<C>::node(from, actor.into());
                let access = match self.machine.actors.next(node) {
                    super::actors::Next::Access(access) => *access,
                    other => return format!("{:<12} {other:?}{mark}", name(actor)),
                };
                let place = access
                    .at()
                    .map_or(String::new(), |at| self.machine.case.name_of(at));
                let reply = self
                    .machine
                    .actors
                    .reply(node, Machine::<C>::node(to, actor.into()));
                let told = match (access, Machine::<C>::is_asleep(to, actor.into()), reply) {
                    (_, true, _) => "asleep".to_owned(),
                    (_, _, Some(reply)) if reply == super::Reply::DONE => String::new(),
                    (_, _, Some(reply)) => format!("-> {:#x} {}", reply.value, reply.yes),
                    (_, _, None) => {
                        format!(
                            "-> returns; keeps {:?}",
                            self.machine
                                .actors
                                .local(Machine::<C>::node(to, actor.into()))
                        )
                    }
                };
                let found = if woken == 0 {
                    String::new()
                } else {
                    format!(" finding actors {woken:#b}")
                };
                format!(
                    "{:<12} {place:<20} {access}{found} {told}{mark}",
                    name(actor)
                )
            }
            Action::Timeout { actor: EVERYBODY } => {
                format!("every sleep ends by its timeout{mark}")
            }
            Action::Timeout { actor } => {
                format!("{:<12} the sleep ends by its timeout{mark}", name(actor))
            }
            Action::Kill { process, stray } => {
                let child = if stray {
                    "; a forked child keeps its lock bytes"
                } else {
                    ""
                };
                format!("process {process} is killed{child}{mark}")
            }
            Action::Freeze { process } => format!("process {process} is stopped for good{mark}"),
            Action::Release { process } => {
                format!("process {process}: the kernel frees its lock bytes{mark}")
            }
            Action::Gone { process } => format!("process {process}: its end becomes visible{mark}"),
        }
    }

    /// Where everybody stands at the end of a trace.
    fn ends(&self, state: &[u64]) -> Vec<String> {
        let view = self.machine.view(state);
        let mut lines = vec![format!("judge: {:?}", view.ghost())];
        for actor in 0..view.actors() {
            let process = view.process_of(actor);
            let how = match () {
                () if view.is_dead(process) => "dead",
                () if view.is_frozen(process) => "stopped",
                () if view.is_asleep(actor) => "asleep",
                () if view.is_idle(actor) => "idle",
                () => "running",
            };
            lines.push(format!(
                "{}: {how}, keeps {:?}",
                self.machine.names[actor],
                view.local(actor)
            ));
        }
        lines
    }
}

/// The hashes of all states by number, and a table to find them in.
#[derive(Default)]
struct Seen {
    keys: Vec<u128>,
    /// Number of a state plus one, at the first free place from its hash on; 0 is free. At most half full.
    table: Vec<u32>,
}

impl Seen {
    /// The number of the state with this hash, and whether it is new.
    fn put(&mut self, key: u128) -> (u32, bool) {
        if self.table.len() < 2 * (self.keys.len() + 1) {
            self.grow();
        }
        let place = self.find(key);
        match self.table[place].checked_sub(1) {
            Some(number) => (number, false),
            None => {
                let number = self.keys.len() as u32;
                assert!(number < NONE - 1, "fewer than 2^32 states");
                self.keys.push(key);
                self.table[place] = number + 1;
                (number, true)
            }
        }
    }

    /// Where `key` is, or would be.
    fn find(&self, key: u128) -> usize {
        let mask = self.table.len() - 1;
        let mut place = key as usize & mask;
        while let Some(number) = self.table[place].checked_sub(1)
            && self.keys[number as usize] != key
        {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 4).max(1 << 12);
        self.table.clear();
        self.table.resize(size, 0);
        for number in 0..self.keys.len() {
            let place = self.find(self.keys[number]);
            self.table[place] = number as u32 + 1;
        }
    }
}

/// A 128-bit hash of a state: for each word an exclusive or, a product by an odd constant, and a shift, each of which
/// can be undone, so that only two differences that cancel out can collide.
fn hash(state: &[u64]) -> u128 {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let mut hash = ODD ^ state.len() as u128;
    for &word in state {
        hash = (hash ^ u128::from(word)).wrapping_mul(ODD);
        hash ^= hash >> 59;
    }
    hash = hash.wrapping_mul(ODD);
    hash ^ hash >> 67
}
