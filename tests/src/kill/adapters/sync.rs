//! Locks, registers and counters.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_core::sync::{Attach, Latest, LockError, Mutex, ONLY, Once, RwLock, Semaphore, Sequence};

use super::still::Still;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

/// What a victim writes.
const NEW: u64 = 100;

/// How long anybody waits for a lock whose holder is dead, on a machine that has other things to do as well.
const IN_TIME: Duration = Duration::from_secs(2);

/// The kinds, by the names they have in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Mutex,
    RwLock,
    Semaphore,
    Latest,
    Once,
    Sequence,
}

impl Adapter for Sync {
    fn kind(&self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::RwLock => "rwlock",
            Self::Semaphore => "semaphore",
            Self::Latest => "latest",
            Self::Once => "once",
            Self::Sequence => "sequence",
        }
    }

    fn account(&self) -> &'static str {
        match self {
            Self::Mutex | Self::RwLock => {
                "Whoever takes the lock next clears up after the dead holder, and is told `OwnerDied` with the lock in hand: \
                 the value may be half changed. It repairs the value and says `mark_consistent`. A reader that dies leaves \
                 nothing to repair; a writer that waits for it looks every 40 ms whether it lives."
            }
            Self::Semaphore => {
                "A permit names its holder. Whoever finds none left looks every 40 ms whether those who hold them live, and \
                 gives back what the dead held. Nobody is told."
            }
            Self::Latest => {
                "A value is set by one store behind it; until then readers get the one before, and are never held up. The \
                 next writer clears up after a dead one, and is told nothing, since nothing is half done."
            }
            Self::Once => {
                "If the one who runs it dies in it, the next caller runs it again and is told so by `OnceRun::is_again`."
            }
            Self::Sequence => {
                "One instruction draws a number. A number drawn by the dead is not drawn again."
            }
        }
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        match self {
            Self::Mutex => vec![
                case(
                    "lock and set",
                    "free",
                    &["1", "1 holder died", "100 holder died", "100"],
                ),
                case(
                    "try and set",
                    "free",
                    &["1", "1 holder died", "100 holder died", "100"],
                ),
                case(
                    "lock and set",
                    "holder dead",
                    &["1 holder died", "100 holder died", "100"],
                )
                .blocking(),
            ],
            Self::RwLock => vec![
                case(
                    "write",
                    "free",
                    &["1", "1 holder died", "100 holder died", "100"],
                ),
                case("read", "free", &["1"]),
                case("read", "read by another", &["1"]),
                case(
                    "write",
                    "reader dead",
                    &["1", "1 holder died", "100 holder died", "100"],
                )
                .blocking(),
            ],
            Self::Semaphore => vec![
                case("acquire and release", "free", &["2 permits"]),
                case("acquire and release", "one left", &["2 permits"]),
                case("acquire and release", "holders dead", &["2 permits"]).blocking(),
            ],
            Self::Latest => vec![
                case("set", "set before", &["1", "100"]),
                case("set", "never set", &["nothing", "100"]),
                case("set", "writer dead", &["1", "100"]).blocking(),
                case("get", "set before", &["1"]),
            ],
            Self::Once => vec![
                case("call", "never called", &["ran now", "ran again", "done"]),
                case("call", "done", &["done"]),
            ],
            Self::Sequence => vec![case("next", "at 5", &["5", "6"])],
        }
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |first, second, state, outcomes: &[&str]| Pair {
            first: Case::new(first, state, &[]),
            second: Case::new(second, state, &[]),
            outcomes: outcomes.iter().map(ToString::to_string).collect(),
        };
        match self {
            Self::Mutex => vec![pair(
                "lock and set",
                "lock and set",
                "free",
                &["1", "100", "1 holder died", "100 holder died"],
            )],
            Self::Latest => vec![pair("set", "get", "set before", &["1", "100"])],
            Self::Sequence => vec![pair("next", "next", "at 5", &["5", "6", "7"])],
            Self::RwLock | Self::Semaphore | Self::Once => Vec::new(),
        }
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let spec = match self {
            Self::Mutex => Mutex::<Parcel>::spec(())?,
            Self::RwLock => RwLock::<Parcel>::spec(4)?,
            Self::Semaphore => Semaphore::spec(2)?,
            Self::Latest => Latest::<Parcel>::spec(())?,
            Self::Once => Once::spec(())?,
            Self::Sequence => Sequence::spec(1)?,
        };
        let options = SegmentOptions::new().participants(4).object(ONLY, spec);
        let segment = options.create(Place::Memfd("kill".into()))?;
        let ground = Ground::Region(segment.clone());
        let inspect = self.inspection();
        let dead = |ground: &Ground| Ok(Still::boxed(case, ground.copy()?, inspect, ()));
        match self {
            Self::Mutex => {
                let mutex = Mutex::<Parcel>::in_segment(&segment, ONLY)?;
                let mut guard = mutex.lock().map_err(|error| described(&error))?;
                guard.set(&Parcel::new(1));
                if case.state == "holder dead" {
                    return dead(&ground);
                }
            }
            Self::RwLock => {
                let lock = RwLock::<Parcel>::in_segment(&segment, ONLY)?;
                lock.write()
                    .map_err(|error| described(&error))?
                    .set(&Parcel::new(1));
                if case.state != "free" {
                    let guard = lock.read()?;
                    if case.state == "reader dead" {
                        return dead(&ground);
                    }
                    // The survivor reads on for as long as the scene lasts.
                    std::mem::forget(guard);
                    return Ok(Still::boxed(case, ground, inspect_beside_reader, lock));
                }
            }
            Self::Semaphore => {
                let semaphore = Semaphore::in_segment(&segment, ONLY)?;
                if case.state != "free" {
                    let one = semaphore.acquire()?;
                    if case.state == "holders dead" {
                        let _two = semaphore.acquire()?;
                        return dead(&ground);
                    }
                    drop(one);
                    std::mem::forget(semaphore.acquire()?);
                    return Ok(Still::boxed(case, ground, inspect_beside_permit, semaphore));
                }
            }
            Self::Latest => {
                let latest = Latest::<Parcel>::in_segment(&segment, ONLY)?;
                if case.state != "never set" {
                    latest.set(&Parcel::new(1))?;
                }
                if case.state == "writer dead" {
                    let _writer = latest.writer()?;
                    return dead(&ground);
                }
            }
            Self::Once => {
                let once = Once::in_segment(&segment, ONLY)?;
                if case.state == "done" {
                    once.call(|_| ())?;
                }
            }
            Self::Sequence => {
                Sequence::in_segment(&segment, ONLY)?[0].add(5);
            }
        }
        // Whoever prepared the object has left again.
        drop(segment);
        Ok(Still::boxed(case, ground, inspect, ()))
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let segment = ground.segment();
        let until = Instant::now() + Duration::from_secs(10);
        let value = Parcel::new(NEW);
        Ok(match (self, case.operation) {
            (Self::Mutex, operation) => {
                let mutex = Mutex::<Parcel>::in_segment(segment, ONLY)?;
                let wait = operation == "lock and set";
                Box::new(move || {
                    let locked = if wait {
                        mutex.lock_until(until)
                    } else {
                        mutex.try_lock()
                    };
                    let mut guard = match locked {
                        Err(LockError::OwnerDied(guard)) => guard,
                        other => other.map_err(|error| described(&error))?,
                    };
                    guard.set(&value);
                    guard.mark_consistent();
                    Ok(())
                })
            }
            (Self::RwLock, "read") => {
                let lock = RwLock::<Parcel>::in_segment(segment, ONLY)?;
                Box::new(move || lock.read_until(until)?.get().open().map(drop))
            }
            (Self::RwLock, _) => {
                let lock = RwLock::<Parcel>::in_segment(segment, ONLY)?;
                Box::new(move || {
                    let guard = lock.write_until(until);
                    guard.map_err(|error| described(&error))?.set(&value);
                    Ok(())
                })
            }
            (Self::Semaphore, _) => {
                let semaphore = Semaphore::in_segment(segment, ONLY)?;
                Box::new(move || {
                    drop(semaphore.acquire_until(until)?);
                    Ok(())
                })
            }
            (Self::Latest, "get") => {
                let latest = Latest::<Parcel>::in_segment(segment, ONLY)?;
                Box::new(move || latest.get()?.context("a value")?.open().map(drop))
            }
            (Self::Latest, _) => {
                let latest = Latest::<Parcel>::in_segment(segment, ONLY)?;
                Box::new(move || {
                    latest.writer_until(until)?.set(&value);
                    Ok(())
                })
            }
            (Self::Once, _) => {
                let once = Once::in_segment(segment, ONLY)?;
                Box::new(move || {
                    once.call_until(until, |_| ())?;
                    Ok(())
                })
            }
            (Self::Sequence, _) => {
                let sequence = Sequence::in_segment(segment, ONLY)?;
                Box::new(move || {
                    sequence[0].next();
                    Ok(())
                })
            }
        })
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        // Attaching joins, and teaches the segment.
        self.teach(ground.segment())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        (self.inspection())(case, ground)
    }
}

