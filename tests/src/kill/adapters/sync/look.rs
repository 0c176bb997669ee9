//! What newcomers find of a lock, a register or a counter, and whether they can go on with it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_core::sync::{Attach, Latest, LockError, Mutex, ONLY, Once, RwLock, Semaphore, Sequence};

use crate::kill::adapter::Case;
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

/// How long anybody waits for a lock whose holder is dead, on a machine that has other things to do as well.
const IN_TIME: Duration = Duration::from_secs(2);

/// An error that may hold a guard, as one that does not.
pub(super) fn described<G>(error: &LockError<G>) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

pub(super) fn soon() -> Instant {
    Instant::now() + IN_TIME
}

pub(super) fn mutex(_: &Case, ground: &Ground) -> Result<String> {
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

pub(super) fn rwlock(_: &Case, ground: &Ground) -> Result<String> {
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
pub(super) fn beside_reader(_: &Case, ground: &Ground) -> Result<String> {
    let lock = RwLock::<Parcel>::in_segment(ground.segment(), ONLY)?;
    Ok(show(lock.read_until(soon())?.get().open()?, false))
}

pub(super) fn semaphore(_: &Case, ground: &Ground) -> Result<String> {
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
pub(super) fn beside_permit(_: &Case, ground: &Ground) -> Result<String> {
    let semaphore = Semaphore::in_segment(ground.segment(), ONLY)?;
    let one = semaphore
        .acquire_until(soon())
        .context("the other permit")?;
    ensure!(semaphore.try_acquire().is_err(), "a permit too many");
    drop(one);
    Ok(format!("{} permits", semaphore.available() + 1))
}

/// What a register holds.
pub(super) fn value(ground: &Ground) -> Result<String> {
    let latest = Latest::<Parcel>::in_segment(ground.segment(), ONLY)?;
    Ok(match latest.get()? {
        Some(parcel) => parcel.open()?.to_string(),
        None => "nothing".into(),
    })
}

pub(super) fn latest(_: &Case, ground: &Ground) -> Result<String> {
    let latest = Latest::<Parcel>::in_segment(ground.segment(), ONLY)?;
    let found = value(ground)?;
    for number in 0..10 {
        latest.writer_until(soon())?.set(&Parcel::new(number));
        ensure!(
            latest.get()?.context("a value")?.open()? == number,
            "not what was set"
        );
    }
    Ok(found)
}

pub(super) fn once(_: &Case, ground: &Ground) -> Result<String> {
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

pub(super) fn sequence(_: &Case, ground: &Ground) -> Result<String> {
    let sequence = Sequence::in_segment(ground.segment(), ONLY)?;
    Ok(sequence[0].get().to_string())
}

/// A value, and whether its holder died.
pub(super) fn show(value: u64, died: bool) -> String {
    format!("{value}{}", if died { " holder died" } else { "" })
}
