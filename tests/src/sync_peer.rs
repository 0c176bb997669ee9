//! What a peer does with locks, registers and the like.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use ipc_core::segment::Segment;
use ipc_core::sync::{
    Attach, Barrier, BarrierError, Latest, LockError, Mutex, Once, RwLock, Semaphore, Sequence,
};

/// The number of bytes of a small value: with its version word it fills a line.
pub const SMALL: usize = 7;

/// Words that all say the same, so that a torn value shows.
pub type Same<const N: usize> = [u64; N];

/// All words are `word`.
pub fn same<const N: usize>(word: u64) -> Box<Same<N>> {
    vec![word; N]
        .into_boxed_slice()
        .try_into()
        .expect("as long as that")
}

/// What all words are; nothing if they differ.
pub fn word<const N: usize>(value: &Same<N>) -> Option<u64> {
    let first = value[0];
    value.iter().all(|word| *word == first).then_some(first)
}

/// Does what `words` say, and tells how it went. What it holds it keeps for ever.
pub fn obey(segment: &Segment, words: &[&str]) -> Result<String> {
    let name = *words.last().ok_or_else(|| anyhow!("no object"))?;
    let answer = match words[..words.len() - 1] {
        ["hold", "mutex"] => {
            let mutex = Mutex::<u64>::in_segment(segment, name)?;
            let mut guard = mutex.lock().map_err(|error| anyhow!("{error}"))?;
            // Half a change.
            guard.set(&u64::MAX);
            std::mem::forget(guard);
            "held".into()
        }
        ["repair", "mutex"] => match Mutex::<u64>::in_segment(segment, name)?.lock() {
            Err(LockError::OwnerDied(mut guard)) => {
                guard.set(&0);
                guard.mark_consistent();
                "repaired".into()
            }
            _ => "nothing to repair".into(),
        },
        ["hold", "read"] => {
            let lock = RwLock::<u64>::in_segment(segment, name)?;
            std::mem::forget(lock.read().map_err(|error| anyhow!("{error}"))?);
            "held".into()
        }
        ["hold", "write"] => {
            let lock = RwLock::<u64>::in_segment(segment, name)?;
            std::mem::forget(lock.write().map_err(|error| anyhow!("{error}"))?);
            "held".into()
        }
        ["hold", "permit"] => {
            let semaphore = Semaphore::in_segment(segment, name)?;
            std::mem::forget(semaphore.acquire()?);
            "held".into()
        }
        ["hold", "seat"] => {
            let barrier = Barrier::in_segment(segment, name)?;
            std::mem::forget(barrier.sit()?);
            "held".into()
        }
        ["hold", "lease"] => {
            let latest = Latest::<Same<SMALL>>::in_segment(segment, name)?;
            std::mem::forget(latest.writer()?);
            "held".into()
        }
        // Waits for nothing until all others are watched; by how many threads.
        ["watch"] => {
            let latest = Latest::<u64>::in_segment(segment, name)?;
            let soon = Instant::now() + Duration::from_millis(500);
            if latest.wait_until(0, soon).is_ok() {
                bail!("somebody has written");
            }
            let mut watching = 0;
            for task in std::fs::read_dir("/proc/self/task")? {
                let name = std::fs::read_to_string(task?.path().join("comm"))?;
                watching += u32::from(name.trim_end() == "ipc-peers");
            }
            format!("{watching} thread")
        }
        // Locks and adds one for so many milliseconds; tells how often, and the longest wait in microseconds.
        ["hammer", "mutex", millis] => {
            let mutex = Mutex::<u64>::in_segment(segment, name)?;
            hammer(millis, |waited| {
                let mut guard = mutex.lock().map_err(LockError::owned)?;
                waited();
                guard.set(&(guard.get() + 1));
                Ok(())
            })?
        }
        // Takes the lock for writing and adds one.
        ["hammer", "write", millis] => {
            let lock = RwLock::<Same<2>>::in_segment(segment, name)?;
            hammer(millis, |waited| {
                let mut guard = lock.write().map_err(LockError::owned)?;
                waited();
                let found = word(&guard.get()).ok_or_else(|| anyhow!("torn"))?;
                guard.set(&[found + 1; 2]);
                Ok(())
            })?
        }
        // Takes the lock for reading, and keeps it for a moment, so that readers overlap.
        ["hammer", "read", millis] => {
            let lock = RwLock::<Same<2>>::in_segment(segment, name)?;
            hammer(millis, |waited| {
                let guard = lock.read()?;
                waited();
                for _ in 0..100 {
                    word(&guard.get()).ok_or_else(|| anyhow!("torn"))?;
                }
                Ok(())
            })?
        }
        // Takes one permit after the other.
        ["hammer", "permit", millis] => {
            let semaphore = Semaphore::in_segment(segment, name)?;
            hammer(millis, |waited| {
                let _permit = semaphore.acquire()?;
                waited();
                Ok(())
            })?
        }
        // Reads and now and then writes; tells how often it read, wrote, and found the two halves unlike.
        ["hammer", "rwlock", millis] => {
            let lock = RwLock::<Same<2>>::in_segment(segment, name)?;
            let end = Instant::now() + Duration::from_millis(millis.parse()?);
            let (mut reads, mut writes, mut torn) = (0, 0, 0);
            while Instant::now() < end {
                for _ in 0..20 {
                    let guard = lock.read().map_err(|error| anyhow!("{error}"))?;
                    torn += u64::from(word(&guard.get()).is_none());
                    reads += 1;
                }
                let mut guard = lock.write().map_err(|error| anyhow!("{error}"))?;
                let found = word(&guard.get()).unwrap_or(0);
                guard.set(&[found + 1; 2]);
                writes += 1;
            }
            format!("{reads} {writes} {torn}")
        }
        ["hammer", "semaphore", millis] => {
            let semaphore = Semaphore::in_segment(segment, name)?;
            let inside = Sequence::in_segment(segment, "inside")?;
            let end = Instant::now() + Duration::from_millis(millis.parse()?);
            let (mut count, mut most) = (0, 0);
            while Instant::now() < end {
                let _permit = semaphore.acquire()?;
                most = most.max(inside[0].add(1) + 1);
                inside[0].add(1_u64.wrapping_neg());
                count += 1;
            }
            format!("{count} {most}")
        }
        ["sit", rounds] => {
            let barrier = Barrier::in_segment(segment, name)?;
            let mut seat = barrier.sit()?;
            let mut firsts = 0;
            for _ in 0..rounds.parse::<u32>()? {
                match seat.wait() {
                    Ok(first) => firsts += u32::from(first),
                    Err(BarrierError::Broken) => return Ok("broken".into()),
                    Err(error) => return Err(error.into()),
                }
            }
            firsts.to_string()
        }
        ["once"] => {
            let once = Once::in_segment(segment, name)?;
            let runs = Sequence::in_segment(segment, "runs")?;
            once.call(|_| {
                runs[0].next();
                std::thread::sleep(Duration::from_millis(20));
            })?
            .to_string()
        }
        // Begins and does not end.
        ["hang", "once"] => {
            let once = Once::in_segment(segment, name)?;
            once.call(|_| {
                println!("begun");
                loop {
                    std::thread::park();
                }
            })?;
            bail!("it cannot end")
        }
        ["set", "small", first] => set_for_ever::<SMALL>(segment, name, first)?,
        ["set", "large", first] => set_for_ever::<131_072>(segment, name, first)?,
        ["count", times] => {
            let sequence = Sequence::in_segment(segment, name)?;
            for _ in 0..times.parse::<u64>()? {
                sequence[1].next();
            }
            "counted".into()
        }
        _ => bail!("do not understand {words:?}"),
    };
    Ok(answer)
}

/// Does it for so many milliseconds; tells how often, and the longest time until `waited` was called in microseconds.
fn hammer(millis: &str, mut once: impl FnMut(&mut dyn FnMut()) -> Result<()>) -> Result<String> {
    let end = Instant::now() + Duration::from_millis(millis.parse()?);
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    while Instant::now() < end {
        let start = Instant::now();
        once(&mut || longest = longest.max(start.elapsed()))?;
        count += 1;
    }
    Ok(format!("{count} {}", longest.as_micros()))
}

/// Sets one value after the other until it is killed.
fn set_for_ever<const N: usize>(segment: &Segment, name: &str, first: &str) -> Result<String> {
    let latest = Latest::<Same<N>>::in_segment(segment, name)?;
    let mut word: u64 = first.parse()?;
    println!("setting");
    loop {
        latest.set(&*same(word))?;
        word += 1;
    }
}
