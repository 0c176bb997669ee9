//! Sleeping on words that other processes map as well (`futex`, without the private flag).

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Sleeps while `*word == expected`, at most for `timeout`. Returns on a wake-up, on a signal, when the time is over, or
/// at once if the word differs.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // Whatever ended it, the caller looks at the word again.
    let _ = futex::wait(word, futex::Flags::empty(), expected, Some(&timeout));
}

/// Wakes up to `count` sleepers and tells how many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The kernel takes the number for a signed one, and wakes a single sleeper for a negative one.
    let count = count.min(i32::MAX as u32);
    let woken = futex::wake(word, futex::Flags::empty(), count);
    woken.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// The most words that the kernel waits for at once.
pub(crate) const MOST: usize = 128;

/// Whether the kernel can wait for several words at once (since 5.16, where no filter forbids it).
pub(crate) fn waits_for_several() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let none = futex::waitv(&[], futex::WaitvFlags::empty(), None, ClockId::Monotonic);
        // Where the call is known, waiting for nothing is invalid.
        none == Err(Errno::INVAL)
    })
}

/// Sleeps while every word is as given, at most for `timeout`; a millisecond at most if there are too many of them, or if
/// the kernel cannot wait for several. The kernel alone reads the words, and refuses what is not mapped.
pub(crate) fn wait_any(words: impl Iterator<Item = (*const AtomicU32, u32)>, timeout: Duration) {
    const SHORT: Duration = Duration::from_millis(1);
    let mut waiters: Vec<futex::Wait> = words
        .map(|(word, expected)| {
            let mut waiter = futex::Wait::new();
            waiter.val = expected.into();
            waiter.uaddr = futex::WaitPtr::new(word.cast_mut().cast());
            waiter.flags = futex::WaitFlags::SIZE_U32;
            waiter
        })
        .collect();
    let timeout = if waiters.len() > MOST {
        timeout.min(SHORT)
    } else {
        timeout
    };
    waiters.truncate(MOST);
    let now = clock_gettime(ClockId::Monotonic);
    let end = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + timeout;
    let end = Timespec {
        tv_sec: end.as_secs() as i64,
        tv_nsec: end.subsec_nanos().into(),
    };
    let waited = futex::waitv(
        &waiters,
        futex::WaitvFlags::empty(),
        Some(&end),
        ClockId::Monotonic,
    );
    // Whatever ended it, the caller looks at the words again; only a call that did not wait at all must not end at once.
    if let Err(Errno::NOSYS | Errno::PERM) = waited {
        std::thread::sleep(timeout.min(SHORT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    #[test]
    fn the_greatest_count_wakes_all() {
        // Catches a count that the kernel takes for a negative number: it then wakes one of several sleepers.
        let word = AtomicU32::new(0);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let tell = tell.clone();
                let word = &word;
                scope.spawn(move || {
                    tell.send(rustix::thread::gettid()).unwrap();
                    wait(word, 0, Duration::from_secs(20));
                });
            }
            let tasks: Vec<_> = told.iter().take(3).collect();
            let asleep = |task: &rustix::thread::Pid| {
                let path = format!("/proc/self/task/{task}/syscall");
                std::fs::read_to_string(path).is_ok_and(|call| {
                    // Asleep in the call, and not elsewhere: its first argument is the word.
                    call.contains(&format!("{:#x}", &raw const word as usize))
                })
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            while !tasks.iter().all(asleep) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let woken = wake(&word, u32::MAX);
            // So that nobody is left asleep when this fails.
            word.store(1, std::sync::atomic::Ordering::SeqCst);
            for _ in 0..3 {
                wake(&word, 1);
            }
            assert_eq!(woken, 3);
        });
    }
}
