//! Locks and registers: holders and writers that die anywhere, and those who come after them.
//!
//! What must hold of a lock: it is never held twice, nobody is left asleep beside a free one, and whoever comes after a
//! death in the middle of things is told; but not if the lock had been handed over to the dead one, who had not begun. Of a register: a value is never torn, never older than one seen before, and
//! never hidden by a death.

use std::time::Duration;

use ipc_core::event::Wait;
use ipc_core::memory::{Area, Memory};
use ipc_core::participant::ParticipantId;
use ipc_core::sync::Register;
use ipc_core::sync::lock::{Entry as Begin, Leave, Lock, Refused, Taken};

use super::super::memory::identity;
use super::super::{Actor, Case, Explored, Options, Step, Timeouts, View, What};
use super::Entry;

/// The participant that a process is.
pub(super) fn id(process: usize) -> ParticipantId {
    ParticipantId::new(process as u64 + 1).expect("a number")
}

/// Calls `clear` for a participant whose process is gone.
pub(super) fn if_gone(memory: &Explored, who: ParticipantId, clear: impl FnOnce()) {
    if memory.is_gone(&identity(usize::from(who.get()) - 1)) {
        clear();
    }
}

/// Processes that want one lock.
pub struct LockCase {
    /// How often each takes it.
    lockers: Vec<u8>,
    /// How long each waits for it, and then goes without.
    patience: Option<Duration>,
    options: Options,
}

/// Where a locker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locker {
    /// To take the lock so often.
    Outside(u8),
    /// Has it, and whether it was told of a death.
    Inside(u8, bool),
    /// Lets go of it.
    Leaving(u8),
}

/// What there is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deaths {
    /// Somebody died inside, and nobody has been told.
    untold: bool,
    /// The participant that the lock was handed over to, and that has not begun.
    handed: u64,
    /// Such a one died: there is nothing to be told.
    in_vain: bool,
}

impl Case for LockCase {
    type Local = Locker;
    type Ghost = Deaths;

