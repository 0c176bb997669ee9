//! The loops that measure: a stream of messages one way, and a message there and back.
//!
//! Every message carries its number, and its words add up to a known sum: the receiver reads every word and fails the run
//! if one is wrong.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::process::{self, Member};
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
    /// The CPUs of the processes.
    pub cpus: Vec<usize>,
}

/// One-way latencies in nanoseconds: half of a round trip.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Latency {
    /// Half of all trips took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p99_9: f64,
    /// 9,999 of 10,000.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

/// The word at `at` of every message, but for the first, which holds the number of the message.
fn filler(at: usize) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A batch of messages whose numbers are still to be set.
fn prepared(words: usize, batch: usize) -> Vec<u64> {
    (0..words * batch).map(|at| filler(at % words)).collect()
}

/// Whether a message is the one of that number, every word of it.
#[inline]
fn is_intact(message: &Words, number: u64, filler_sum: u64) -> bool {
    let sum = message[1..]
        .iter()
        .fold(0_u64, |sum, word| sum.wrapping_add(*word));
    message[0] == number && sum == filler_sum
}

fn filler_sum(words: usize) -> u64 {
    (1..words).map(filler).fold(0, u64::wrapping_add)
}

/// Nanoseconds per message of a stream from one process to another, measured where it arrives. The first tenth warms up.
pub fn stream<T: Transport>(case: &Case) -> Result<f64> {
    let words = case.shape.payload / 8;
    let transport = T::create(&case.shape)?;
    let warm = case.messages / 10;
    let results = process::run(&case.cpus, |member| {
        if member.rank == 0 {
            let mut tx = transport.tx()?;
            let mut messages = prepared(words, case.batch);
            member.barrier();
            let mut number = 0;
            while number < case.messages {
                let count = case.batch.min((case.messages - number) as usize);
                for message in messages.chunks_exact_mut(words).take(count) {
                    message[0] = number;
                    number += 1;
                }
                if case.batch == 1 {
                    tx.send(&messages)?;
                } else {
                    tx.send_batch(&messages[..count * words], words)?;
                }
            }
        } else {
            let mut rx = transport.rx()?;
            let expected = filler_sum(words);
            let mut messages = vec![0; words * case.batch];
            member.barrier();
            let (mut number, mut start) = (0, None);
            while number < case.messages {
                let count = if case.batch == 1 {
                    rx.receive(&mut messages)?;
                    1
                } else {
                    rx.receive_batch(&mut messages, words)?
                };
                for message in messages.chunks_exact(words).take(count) {
                    ensure!(
                        is_intact(message, number, expected),
                        "message {number} arrived wrong"
                    );
                    number += 1;
                }
                if start.is_none() && number >= warm {
                    start = Some((number, Instant::now()));
                }
            }
            let Some((first, start)) = start else {
                bail!("a stream without messages")
            };
            let elapsed = start.elapsed().as_nanos() as f64;
            member.report(
                0,
                (elapsed / (case.messages - first).max(1) as f64).to_bits(),
            );
        }
        // An end that goes away while the other still works is not what is measured.
        member.barrier();
        Ok(())
    })?;
    Ok(f64::from_bits(results[1][0]))
}

/// One-way latencies of single messages: half of the time there and back.
pub fn ping_pong<T: Transport>(case: &Case) -> Result<Latency> {
    let words = case.shape.payload / 8;
    let (there, back) = (T::create(&case.shape)?, T::create(&case.shape)?);
    let results = process::run(&case.cpus, |member| {
        let expected = filler_sum(words);
        let mut message = prepared(words, 1);
        if member.rank == 0 {
            let (mut tx, mut rx) = (there.tx()?, back.rx()?);
            let mut times = Times::new()?;
            member.barrier();
            for number in 0..case.messages {
                message[0] = number;
                let start = ticks();
                tx.send(&message)?;
                rx.receive(&mut message)?;
                let elapsed = ticks().wrapping_sub(start);
                ensure!(
                    is_intact(&message, number, expected),
                    "message {number} came back wrong"
                );
                if number >= case.messages / 10 {
                    times.record(elapsed);
                }
            }
            times.report(member);
        } else {
            let (mut rx, mut tx) = (there.rx()?, back.tx()?);
            member.barrier();
            for _ in 0..case.messages {
                rx.receive(&mut message)?;
                tx.send(&message)?;
            }
        }
        member.barrier();
        Ok(())
    })?;
    Ok(Latency::reported(&results[0]))
}

/// Ticks beyond which a round trip is counted as that long: about half a minute.
const LONGEST: u64 = 100_000_000_000;

/// Round trips of one process, in ticks.
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

    /// Adds one round trip.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.ticks.saturating_record(ticks);
    }

    /// Leaves the one-way times for the parent.
    pub fn report(&self, member: &Member) {
        let half = |ticks: u64| (self.clock.nanoseconds(ticks) / 2.0).to_bits();
        for (at, quantile) in [0.5, 0.9, 0.99, 0.999, 0.9999].into_iter().enumerate() {
            member.report(at, half(self.ticks.value_at_quantile(quantile)));
        }
        member.report(5, half(self.ticks.max()));
    }
}

impl Latency {
    /// What [`Times::report`] left.
    pub fn reported(results: &[u64]) -> Self {
        let at = |index: usize| results.get(index).copied().map_or(f64::NAN, f64::from_bits);
        Self {
            p50: at(0),
            p90: at(1),
            p99: at(2),
            p99_9: at(3),
            p99_99: at(4),
            max: at(5),
        }
    }
}

/// A clock that costs a few nanoseconds to read.
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
}

/// Now, in ticks.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Now, in ticks.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_nsec as u64
}
