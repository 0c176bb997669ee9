//! Something that is done once: those who do it die anywhere, and others wait for them.
//!
//! What must hold: one at a time does it, nobody does it again once it is done, nobody goes on before it is done, and
//! nobody waits for the dead.

use std::sync::atomic::Ordering::Relaxed;

use ipc_core::event::Wait;
use ipc_core::memory::Area;
use ipc_core::sync::lock::{Entry as Begin, Leave, Lock, Refused, Taken};

use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View, What};
use super::Entry;
use super::sync::{id, if_gone};

const DONE: usize = 8;

/// Processes that all want something done.
pub struct OnceCase {
    callers: usize,
    options: Options,
}

/// Where a caller stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// To call.
    Outside,
    /// Does it, and whether it was told that somebody died while he did.
    Inside(bool),
    /// Has done it.
    Leaving,
    /// It is done.
    Over,
}

/// Whether somebody died while he did it, and nobody has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    untold: bool,
    again: bool,
}

impl Case for OnceCase {
    type Local = Caller;
    type Ghost = Ghost;

    const SIGHTS: &'static [&'static str] = &["a caller asleep", "done again after a death"];

    fn options(&self) -> Options {
        Options {
            len: 16,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Caller>> {
        let caller = |process| Actor::new(format!("caller {process}"), process, Caller::Outside);
        (0..self.callers).map(caller).collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Caller) -> Option<Caller> {
        let area = Area::new(memory.clone(), 0, 16).expect("fits");
        let lock = Lock::new(&area, 0).expect("fits");
        let me = id(actor);
        Some(match local {
            Caller::Over => return None,
            // As `Once::call`.
            Caller::Outside if lock.is_ended() => Caller::Over,
            Caller::Outside => {
                let recover = |dead| if_gone(memory, dead, || lock.recover(dead));
                match lock.lock(me, Begin::AtOnce, Wait::Block, None, recover) {
                    Ok(taken) => Caller::Inside(taken == Taken::OwnerDied),
                    Err(Refused::Ended) => Caller::Over,
                    Err(refused) => panic!("refused by {refused:?}"),
                }
            }
            Caller::Inside(_) => {
                area.word64(DONE).expect("fits").store(1, Relaxed);
                Caller::Leaving
            }
            Caller::Leaving => {
                lock.unlock(me, Leave::Ended);
                Caller::Over
            }
        })
    }

    fn watch(&self, step: &Step<'_, Self>, ghost: &mut Ghost) -> Result<(), String> {
        if let What::Killed { .. } = step.what {
            ghost.untold |= matches!(step.from.local(step.process), Caller::Inside(_));
        }
        if let (Some(actor), true) = (step.actor, step.what.returned()) {
            match *step.to.local(actor) {
                Caller::Inside(told) => {
                    if ghost.untold && !told {
                        return Err("a death in the middle of it was not told".into());
                    }
                    ghost.again |= told;
                    ghost.untold = false;
                }
                Caller::Over if step.to.word64(DONE) == 0 => {
                    return Err("somebody goes on, and it is not done".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let live = |actor: &usize| !view.is_dead(*actor);
        let locals = || {
            (0..view.actors())
                .filter(live)
                .map(|actor| *view.local(actor))
        };
        let inside = locals()
            .filter(|local| matches!(local, Caller::Inside(_)))
            .count();
        let over = (0..view.actors()).any(|actor| *view.local(actor) == Caller::Over);
        match inside {
            0 => Ok(()),
            1 if !over => Ok(()),
            1 => Err("it is done again".into()),
            count => Err(format!("{count} do it at a time")),
        }
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        view.all_done()
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let asleep = (0..view.actors()).any(|actor| view.is_asleep(actor));
        let again = self.options.kills == 0 || view.ghost().again;
        u32::from(asleep) | u32::from(again) << 1
    }

    fn name_of(&self, at: usize) -> String {
        if at == DONE { "done" } else { "lock" }.into()
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let case = |callers, kills, timeouts| OnceCase {
        callers,
        options: Options {
            kills,
            timeouts,
            ..Options::default()
        },
    };
    vec![
        Entry::quick(
            "once/three callers, no timeouts",
            case(3, 0, Timeouts::Never),
        ),
        Entry::quick(
            "once/two callers, one kill",
            case(2, 1, Timeouts::WhenStuck),
        ),
        Entry::long(
            "once/three callers, one kill",
            case(3, 1, Timeouts::WhenStuck),
        ),
        Entry::long(
            "once/three callers, two kills",
            case(3, 2, Timeouts::WhenStuck),
        ),
    ]
}
