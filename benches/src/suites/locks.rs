//! Locks: a counter behind a lock that nobody else wants, and behind one that several processes want.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use anyhow::{Result, anyhow, ensure};
use ipc_core::segment::Place;
use ipc_core::sync::{Attach, Mutex, RwLock};

use super::{Context, alone, contest};
use crate::limits::{LINE, Lines, pthread};
use crate::measure::Values;
use crate::race::{Heading, Race};
use crate::subject::Side;
use crate::transport::Waiting;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let counts = [1, 2, 4].into_iter();
    counts
        .map(|processes| race(context.cpus, processes))
        .collect()
}

/// Processes that each take the lock, count, and let it go.
fn race(cpus: &[usize], processes: usize) -> Race<'_> {
    let places: Vec<usize> = (0..processes).map(|rank| cpus[rank % cpus.len()]).collect();
    let (of_mutex, of_rwlock, of_pthread, of_bare) =
        (places.clone(), places.clone(), places.clone(), places);
    let mut entries = vec![
        alone("mutex", Side::Ours, move |times| mutex(&of_mutex, times)),
        alone("rwlock", Side::Ours, move |times| rwlock(&of_rwlock, times)),
        alone("pthread-mutex", Side::Peer, move |times| {
            pthread_mutex(&of_pthread, times)
        }),
        alone("compare-exchange", Side::Limit, move |times| {
            bare(&of_bare, times)
        }),
    ];
    for entry in &mut entries {
        entry.least = 1000;
    }
    Race {
        heading: Heading {
            suite: "locks",
            payload_bytes: 8,
            batch: 1,
            processes,
        },
        metrics: vec!["ns to lock, count and unlock".into()],
        compared: 1,
        times: 1.0,
        entries,
    }
}

fn check(places: &[usize], times: u64, counted: u64) -> Result<()> {
    let expected = times.div_ceil(places.len() as u64) * places.len() as u64;
    ensure!(
        counted == expected,
        "counted {counted} instead of {expected}"
    );
    Ok(())
}

fn mutex(places: &[usize], times: u64) -> Result<Values> {
    let mutex = Mutex::<u64>::create(Place::Memfd("bench".into()), ())?;
    let values = contest(places, times, || {
        let mutex = mutex.rejoin()?;
        Ok(move || {
            let mut guard = mutex
                .lock()
                .map_err(|_| anyhow!("a lock whose owner has died"))?;
            let count = guard.get();
            guard.set(&(count + 1));
            Ok(())
        })
    })?;
    let guard = mutex
        .lock()
        .map_err(|_| anyhow!("a lock whose owner has died"))?;
    check(places, times, guard.get())?;
    Ok(values)
}

fn rwlock(places: &[usize], times: u64) -> Result<Values> {
    let lock = RwLock::<u64>::create(Place::Memfd("bench".into()), 64)?;
    let values = contest(places, times, || {
        let lock = lock.rejoin()?;
        Ok(move || {
            let mut guard = lock
                .write()
                .map_err(|_| anyhow!("a lock whose owner has died"))?;
            let count = guard.get();
            guard.set(&(count + 1));
            Ok(())
        })
    })?;
    check(places, times, lock.read()?.get())?;
    Ok(values)
}

/// The C library's mutex, robust and shared between processes: what a C programmer would take.
fn pthread_mutex(places: &[usize], times: u64) -> Result<Values> {
    let mutex = pthread::Mutex::new()?;
    let values = contest(places, times, || {
        Ok(|| {
            mutex.count();
            Ok(())
        })
    })?;
    check(places, times, mutex.counted())?;
    Ok(values)
}

/// A compare-exchange and a swap: no lock takes less. Polls, and gives the CPU away after a while.
fn bare(places: &[usize], times: u64) -> Result<Values> {
    let lines = Lines::new(2 * LINE)?;
    let values = contest(places, times, || {
        let (lock, count) = (lines.word(0), lines.word(LINE));
        Ok(|| {
            Waiting::Share.until(|| lock.compare_exchange(0, 1, Acquire, Relaxed).ok());
            count.store(count.load(Relaxed) + 1, Relaxed);
            lock.swap(0, Release);
            Ok(())
        })
    })?;
    check(places, times, lines.word(LINE).load(Relaxed))?;
    Ok(values)
}
