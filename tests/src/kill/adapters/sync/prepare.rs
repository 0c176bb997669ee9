//! What victims do with locks, registers and counters.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_core::sync::{Attach, Latest, LockError, Mutex, ONLY, Once, RwLock, Semaphore, Sequence};

use super::{NEW, Sync, look::described};
use crate::kill::adapter::{Case, Operation};
use crate::kill::parcel::Parcel;

/// The operation of a victim. What it holds before it begins borrows from what is leaked here, in a process that ends.
pub(super) fn prepare(kind: Sync, case: &Case, segment: &Segment) -> Result<Operation> {
    let until = Instant::now() + Duration::from_secs(10);
    let value = Parcel::new(NEW);
    Ok(match (kind, case.operation) {
        (Sync::Mutex, "unlock") => {
            let mutex = Box::leak(Box::new(Mutex::<Parcel>::in_segment(segment, ONLY)?));
            let mut guard = mutex.lock_until(until).map_err(|error| described(&error))?;
            guard.set(&value);
            let mut held = Some(guard);
            Box::new(move || {
                drop(held.take());
                Ok(())
            })
        }
        (Sync::Mutex, operation) => {
            let mut mutex = Mutex::<Parcel>::in_segment(segment, ONLY)?;
            mutex.set_wait(Wait::Block);
            let wait = operation == "lock and set";
            Box::new(move || {
                let locked = if wait {
                    mutex.lock_until(until)
                } else {
                    mutex.try_lock()
                };
                let mut guard = match locked {
                    Err(LockError::OwnerDied(guard)) => guard,
                    Err(LockError::WouldBlock) if !wait => return Ok(()),
                    other => other.map_err(|error| described(&error))?,
                };
                guard.set(&value);
                guard.mark_consistent();
                Ok(())
            })
        }
        (Sync::RwLock, "end reading") => {
            let lock = Box::leak(Box::new(RwLock::<Parcel>::in_segment(segment, ONLY)?));
            let mut held = Some(lock.read_until(until)?);
            Box::new(move || {
                drop(held.take());
                Ok(())
            })
        }
        (Sync::RwLock, "end writing") => {
            let lock = Box::leak(Box::new(RwLock::<Parcel>::in_segment(segment, ONLY)?));
            let mut guard = lock.write_until(until).map_err(|error| described(&error))?;
            guard.set(&value);
            let mut held = Some(guard);
            Box::new(move || {
                drop(held.take());
                Ok(())
            })
        }
        (Sync::RwLock, "read") => {
            let mut lock = RwLock::<Parcel>::in_segment(segment, ONLY)?;
            lock.set_wait(Wait::Block);
            Box::new(move || match lock.read_until(until) {
                Ok(guard) => guard.get().open().map(drop),
                // Where another victim had it for writing.
                Err(LockError::OwnerDied(())) => Ok(()),
                Err(error) => Err(error.into()),
            })
        }
        (Sync::RwLock, _) => {
            let mut lock = RwLock::<Parcel>::in_segment(segment, ONLY)?;
            lock.set_wait(Wait::Block);
            Box::new(move || {
                let mut guard = match lock.write_until(until) {
                    Err(LockError::OwnerDied(guard)) => guard,
                    other => other.map_err(|error| described(&error))?,
                };
                guard.set(&value);
                guard.mark_consistent();
                Ok(())
            })
        }
        (Sync::Semaphore, "release") => {
            let semaphore = Box::leak(Box::new(Semaphore::in_segment(segment, ONLY)?));
            let mut held = vec![semaphore.acquire()?, semaphore.acquire()?];
            Box::new(move || {
                drop(held.pop());
                Ok(())
            })
        }
        (Sync::Semaphore, "try to acquire") => {
            let mut semaphore = Semaphore::in_segment(segment, ONLY)?;
            semaphore.set_wait(Wait::Block);
            Box::new(move || {
                let refused = semaphore.try_acquire().map(drop);
                ensure!(refused.is_err(), "there was none left");
                Ok(())
            })
        }
        (Sync::Semaphore, _) => {
            let mut semaphore = Semaphore::in_segment(segment, ONLY)?;
            semaphore.set_wait(Wait::Block);
            Box::new(move || {
                drop(semaphore.acquire_until(until)?);
                Ok(())
            })
        }
        (Sync::Latest, "get") => {
            let latest = Latest::<Parcel>::in_segment(segment, ONLY)?;
            Box::new(move || match latest.get()? {
                Some(parcel) => parcel.open().map(drop),
                None => Ok(()),
            })
        }
        (Sync::Latest, "wait") => {
            let latest = Latest::<Parcel>::in_segment(segment, ONLY)?;
            let version = latest.version();
            Box::new(move || {
                latest.wait_until(version, until)?;
                latest.get()?.context("a value")?.open().map(drop)
            })
        }
        (Sync::Latest, _) => {
            let latest = Latest::<Parcel>::in_segment(segment, ONLY)?;
            // Without a deadline where there is nobody to wait for: a clock that is read under single steps reads again at
            // every tick, so that the publication comes after another number of instructions each time.
            let waits = case.state.starts_with("writer");
            Box::new(move || {
                match waits {
                    true => latest.writer_until(until)?.set(&value),
                    false => latest.writer()?.set(&value),
                };
                Ok(())
            })
        }
        (Sync::Once, _) => {
            let once = Once::in_segment(segment, ONLY)?;
            Box::new(move || {
                once.call_until(until, |_| ())?;
                Ok(())
            })
        }
        (Sync::Sequence, operation) => {
            let sequence = Sequence::in_segment(segment, ONLY)?;
            match operation {
                "next" => Box::new(move || {
                    sequence[0].next();
                    Ok(())
                }),
                "add" => Box::new(move || {
                    sequence[0].add(3);
                    Ok(())
                }),
                "raise" => Box::new(move || {
                    sequence[0].raise(50);
                    Ok(())
                }),
                other => bail!("no operation {other}"),
            }
        }
    })
}
