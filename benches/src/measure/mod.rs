//! The loops that measure, for any transport.
//!
//! Every message carries its number, and its other words are known: the receiver reads every word and fails the run if one
//! is wrong.

mod crowd;
mod fan;
mod stream;
mod trips;

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::process::Member;
use crate::transport::{Rx, Shape, Transport, Tx, Words};

/// One measurement.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the transport is made for.
    pub shape: Shape,
    /// Messages sent with one call.
    pub batch: usize,
    /// Messages in the whole run.
    pub messages: u64,
    /// The CPUs that the processes are spread over.
    pub cpus: Vec<usize>,
}

/// What can be measured, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// A stream from one process to another: nanoseconds per message.
    Stream,
    /// The same, written and read where it lies.
    InPlace,
    /// A message there and back: the [`PERCENTILES`] of half the time it took.
    Trips,
    /// Messages sent at fixed times, this many nanoseconds apart, whatever became of the earlier ones: the
    /// [`PERCENTILES`] of the time from when each should have been sent until it had arrived.
    OpenLoop(f64),
    /// Several producers and consumers, each message to one of them: nanoseconds per message.
    Crowd,
    /// A producer and several readers, each message to all of them: nanoseconds of the producer per message.
    Fan,
    /// A stream again: nanoseconds of CPU time per message, of both sides together.
    Cpu,
    /// A stream again: system calls per message, of both sides together.
    Calls,
    /// A receiver that nothing is sent to: nanoseconds of its CPU time in a second.
    Idle,
    /// A message there and back after this many nanoseconds of silence: the median of half the time it took.
    AfterIdle(f64),
    /// The first message of a transport: nanoseconds from when it did not exist until it had arrived.
    First,
}

/// Results, in the order of the measure's metrics.
pub type Values = Vec<f64>;

/// What is told of a distribution.
pub const PERCENTILES: [(f64, &str); 5] = [
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

/// Measures a transport; `None` if it cannot take part.
pub fn over<T: Transport>(what: Measure, case: &Case) -> Option<Result<Values>> {
    if !T::fits(&case.shape) {
        return None;
    }
    Some(match what {
        Measure::OpenLoop(interval) => trips::open_loop::<T>(case, interval),
        Measure::Cpu => stream::cpu::<T>(case),
        Measure::Calls => stream::calls::<T>(case),
        Measure::Idle => stream::idle::<T>(case),
        Measure::AfterIdle(silence) => {
            trips::trips::<T>(case, Duration::from_nanos(silence as u64))
        }
        Measure::First => stream::first::<T>(case),
        _ => return over_most::<T>(what, case),
    })
}

/// The same without the measures that have one size only, which spares the compiler the others.
pub fn over_most<T: Transport>(what: Measure, case: &Case) -> Option<Result<Values>> {
    if !T::fits(&case.shape) {
        return None;
    }
    Some(match what {
        Measure::Crowd => crowd::crowd::<T>(case),
        Measure::Fan => fan::fan::<T>(case),
        _ => return over_pair::<T>(what, case),
    })
}

/// The same for pairs of processes, and what takes part at a rate of its own.
pub fn over_paced<T: Transport>(what: Measure, case: &Case) -> Option<Result<Values>> {
    if !T::fits(&case.shape) {
        return None;
    }
    Some(match what {
        Measure::OpenLoop(interval) => trips::open_loop::<T>(case, interval),
        Measure::Cpu => stream::cpu::<T>(case),
        _ => return over_pair::<T>(what, case),
    })
}

/// The same for pairs of processes alone.
pub fn over_pair<T: Transport>(what: Measure, case: &Case) -> Option<Result<Values>> {
    if !T::fits(&case.shape) {
        return None;
    }
    Some(match what {
        Measure::Stream => stream::stream::<T>(case),
        Measure::InPlace if T::Tx::IN_PLACE && T::Rx::IN_PLACE => stream::in_place::<T>(case),
        Measure::Trips => trips::trips::<T>(case, Duration::ZERO),
        _ => return None,
    })
}

/// The word at `at` of every message, but for the first, which holds the number of the message.
fn filler(at: usize) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A batch of messages whose numbers are still to be set.
fn prepared(words: usize, batch: usize) -> Vec<u64> {
    (0..words * batch).map(|at| filler(at % words)).collect()
}

fn filler_sum(words: usize) -> u64 {
    (1..words).map(filler).fold(0, u64::wrapping_add)
}

/// Whether all words but the first are those of a message. Reads every one of them, from the first on: a message that was
/// just stored by wide registers is then loaded as it was stored. Loads across two stores have to wait for both, and for all
/// that was stored before them.
#[inline]
fn is_whole(message: &Words, filler_sum: u64) -> bool {
    let sum = message
        .iter()
        .fold(0_u64, |sum, word| sum.wrapping_add(*word));
    sum.wrapping_sub(message[0]) == filler_sum
}

/// Whether a message is the one of that number, every word of it.
#[inline]
fn is_intact(message: &Words, number: u64, filler_sum: u64) -> bool {
    is_whole(message, filler_sum) && message[0] == number
}

/// Ticks beyond which a time is counted as that long: about half a minute.
const LONGEST: u64 = 100_000_000_000;

/// Times of one process, in ticks.
pub struct Times {
    clock: Clock,
    ticks: Histogram<u64>,
}

impl Times {
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            clock: Clock::calibrate(),
            ticks: Histogram::new_with_max(LONGEST, 3)?,
        })
    }

    /// Adds one.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.ticks.saturating_record(ticks);
    }

    /// Leaves the [`PERCENTILES`] for the parent, in nanoseconds, each divided by `parts`. Of one that no time lies beyond,
    /// since there are too few of them, nothing is known.
    pub fn report(&self, member: &Member, parts: f64) {
        for (at, (quantile, _)) in PERCENTILES.iter().enumerate() {
            let beyond = self.ticks.len() as f64 * (1.0 - quantile);
            let known = beyond >= 1.0 || *quantile == 0.5;
            let ticks = self.ticks.value_at_quantile(*quantile);
            let time = self.clock.nanoseconds(ticks) / parts;
            member.report_number(at, if known { time } else { f64::NAN });
        }
    }
}

/// What [`Times::report`] left.
pub fn reported(results: &[u64]) -> Values {
    let numbers = results.iter().copied().map(f64::from_bits);
    numbers.take(PERCENTILES.len()).collect()
}

/// A clock that costs a few nanoseconds to read.
#[derive(Clone, Copy)]
pub struct Clock {
    nanoseconds_per_tick: f64,
}

impl Clock {
    /// Compares the ticks with the system's clock for a few milliseconds.
    pub fn calibrate() -> Self {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let passed = ticks().wrapping_sub(first);
        Self {
            nanoseconds_per_tick: start.elapsed().as_nanos() as f64 / passed as f64,
        }
    }

    /// A number of ticks in nanoseconds.
    pub fn nanoseconds(&self, ticks: u64) -> f64 {
        ticks as f64 * self.nanoseconds_per_tick
    }

    /// So many nanoseconds in ticks.
    pub fn ticks(&self, nanoseconds: f64) -> u64 {
        (nanoseconds / self.nanoseconds_per_tick) as u64
    }
}

/// Now, in ticks, the same in all processes.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Now, in ticks, the same in all processes.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
