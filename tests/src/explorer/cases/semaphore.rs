//! Semaphores: holders of permits that die anywhere, and those who wait for one.
//!
//! What must hold: a permit has one holder, it is never taken from the living, and nobody is left asleep beside a free one.

use std::sync::atomic::Ordering::Relaxed;

use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::memory::Area;
use ipc_core::sync::Permits;

use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View};
use super::Entry;
use super::sync::{id, if_gone};

/// Offsets of the event and of the permits, and of a word to touch.
const FREED: usize = 0;
const TOUCHED: usize = 8;
const HOLDERS: usize = 128;

/// Processes that want the permits of one semaphore.
pub struct SemaphoreCase {
    permits: usize,
    /// How often each takes one.
    takers: Vec<u8>,
    /// Whether somebody clears up after the dead who wants no permit, as whoever joins may.
    recoverer: bool,
    options: Options,
}

/// Where a taker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taker {
    /// To take a permit so often.
    Outside(u8),
    /// Has that permit.
    Inside(u8, usize),
    /// Gives it back.
    Leaving(u8, usize),
    /// Clears up for ever.
    Recoverer,
}

/// Whether a permit of the dead has come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered(bool);

impl Case for SemaphoreCase {
    type Local = Taker;
    type Ghost = Recovered;

    const SIGHTS: &'static [&'static str] = &["a taker asleep", "a permit of the dead came back"];

    fn options(&self) -> Options {
        Options {
            len: HOLDERS + 4 * self.permits,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Taker>> {
        let taker = |(process, times): (usize, &u8)| {
            Actor::new(format!("taker {process}"), process, Taker::Outside(*times))
        };
        let takers = self.takers.iter().enumerate().map(taker);
        let process = self.takers.len();
        let recoverer = Actor::new("recoverer", process, Taker::Recoverer);
        takers.chain(self.recoverer.then_some(recoverer)).collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Taker) -> Option<Taker> {
        let area = Area::new(memory.clone(), 0, self.options().len).expect("fits");
        let permits = Permits::new(&area, self.permits).expect("fits");
        let me = id(actor);
        let recover = || {
            let holders = permits.holders().into_iter();
            holders
                .filter(|holder| *holder != me)
                .for_each(|holder| if_gone(memory, holder, || permits.recover(holder)));
        };
        Some(match *local {
            Taker::Outside(0) => return None,
            Taker::Outside(times) => {
                // As `Semaphore::acquire`.
                let attempt = || Ok::<_, ()>(permits.try_acquire(me));
                let look_around = || {
                    recover();
                    Ok(())
                };
                let freed = Event::new(&area, FREED, Waiters::Many).expect("fits");
                let waited = wait_until(&freed, Wait::Block, None, attempt, look_around);
                let got = waited.ok().and_then(|waited| waited.got);
                Taker::Inside(times - 1, got.expect("no deadline"))
            }
            Taker::Inside(times, index) => {
                // A step inside, so that there is a moment to die in.
                area.word64(TOUCHED).expect("fits").store(1, Relaxed);
                Taker::Leaving(times, index)
            }
            Taker::Leaving(times, index) => {
                permits.release(me, index);
                Taker::Outside(times)
            }
            Taker::Recoverer => {
                recover();
                Taker::Recoverer
            }
        })
    }

    fn watch(&self, step: &Step<'_, Self>, recovered: &mut Recovered) -> Result<(), String> {
        let Some((at, new)) = step.what.stored().filter(|(at, _)| *at >= HOLDERS) else {
            return Ok(());
        };
        let me = step.process as u64 + 1;
        match (u64::from(step.before as u32), new) {
            (0, new) if new == me => {}
            (old, 0) if old == me => {}
            (old, 0) if old != 0 && step.from.is_dead(old as usize - 1) => recovered.0 = true,
            (old, new) => return Err(format!("the permit at {at} went from {old} to {new}")),
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let mut taken = vec![None; self.permits];
        for actor in (0..view.actors()).filter(|&actor| !view.is_dead(view.process_of(actor))) {
            if let Taker::Inside(_, index) = *view.local(actor)
                && let Some(other) = taken[index].replace(actor)
            {
                return Err(format!(
                    "takers {other} and {actor} both have permit {index}"
                ));
            }
        }
        Ok(())
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        // What the dead hold, nobody may need.
        let free = |index: usize| match view.word32(HOLDERS + 4 * index) {
            0 => true,
            holder => view.is_dead(holder as usize - 1),
        };
        // Whoever clears up has no end.
        let done = (0..self.takers.len()).all(|actor| view.is_idle(actor) || view.is_dead(actor));
        done && (0..self.permits).all(free)
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let asleep = self.takers.len() <= self.permits
            || (0..view.actors()).any(|actor| view.is_asleep(actor));
        let recovered = self.options.kills == 0 || view.ghost().0;
        u32::from(asleep) | u32::from(recovered) << 1
    }

    fn name_of(&self, at: usize) -> String {
        match at {
            FREED => "freed".into(),
            TOUCHED => "inside".into(),
            at => format!("permit {}", (at - HOLDERS) / 4),
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |permits, takers: &[u8], kills, timeouts| SemaphoreCase {
        permits,
        takers: takers.to_vec(),
        recoverer: takers.len() <= permits,
        options: Options {
            kills,
            timeouts,
            ..Options::default()
        },
    };
    vec![
        Entry::quick(
            "semaphore/one permit, two takers, no timeouts",
            case(1, &[2, 2], 0, Timeouts::Never),
        ),
        Entry::quick(
            "semaphore/two permits, three takers, no timeouts",
            case(2, &[1, 1, 1], 0, Timeouts::Never),
        ),
        Entry::quick(
            "semaphore/one permit, two takers, one kill",
            case(1, &[2, 1], 1, Timeouts::WhenStuck),
        ),
        Entry::quick(
            "semaphore/two permits, two takers and a recoverer, one kill",
            case(2, &[2, 2], 1, Timeouts::WhenStuck),
        ),
        Entry::long(
            "semaphore/one permit, three takers, one kill",
            case(1, &[1, 1, 1], 1, Timeouts::WhenStuck),
        ),
        Entry::long(
            "semaphore/two permits, three takers, two kills",
            case(2, &[1, 1, 1], 2, Timeouts::WhenStuck),
        ),
    ]
}
