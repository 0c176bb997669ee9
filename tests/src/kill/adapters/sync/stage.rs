//! A lock, a register or a counter in the state of a case, and those who hold it or wait for it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_core::segment::{Place, SegmentOptions};
use ipc_core::sync::{
    Attach, Guard, Latest, LockError, Mutex, ONLY, Once, RwLock, Semaphore, Sequence,
};

use super::look::{self, described, show};
use super::{NEW, Sync};
use crate::kill::adapter::{Case, Scene};
use crate::kill::adapters::company::{Company, Keeper};
use crate::kill::adapters::still::Still;
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

/// How long a survivor sleeps at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// States in which the sleeper is next: it has been passed over for so long that the lock is handed over to it. In those
/// where it is just asleep it may be, or not yet, which makes a difference to the victim.
pub(super) const PASSED_OVER: &str = "waiter passed over";
pub(super) const WRITER_PASSED_OVER: &str = "writer passed over";

/// Whether somebody is written into the place of the next one in the lock, which is the first word of what it guards.
fn is_next(ground: &Ground) -> Result<bool> {
    let object = ground.segment().object(ONLY)?;
    let word = object.area().word32(0)?.load(Relaxed);
    Ok(word >> 14 & ((1 << 14) - 1) != 0)
}

/// How far the sleeper of a state must have come.
fn settled(state: &str) -> fn(&Ground) -> Result<bool> {
    match state {
        PASSED_OVER | WRITER_PASSED_OVER => is_next,
        _ => |_| Ok(true),
    }
}

/// What somebody finds who has waited for a lock, and repairs it.
fn found(locked: Result<Guard<'_, Parcel>, LockError<Guard<'_, Parcel>>>) -> Result<String> {
    match locked {
        Ok(guard) => Ok(show(guard.get().open()?, false)),
        Err(LockError::OwnerDied(mut guard)) => {
            guard.mark_consistent();
            Ok(show(guard.get().open()?, true))
        }
        Err(error) => Err(described(&error)),
    }
}

/// The object of a case.
pub(super) fn stage(kind: Sync, case: &Case) -> Result<Box<dyn Scene>> {
    let spec = match kind {
        Sync::Mutex => Mutex::<Parcel>::spec(())?,
        Sync::RwLock => RwLock::<Parcel>::spec(4)?,
        Sync::Semaphore => Semaphore::spec(2)?,
        Sync::Latest => Latest::<Parcel>::spec(())?,
        Sync::Once => Once::spec(())?,
        Sync::Sequence => Sequence::spec(1)?,
    };
    let options = SegmentOptions::new().participants(4).object(ONLY, spec);
    let ground = Ground::Region(options.create(Place::Memfd("kill".into()))?);
    match kind {
        Sync::Mutex => mutex(case, ground),
        Sync::RwLock => rwlock(case, ground),
        Sync::Semaphore => semaphore(case, ground),
        Sync::Latest => latest(case, ground),
        Sync::Once => once(case, ground),
        Sync::Sequence => {
            Sequence::in_segment(ground.segment(), ONLY)?[0].add(5);
            Ok(Still::boxed(case, ground, look::sequence, ()))
        }
    }
}

fn mutex(case: &Case, ground: Ground) -> Result<Box<dyn Scene>> {
    let mutex = Mutex::<Parcel>::in_segment(ground.segment(), ONLY)?;
    mutex
        .lock()
        .map_err(|error| described(&error))?
        .set(&Parcel::new(1));
    let company = |ground| Company::new(case, ground, look::mutex);
    Ok(match case.state {
        "holder dead" => {
            let _guard = mutex.lock().map_err(|error| described(&error))?;
            company(ground.copy()?)
        }
        "held by another" => company(ground).beside(Keeper::start(move |keep| {
            let _guard = mutex.lock().map_err(|error| described(&error))?;
            keep();
            Ok(())
        })?),
        state if state.starts_with("waiter") => company(ground).settled(settled(state)).asleep(
            move || found(mutex.lock_until(Instant::now() + PATIENCE)),
            |_| Ok(true),
        ),
        _ => company(ground),
    }
    .boxed())
}

