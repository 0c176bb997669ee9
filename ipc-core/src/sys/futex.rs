//! Sleeping on a word that other processes map as well (`futex`, without the private flag).

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex;

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
    let woken = futex::wake(word, futex::Flags::empty(), count);
    woken.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
}