impl Sync {
    fn teach(self, segment: &Segment) -> Result<()> {
        match self {
            Self::Mutex => drop(Mutex::<Parcel>::in_segment(segment, ONLY)?),
            Self::RwLock => drop(RwLock::<Parcel>::in_segment(segment, ONLY)?),
            Self::Semaphore => drop(Semaphore::in_segment(segment, ONLY)?),
            Self::Latest => drop(Latest::<Parcel>::in_segment(segment, ONLY)?),
            Self::Once => drop(Once::in_segment(segment, ONLY)?),
            Self::Sequence => drop(Sequence::in_segment(segment, ONLY)?),
        }
        Ok(())
    }

    fn inspection(self) -> fn(&Case, &Ground) -> Result<String> {
        match self {
            Self::Mutex => inspect_mutex,
            Self::RwLock => inspect_rwlock,
            Self::Semaphore => inspect_semaphore,
            Self::Latest => inspect_latest,
            Self::Once => inspect_once,
            Self::Sequence => inspect_sequence,
        }
    }
}

/// An error that may hold a guard, as one that does not.
fn described<G>(error: &LockError<G>) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

fn soon() -> Instant {
    Instant::now() + IN_TIME
}

fn inspect_mutex(_: &Case, ground: &Ground) -> Result<String> {
    let mutex = Mutex::<Parcel>::in_segment(ground.segment(), ONLY)?;
    let found = match mutex.lock_until(soon()) {
        Ok(guard) => show(guard.get().open()?, false),
        Err(LockError::OwnerDied(mut guard)) => {
            let value = guard.get();
            guard.set(&Parcel::new(7));
            guard.mark_consistent();
            // Of one who died in the middle of a store to it, the value may be torn: that is what is told.
            show(value.open().unwrap_or(1), true)
        }
        Err(error) => return Err(described(&error)),
    };
    for number in 0..3 {
        let guard = mutex.lock_until(soon());
        guard
            .map_err(|error| described(&error))?
            .set(&Parcel::new(number));
    }
    Ok(found)
}