fn rwlock(case: &Case, ground: Ground) -> Result<Box<dyn Scene>> {
    let lock = RwLock::<Parcel>::in_segment(ground.segment(), ONLY)?;
    lock.write()
        .map_err(|error| described(&error))?
        .set(&Parcel::new(1));
    let company = |ground| Company::new(case, ground, look::rwlock);
    Ok(match (case.operation, case.state) {
        ("read", "read by another") => {
            // The survivor reads on for as long as the scene lasts.
            std::mem::forget(lock.read()?);
            return Ok(Still::boxed(case, ground, look::beside_reader, lock));
        }
        (_, "reader dead") => {
            let _guard = lock.read()?;
            company(ground.copy()?)
        }
        (_, "read by another") => company(ground).beside(Keeper::start(move |keep| {
            let _guard = lock.read()?;
            keep();
            Ok(())
        })?),
        (_, "written by another") => company(ground).beside(Keeper::start(move |keep| {
            let _guard = lock.write().map_err(|error| described(&error))?;
            keep();
            Ok(())
        })?),
        (_, state) if state.starts_with("writer") => {
            company(ground).settled(settled(state)).asleep(
                move || found(lock.write_until(Instant::now() + PATIENCE)),
                |_| Ok(true),
            )
        }
        (_, "reader asleep") => company(ground).asleep(
            move || match lock.read_until(Instant::now() + PATIENCE) {
                Ok(guard) => Ok(show(guard.get().open()?, false)),
                // It cannot repair the value, and does not look at it.
                Err(LockError::OwnerDied(())) => Ok(show(NEW, true)),
                Err(error) => Err(error.into()),
            },
            |_| Ok(true),
        ),
        _ => company(ground),
    }
    .boxed())
}

fn semaphore(case: &Case, ground: Ground) -> Result<Box<dyn Scene>> {
    let semaphore = Semaphore::in_segment(ground.segment(), ONLY)?;
    let company = |ground| Company::new(case, ground, look::semaphore);
    Ok(match case.state {
        "one left" => {
            std::mem::forget(semaphore.acquire()?);
            return Ok(Still::boxed(case, ground, look::beside_permit, semaphore));
        }
        "holders dead" => {
            let _two = (semaphore.acquire()?, semaphore.acquire()?);
            company(ground.copy()?)
        }
        "none left" => company(ground).beside(Keeper::start(move |keep| {
            let _two = (semaphore.acquire()?, semaphore.acquire()?);
            keep();
            Ok(())
        })?),
        "waiter asleep" => company(ground).asleep(
            move || {
                drop(semaphore.acquire_until(Instant::now() + PATIENCE)?);
                Ok(format!("{} permits", semaphore.permits()))
            },
            |_| Ok(true),
        ),
        _ => company(ground),
    }
    .boxed())
}

fn latest(case: &Case, ground: Ground) -> Result<Box<dyn Scene>> {
    let latest = Latest::<Parcel>::in_segment(ground.segment(), ONLY)?;
    if case.state != "never set" {
        latest.set(&Parcel::new(1))?;
    }
    let company = |ground| Company::new(case, ground, look::latest);
    Ok(match (case.operation, case.state) {
        (_, "writer dead") => {
            let _writer = latest.writer()?;
            company(ground.copy()?)
        }
        (_, "writer lives") => company(ground).beside(Keeper::start(move |keep| {
            let _writer = latest.writer()?;
            keep();
            Ok(())
        })?),
        (_, "waiter asleep") => {
            let version = latest.version();
            company(ground).asleep(
                move || {
                    latest.wait_until(version, Instant::now() + PATIENCE)?;
                    Ok(latest.get()?.context("a value")?.open()?.to_string())
                },
                |ground| Ok(look::value(ground)? != "1"),
            )
        }
        // Whoever lets the victim go on sets the value that it waits for; nobody does once the victim is dead.
        ("wait", _) => {
            return Ok(Box::new(Setter(Company::new(case, ground, look::latest))));
        }
        _ => company(ground),
    }
    .boxed())
}

/// A survivor that sets what the victim waits for.
struct Setter(Company);

impl Scene for Setter {
    fn ground(&self) -> &Ground {
        self.0.ground()
    }

    fn release(&mut self) -> Result<bool> {
        let latest = Latest::<Parcel>::in_segment(self.ground().segment(), ONLY)?;
        latest.set(&Parcel::new(60))?;
        Ok(true)
    }

    fn survive(self: Box<Self>, unaided: bool) -> Result<String> {
        Box::new(self.0).survive(unaided)
    }
}

fn once(case: &Case, ground: Ground) -> Result<Box<dyn Scene>> {
    let once = Once::in_segment(ground.segment(), ONLY)?;
    let company = |ground| Company::new(case, ground, look::once);
    Ok(match case.state {
        "done" => {
            once.call(|_| ())?;
            company(ground)
        }
        "caller dead" => {
            let mut copy = None;
            once.call(|_| copy = Some(ground.copy()))?;
            company(copy.context("it was called")??)
        }
        "waiter asleep" => company(ground).asleep(
            move || {
                let mut found = "done";
                let until = Instant::now() + PATIENCE;
                once.call_until(until, |run| {
                    found = if run.is_again() {
                        "ran again"
                    } else {
                        "ran now"
                    };
                })?;
                Ok(found.into())
            },
            |_| Ok(true),
        ),
        "runs elsewhere" => company(ground).beside(Keeper::start(move |keep| {
            once.call(|_| keep())?;
            Ok(())
        })?),
        _ => company(ground),
    }
    .boxed())
}
