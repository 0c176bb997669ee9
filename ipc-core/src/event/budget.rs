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

/// Whether the machine has one CPU, plus one; zero if nobody has looked.
static ALONE: AtomicU32 = AtomicU32::new(0);

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

/// Whether the machine has a single CPU. What this process may use is another question: one that is pinned to a CPU
/// mostly waits for one that is pinned to another, and then polling is just what it wants.
fn is_alone() -> bool {
    match ALONE.load(Relaxed) {
        0 => {
            // A list such as "0-3,6". Where there is none, polling for a little does no harm.
            let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
            let alone = online.is_ok_and(|list| list.trim().parse::<u32>().is_ok());
            ALONE.store(1 + u32::from(alone), Relaxed);
            alone
        }
        known => known == 2,
    }
}

/// How long to poll.
pub(super) fn spin() -> Duration {
    if is_alone() {
        // Whoever we wait for cannot run while we poll.
        return Duration::ZERO;
    }
    match AVERAGE.load(Relaxed) {
        0 => UNMEASURED,
        average => Duration::from_nanos(u64::from(average) * 1000 / 16).min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    // Would catch a budget taken from the CPUs of the process: two processes that were pinned to a CPU each slept for
    // every single message then, and took 30 times as long.
    #[test]
    fn who_is_pinned_to_a_cpu_polls_all_the_same() {
        if is_alone() {
            println!("skipped: the machine has one CPU");
            return;
        }
        let allowed = sched_getaffinity(None).expect("the kernel tells");
        let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu));
        let mut one = CpuSet::new();
        one.set(cpu.expect("at least one"));
        sched_setaffinity(None, &one).expect("it is allowed");
        ALONE.store(0, Relaxed);
        assert!(!spin().is_zero());
        sched_setaffinity(None, &allowed).expect("it was so before");
    }
}
