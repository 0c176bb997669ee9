//! The latency of a ring, next to that of the two cache lines under it.
//!
//! Two processes throw one message to and fro, over two rings, and then one number, over two cache lines, in turns of a
//! few milliseconds: both see the same machine in the same moments. A round trip takes one reading of the clock in either
//! case; half of it is given as the way of one message.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use ipc_core::Mapped;
use ipc_core::memory::Word64;
use ipc_ring::spsc::{Consumer, Producer};
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::message::{self, Message};
use super::work::Plan;

/// Turns of the ring, and of the bare hop in between.
const TURNS: u32 = 24;

/// The longest turn, however few round trips it had time for.
const TURN: Duration = Duration::from_millis(20);

/// The number that ends a turn.
const END: u64 = (1 << 48) - 1;

/// Latencies of one way in nanoseconds: half a round trip.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// What a ping-pong measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) ring: Latency,
    /// Absent where both processes have one CPU: there is no hop then.
    pub(super) hop: Option<Latency>,
}

/// The side that throws first, and measures.
pub(super) fn throw<const N: usize>(
    there: &mut Producer<Message<N>>,
    back: &mut Consumer<Message<N>>,
    control: &Control,
    plan: &Plan,
) -> Result<Measured>
where
    Message<N>: ipc_core::Message,
{
    let (mut ring, mut hop) = (Histogram::new(3)?, Histogram::new(3)?);
    let trips = u64::from(plan.round_trips.div_ceil(TURNS));
    for turn in 0..=TURNS {
        if turn == 1 {
            // The first turn warmed caches and page tables.
            (ring, hop) = (Histogram::new(3)?, Histogram::new(3)?);
        }
        ring_turn(there, back, trips, &mut ring)?;
        if plan.cpus.is_some() {
            hop_turn(control, turn, trips, &mut hop)?;
        }
    }
    let mut message = [0; N];
    message::write(&mut message, END);
    there.push(message)?;
    Ok(Measured {
        ring: latency(&ring),
        hop: plan.cpus.is_some().then(|| latency(&hop)),
    })
}

/// The side that throws back, until it is told that it is over.
pub(super) fn catch<const N: usize>(
    there: &mut Consumer<Message<N>>,
    back: &mut Producer<Message<N>>,
    control: &Control,
    plan: &Plan,
) -> Result<()>
where
    Message<N>: ipc_core::Message,
{
    for turn in 0..=TURNS {
        for trip in 0.. {
            let message = there.pop()?;
            if message::is(&message, END) {
                break;
            }
            ensure!(message::is(&message, trip), "ping {trip} was not whole");
            back.push(message)?;
        }
        if plan.cpus.is_some() {
            answer_hops(control, turn);
        }
    }
    ensure!(message::is(&there.pop()?, END), "the end was not whole");
    Ok(())
}

fn ring_turn<const N: usize>(
    there: &mut Producer<Message<N>>,
    back: &mut Consumer<Message<N>>,
    trips: u64,
    times: &mut Histogram<u64>,
) -> Result<()>
where
    Message<N>: ipc_core::Message,
{
    let mut message = [0; N];
    let start = Instant::now();
    let mut before = start;
    for trip in 0..trips {
        message::write(&mut message, trip);
        there.push(message)?;
        let answer = back.pop()?;
        let after = Instant::now();
        ensure!(message::is(&answer, trip), "pong {trip} was not whole");
        times.record((after - before).as_nanos() as u64)?;
        if after - start > TURN {
            break;
        }
        before = Instant::now();
    }
    message::write(&mut message, END);
    there.push(message)?;
    Ok(())
}

/// The numbers of a turn are all its own, so that no old one is taken for a new one.
fn number(turn: u32, trip: u64) -> u64 {
    (u64::from(turn) + 1) << 32 | trip
}

fn hop_turn(control: &Control, turn: u32, trips: u64, times: &mut Histogram<u64>) -> Result<()> {
    let start = Instant::now();
    let mut before = start;
    for trip in 0..trips {
        let number = number(turn, trip);
        control.there.store(number, Release);
        poll(&control.back, |seen| seen == number);
        let after = Instant::now();
        times.record((after - before).as_nanos() as u64)?;
        if after - start > TURN {
            break;
        }
        before = Instant::now();
    }
    control.there.store(number(turn, END >> 16), Release);
    poll(&control.back, |seen| seen == number(turn, END >> 16));
    Ok(())
}

fn answer_hops(control: &Control, turn: u32) {
    let mut last = 0;
    while last != number(turn, END >> 16) {
        last = poll(&control.there, |seen| {
            seen != last && seen >= number(turn, 0)
        });
        control.back.store(last, Release);
    }
}

/// One polite pause between two looks.
#[inline]
fn poll(word: &Word64<Mapped>, found: impl Fn(u64) -> bool) -> u64 {
    loop {
        let seen = word.load(Acquire);
        if found(seen) {
            return seen;
        }
        std::hint::spin_loop();
    }
}

fn latency(round_trips: &Histogram<u64>) -> Latency {
    let half = |value: u64| value as f64 / 2.0;
    Latency {
        p50: half(round_trips.value_at_quantile(0.5)),
        p99: half(round_trips.value_at_quantile(0.99)),
        p999: half(round_trips.value_at_quantile(0.999)),
        max: half(round_trips.max()),
    }
}
