//! How long to poll before a sleep: about what a wake-up costs on this machine, and not at all on a single CPU.
//!
//! Polling for as long as a wake-up takes, and then sleeping, is never more than twice as dear as what a clairvoyant
//! would do. What a wake-up costs differs a hundredfold between machines, so it is measured: a publisher stamps the
//! event with the time when it wakes somebody, and the woken one tells how late it is. One average for the process.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Until something has been measured: right for virtual machines, where a wake-up costs most.
const UNMEASURED: Duration = Duration::from_micros(50);

/// Longer polling has never paid.
const MOST: Duration = Duration::from_micros(100);

/// A later wake-up says that the CPUs were busy, or that the clocks differ, and nothing of what a wake-up costs.
const PLAUSIBLE_MICROS: u32 = 500;

/// Sixteenths of a microsecond; zero if nothing has been measured.
static AVERAGE: AtomicU32 = AtomicU32::new(0);

/// How many CPUs this process may use; zero if nobody has looked.
static CPUS: AtomicU32 = AtomicU32::new(0);

/// Takes in that a wake-up took so many microseconds.
pub(super) fn learn(micros: u32) {
    if micros > PLAUSIBLE_MICROS {
        return;
    }
    let sample = micros * 16 + 8;
    let average = match AVERAGE.load(Relaxed) {
        0 => sample,
        average => average - average / 8 + sample / 8,
    };
    // Two threads may overwrite each other's sample: it is an average.
    AVERAGE.store(average.max(1), Relaxed);
}

/// Asks anew how many CPUs this process may use. Worth it before a sleep, which costs a hundred times as much.
pub(super) fn look_at_cpus() {
    let cpus = rustix::thread::sched_getaffinity(None).map_or(2, |set| set.count());
    CPUS.store(cpus.max(1), Relaxed);
}

/// How long to poll.
pub(super) fn spin() -> Duration {
    if CPUS.load(Relaxed) == 0 {
        look_at_cpus();
    }
    if CPUS.load(Relaxed) == 1 {
        // Whoever we wait for cannot run while we poll.
        return Duration::ZERO;
    }
    match AVERAGE.load(Relaxed) {
        0 => UNMEASURED,
        average => Duration::from_nanos(u64::from(average) * 1000 / 16).min(MOST),
    }
}