    const SIGHTS: &'static [&'static str] = &[
        "a locker asleep",
        "a death of one that the lock was handed over to",
    ];

    fn options(&self) -> Options {
        Options {
            len: 16,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Locker>> {
        let locker = |(process, times): (usize, &u8)| {
            Actor::new(
                format!("locker {process}"),
                process,
                Locker::Outside(*times),
            )
        };
        self.lockers.iter().enumerate().map(locker).collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Locker) -> Option<Locker> {
        let area = Area::new(memory.clone(), 0, 16).expect("fits");
        let lock = Lock::new(&area, 0).expect("fits");
        let me = id(actor);
        Some(match *local {
            Locker::Outside(0) => return None,
            Locker::Outside(times) => {
                let recover = |dead| if_gone(memory, dead, || lock.recover(dead));
                let deadline = self.patience.map(|patience| memory.now() + patience);
                match lock.lock(me, Begin::AtOnce, Wait::Block, deadline, recover) {
                    Ok(taken) => Locker::Inside(times - 1, taken == Taken::OwnerDied),
                    Err(Refused::TimedOut) if deadline.is_some() => Locker::Outside(times - 1),
                    Err(other) => panic!("nobody ends it: {other:?}"),
                }
            }
            Locker::Inside(times, died) => {
                // A step inside, so that there is a moment to die in.
                area.word64(8)
                    .expect("fits")
                    .store(1, std::sync::atomic::Ordering::Relaxed);
                if died {
                    lock.mark_consistent();
                }
                Locker::Leaving(times)
            }
            Locker::Leaving(times) => {
                lock.unlock(me, Leave::Free);
                Locker::Outside(times)
            }
        })
    }

    fn watch(&self, step: &Step<'_, Self>, deaths: &mut Deaths) -> Result<(), String> {
        let holder = |view: &View<'_, Self>| u64::from(view.word32(0) & 0x3fff);
        let (before, after) = (holder(&step.from), holder(&step.to));
        if before != 0 && after != 0 && before != after {
            deaths.handed = after;
        } else if deaths.handed == step.process as u64 + 1 {
            deaths.in_vain |= matches!(step.what, What::Killed { .. });
            // It begins with a change of the word, or because there is nothing to change.
            if step.what.returned() || step.from.word32(0) != step.to.word32(0) || deaths.in_vain {
                deaths.handed = 0;
            }
        }
        if let What::Killed { .. } = step.what {
            let inside = |actor: &usize| {
                matches!(step.from.local(*actor), Locker::Inside(_, false))
                    && step.from.process_of(*actor) == step.process
            };
            deaths.untold |= (0..step.from.actors()).any(|actor| inside(&actor));
        }
        if let (Some(actor), true) = (step.actor, step.what.returned())
            && let Locker::Inside(_, told) = *step.to.local(actor)
        {
            if deaths.untold && !told {
                return Err("a death inside was not told".into());
            }
            if deaths.in_vain && !deaths.untold && told {
                return Err("a death was told of one who had not begun".into());
            }
            (deaths.untold, deaths.in_vain) = (false, false);
        }
        Ok(())
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        let inside = |actor: &usize| {
            !view.is_dead(view.process_of(*actor))
                && matches!(view.local(*actor), Locker::Inside(..))
        };
        match (0..view.actors()).filter(inside).count() {
            0 | 1 => Ok(()),
            count => Err(format!("{count} hold the lock at a time")),
        }
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        view.all_done()
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        let asleep = (0..view.actors()).any(|actor| view.is_asleep(actor));
        // Nobody is handed the lock where sleeps only end when nothing else can happen.
        let in_vain = view.ghost().in_vain || self.patience.is_none();
        u32::from(asleep) | u32::from(in_vain) << 1
    }

    fn name_of(&self, at: usize) -> String {
        if at == 0 {
            "lock".into()
        } else {
            "inside".into()
        }
    }
}

/// Writers and readers of one register, of values of two words.
pub struct LatestCase {
    /// Values that each writer sets.
    writers: Vec<u8>,
    /// How often the reader reads.
    reads: u8,
    options: Options,
}

/// Where an actor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// To set so many values.
    Write(u8),
    /// To read so often; the last version seen, and what was wrong with it.
    Read(u8, u64, Option<&'static str>),
}

const SIZE: usize = 16;

impl Case for LatestCase {
    type Local = Local;
    type Ghost = ();

    fn options(&self) -> Options {
        let len = Register::<Explored>::size(SIZE).expect("small");
        Options {
            len,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let writers = self
            .writers
            .iter()
            .map(|&left| ("writer", Local::Write(left)));
        let reader = ("reader", Local::Read(self.reads, 0, None));
        let all = writers.chain([reader]).enumerate();
        all.map(|(process, (name, start))| Actor::new(format!("{name} {process}"), process, start))
            .collect()
    }

    fn operate(&self, actor: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let area = Area::new(memory.clone(), 0, memory.len()).expect("fits");
        let register = Register::new(&area, SIZE).expect("fits");
        let me = id(actor);
        match *local {
            Local::Write(0) | Local::Read(0, ..) => None,
            Local::Write(left) => {
                let recover = |dead| if_gone(memory, dead, || register.recover(dead));
                let leased = register.lease(me, Wait::Block, None::<Duration>, recover);
                leased.expect("no deadline, and nobody ends it");
                // Both words tell who has written them, and which time.
                let word = [(actor as u8 + 1) << 4 | left; 8];
                register.set([word, word].concat().as_slice());
                register.give_back(me);
                Some(Local::Write(left - 1))
            }
            Local::Read(left, last, _) => {
                let mut value = [0; SIZE];
                let version = register.read(&mut value);
                let wrong = match version {
                    None => Some("overrun"),
                    Some(version) if version < last => Some("went back"),
                    Some(0) => None,
                    Some(_) if value[..8] != value[8..] => Some("torn"),
                    Some(_) if value[0] == 0 => Some("empty"),
                    Some(_) => None,
                };
                Some(Local::Read(left - 1, version.unwrap_or(last), wrong))
            }
        }
    }

    fn may_be_killed(&self, process: usize) -> bool {
        process < self.writers.len()
    }

    fn check(&self, view: &View<'_, Self>) -> Result<(), String> {
        match *view.local(self.writers.len()) {
            Local::Read(_, version, Some(wrong)) => Err(format!("version {version}: {wrong}")),
            _ => Ok(()),
        }
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        view.all_done()
    }
}

pub(super) fn entries() -> Vec<Entry> {
    let lock = |lockers: &[u8], kills, timeouts| LockCase {
        lockers: lockers.to_vec(),
        // Where sleeps end at any time, two that go on for ever would have no end of states.
        patience: (timeouts == Timeouts::Always).then_some(Duration::from_millis(100)),
        options: Options {
            kills,
            timeouts,
            ..Options::default()
        },
    };
    let latest = |writers: &[u8], reads, kills| LatestCase {
        writers: writers.to_vec(),
        reads,
        options: Options {
            kills,
            timeouts: Timeouts::WhenStuck,
            ..Options::default()
        },
    };
    vec![
        Entry::quick(
            "lock/two lockers, no timeouts",
            lock(&[2, 2], 0, Timeouts::Never),
        ),
        Entry::quick(
            "lock/three lockers, no timeouts",
            lock(&[1, 1, 1], 0, Timeouts::Never),
        ),
        Entry::quick(
            "lock/two lockers, one kill",
            lock(&[2, 2], 1, Timeouts::WhenStuck),
        ),
        Entry::quick(
            "lock/two lockers that are handed the lock, one kill",
            lock(&[2, 2], 1, Timeouts::Always),
        ),
        Entry::long(
            "lock/three lockers, two kills",
            lock(&[1, 1, 1], 2, Timeouts::WhenStuck),
        ),
        Entry::long(
            "lock/three lockers, twice, one kill",
            lock(&[2, 2, 1], 1, Timeouts::WhenStuck),
        ),
        Entry::quick("latest/one writer all the way round", latest(&[5], 2, 1)),
        Entry::long("latest/two writers, one kill", latest(&[2, 2], 1, 1)),
    ]
}