fn inspect_rwlock(_: &Case, ground: &Ground) -> Result<String> {
    let lock = RwLock::<Parcel>::in_segment(ground.segment(), ONLY)?;
    let found = match lock.write_until(soon()) {
        Ok(guard) => show(guard.get().open()?, false),
        Err(LockError::OwnerDied(mut guard)) => {
            let value = guard.get();
            guard.set(&Parcel::new(7));
            guard.mark_consistent();
            show(value.open().unwrap_or(1), true)
        }
        Err(error) => return Err(described(&error)),
    };
    for number in 0..3 {
        let guard = lock.write_until(soon());
        guard
            .map_err(|error| described(&error))?
            .set(&Parcel::new(number));
        ensure!(
            lock.read_until(soon())?.get().open()? == number,
            "not what was written"
        );
    }
    Ok(found)
}

/// Beside a survivor that reads, others can read.
fn inspect_beside_reader(_: &Case, ground: &Ground) -> Result<String> {
    let lock = RwLock::<Parcel>::in_segment(ground.segment(), ONLY)?;
    Ok(show(lock.read_until(soon())?.get().open()?, false))
}

fn inspect_semaphore(_: &Case, ground: &Ground) -> Result<String> {
    let semaphore = Semaphore::in_segment(ground.segment(), ONLY)?;
    let one = semaphore
        .acquire_until(soon())
        .context("the first permit")?;
    let two = semaphore
        .acquire_until(soon())
        .context("the second permit")?;
    ensure!(semaphore.try_acquire().is_err(), "a permit too many");
    drop((one, two));
    Ok(format!("{} permits", semaphore.available()))
}

/// Beside a survivor that holds one permit of two, the other can be had.
fn inspect_beside_permit(_: &Case, ground: &Ground) -> Result<String> {
    let semaphore = Semaphore::in_segment(ground.segment(), ONLY)?;
    let one = semaphore
        .acquire_until(soon())
        .context("the other permit")?;
    ensure!(semaphore.try_acquire().is_err(), "a permit too many");
    drop(one);
    Ok(format!("{} permits", semaphore.available() + 1))
}

fn inspect_latest(_: &Case, ground: &Ground) -> Result<String> {
    let latest = Latest::<Parcel>::in_segment(ground.segment(), ONLY)?;
    let found = match latest.get()? {
        Some(parcel) => parcel.open()?.to_string(),
        None => "nothing".into(),
    };
    for number in 0..10 {
        latest.writer_until(soon())?.set(&Parcel::new(number));
        ensure!(
            latest.get()?.context("a value")?.open()? == number,
            "not what was set"
        );
    }
    Ok(found)
}

fn inspect_once(_: &Case, ground: &Ground) -> Result<String> {
    let once = Once::in_segment(ground.segment(), ONLY)?;
    let mut found = "done";
    once.call_until(soon(), |run| {
        found = if run.is_again() {
            "ran again"
        } else {
            "ran now"
        };
    })?;
    ensure!(once.is_done(), "it ran and is not done");
    Ok(found.into())
}

fn inspect_sequence(_: &Case, ground: &Ground) -> Result<String> {
    let sequence = Sequence::in_segment(ground.segment(), ONLY)?;
    Ok(sequence[0].get().to_string())
}

fn show(value: u64, died: bool) -> String {
    format!("{value}{}", if died { " holder died" } else { "" })
}
