//! Waiting: poll for a while, then sleep on an event, or on several.

use std::time::Duration;

use super::{Event, Prepared, Slices, Watch, budget};
use crate::memory::Memory;

/// How to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Poll and never sleep. Lowest latency; takes a whole CPU.
    Spin,
    /// Poll for about as long as a wake-up costs here, which is measured, then sleep. Sleeps at once where the machine has
    /// only one CPU.
    #[default]
    Adaptive,
    /// Sleep at once.
    Block,
}

impl Wait {
    /// Whether to poll at all before a sleep.
    pub fn polls(self) -> bool {
        !self.budget().is_zero()
    }

    pub(crate) fn budget(self) -> Duration {
        match self {
            Self::Spin => Duration::MAX,
            Self::Adaptive => budget::spin(),
            Self::Block => Duration::ZERO,
        }
    }
}

/// What a wait came to.
#[derive(Clone, Copy, Debug)]
pub struct Waited<T> {
    /// What was waited for; nothing if the deadline came first.
    pub got: Option<T>,
    /// Whether it took a sleep.
    pub slept: bool,
}

/// Repeats `attempt` until it gives something, waiting on `event` in between as `wait` says.
///
/// Gives nothing when `deadline`, in the time of [`Memory::now`], has come; `attempt` is made at least once. As often as
/// [`Slices`] says, and before it gives up, `look_around` is called, to find out whether whoever is waited for still lives; an
/// error from either ends the wait.
///
/// # Errors
///
/// The first error of `attempt` or of `look_around`. That the deadline has come is none: nothing was got then.
pub fn wait_until<M: Memory, T, E>(
    event: &Event<M>,
    wait: Wait,
    deadline: Option<Duration>,
    attempt: impl FnMut() -> Result<Option<T>, E>,
    look_around: impl FnMut() -> Result<(), E>,
) -> Result<Waited<T>, E> {
    wait_any(&[event], wait, deadline, attempt, look_around)
}

/// As [`wait_until`], on several events at once: whatever may make `attempt` succeed.
///
/// The events may lie in different segments. Where the kernel cannot wait for several words (before 5.16), and for
/// every event after the 128th, sleeps last a millisecond at most.
///
/// # Errors
///
/// The first error of `attempt` or of `look_around`. That the deadline has come is none: nothing was got then.
///
/// # Panics
///
/// If there is no event.
pub fn wait_any<M: Memory, T, E>(
    events: &[&Event<M>],
    wait: Wait,
    deadline: Option<Duration>,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
    mut look_around: impl FnMut() -> Result<(), E>,
) -> Result<Waited<T>, E> {
    /// Polls between two looks at the clock, which costs about as much as one of them.
    const POLLS: u32 = 32;
    let memory = events[0].memory();
    let start = memory.now();
    let budget = wait.budget();
    let (mut slices, mut watch) = (Slices::new(start), Watch::new());
    let mut slept = false;
    let done = |got, slept| Waited { got, slept };
    let memories = || events.iter().map(|event| event.memory());
    loop {
        let polls = if budget.is_zero() || slept { 1 } else { POLLS };
        for _ in 0..polls {
            if let Some(got) = attempt()? {
                return Ok(done(Some(got), slept));
            }
            memory.pause();
        }
        let mut now = memory.now();
        if now.saturating_sub(start) >= budget && deadline.is_none_or(|deadline| now < deadline) {
            let mut prepared = Announced::new(events);
            if let Some(got) = attempt()? {
                return Ok(done(Some(got), slept));
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(now));
            prepared.sleep(&watch, left.min(slices.left(now)));
            slept = true;
            if let Some(got) = attempt()? {
                return Ok(done(Some(got), slept));
            }
            now = memory.now();
        }
        let over = deadline.is_some_and(|deadline| now >= deadline);
        if over || slices.left(now).is_zero() || watch.is_over() || watch.has_dead() {
            // Before the look: whoever died earlier is found by that.
            let asks = || slept && !over && slices.asks_for_a_vigil(now);
            let watched = watch.go_on(asks, memories());
            look_around()?;
            slices.looked(now, watched);
        }
        if over {
            return Ok(done(None, slept));
        }
    }
}

/// Announced sleeps. One is the common case, and allocates nothing.
enum Announced<'e, M> {
    One(&'e Event<M>, Prepared),
    Several(Vec<(&'e Event<M>, Prepared)>),
}

impl<'e, M: Memory> Announced<'e, M> {
    fn new(events: &[&'e Event<M>]) -> Self {
        match *events {
            [event] => Self::One(event, event.prepare()),
            ref several => Self::Several(
                several
                    .iter()
                    .map(|event| (*event, event.prepare()))
                    .collect(),
            ),
        }
    }

    fn sleep(&mut self, watch: &Watch<M>, timeout: Duration) {
        match self {
            Self::One(event, prepared) if !watch.is_kept() => event.sleep(*prepared, timeout),
            Self::One(event, prepared) => Event::sleep_any(&[(*event, *prepared)], watch, timeout),
            Self::Several(several) => Event::sleep_any(several, watch, timeout),
        }
    }
}
