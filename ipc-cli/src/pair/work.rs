//! What the processes of a pair do.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipc_core::Message as Plain;
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_ring::spsc::{Consumer, Ring};
use ipc_ring::{PopError, Ring as _};
use serde::{Deserialize, Serialize};

use super::control::{self, Control, clock, wait_for};
use super::latency::{self, Measured};
use super::message::{self, Message};
use crate::cpus;

/// The names of the rings in the segment.
pub(super) const STREAM: &str = "stream";
pub(super) const THERE: &str = "there";
pub(super) const BACK: &str = "back";

/// How many messages there shall be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Messages(u64),
    Time(Duration),
}

/// What both processes are told.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) cpus: Option<[usize; 2]>,
    pub(super) until: Until,
    pub(super) round_trips: u32,
    pub(super) batch: usize,
    pub(super) wait: Wait,
}

/// What a consumer reports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Consumed {
    /// The number of the first message it took, and of the one after the last.
    pub(super) first: u64,
    pub(super) end: u64,
    /// From the begin of the stream to its end.
    pub(super) seconds: f64,
}

/// What one of the processes works with, after a fork.
struct Place<const N: usize> {
    control: Control,
    stream: Ring<Message<N>>,
    there: Ring<Message<N>>,
    back: Ring<Message<N>>,
}

impl<const N: usize> Place<N>
where
    Message<N>: Plain,
{
    fn take(segment: &Segment, plan: &Plan, side: usize) -> Result<Self> {
        if let Some(cpus) = plan.cpus {
            cpus::pin(cpus[side])?;
        }
        let segment = segment.rejoin()?;
        segment.learn(&[control::KIND]);
        Ok(Self {
            control: Control::new(&segment.object(control::NAME)?)?,
            stream: Ring::in_segment(&segment, STREAM)?,
            there: Ring::in_segment(&segment, THERE)?,
            back: Ring::in_segment(&segment, BACK)?,
        })
    }
}

/// The producer: measures latency, then streams.
pub(super) fn produce<const N: usize>(segment: &Segment, plan: &Plan) -> Result<Measured>
where
    Message<N>: Plain,
{
    let place = Place::<N>::take(segment, plan, 0)?;
    let control = &place.control;
    let measured = {
        let (mut there, mut back) = (place.there.producer()?, place.back.consumer()?);
        there.set_wait(plan.wait);
        back.set_wait(plan.wait);
        control.line_up();
        latency::throw(&mut there, &mut back, control, plan)?
    };
    let mut stream = place.stream.producer()?;
    stream.set_wait(plan.wait);
    control.began.store(clock(), Release);
    let mut batch = vec![[0; N]; plan.batch];
    let mut pushed = 0;
    let deadline = match plan.until {
        Until::Time(time) => Some(Instant::now() + time),
        Until::Messages(_) => None,
    };
    let wanted = match plan.until {
        Until::Messages(messages) => messages,
        Until::Time(_) => u64::MAX,
    };
    while pushed < wanted {
        // The clock is read once in 1,024 messages or more.
        let burst = (wanted - pushed).min(1024.max(plan.batch as u64));
        let end = pushed + burst;
        while pushed < end {
            let count = plan.batch.min((end - pushed) as usize);
            for (number, message) in (pushed..).zip(&mut batch[..count]) {
                message::write(message, number);
            }
            push(&mut stream, &batch[..count])?;
            pushed += count as u64;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
    }
    control.total.store(pushed + 1, Release);
    stream.close();
    Ok(measured)
}

/// Pushes all, if need be to the next consumer after the death of one.
#[inline]
fn push<const N: usize>(
    stream: &mut ipc_ring::spsc::Producer<Message<N>>,
    mut messages: &[Message<N>],
) -> Result<()>
where
    Message<N>: Plain,
{
    if let [message] = messages {
        match stream.push(*message) {
            Ok(()) => return Ok(()),
            Err(ipc_ring::PushError::PeerDead(_)) => {}
            Err(error) => return Err(error.map(drop).into()),
        }
    }
    loop {
        match stream.push_slice(messages) {
            Ok(()) => return Ok(()),
            Err(ipc_ring::PushError::PeerDead(done)) => messages = &messages[done..],
            Err(error) => return Err(error.map(drop).into()),
        }
    }
}

/// The first consumer: answers the producer's pings, then takes the stream.
pub(super) fn consume<const N: usize>(segment: &Segment, plan: &Plan) -> Result<Consumed>
where
    Message<N>: Plain,
{
    let place = Place::<N>::take(segment, plan, 1)?;
    let control = &place.control;
    {
        let (mut there, mut back) = (place.there.consumer()?, place.back.producer()?);
        there.set_wait(plan.wait);
        back.set_wait(plan.wait);
        control.line_up();
        latency::catch(&mut there, &mut back, control, plan)?;
    }
    drain(&place, plan, 0)
}

/// The consumer that takes over from one that was killed.
pub(super) fn take_over<const N: usize>(segment: &Segment, plan: &Plan) -> Result<Consumed>
where
    Message<N>: Plain,
{
    let place = Place::<N>::take(segment, plan, 1)?;
    place.control.ready.add(1, Release);
    let resume = wait_for(&place.control.resume) - 1;
    drain(&place, plan, resume)
}

/// Takes the stream to its end, and verifies every message of it from `first` on.
fn drain<const N: usize>(place: &Place<N>, plan: &Plan, first: u64) -> Result<Consumed>
where
    Message<N>: Plain,
{
    let control = &place.control;
    let mut stream = place.stream.consumer()?;
    stream.set_wait(plan.wait);
    let mut batch = vec![[0; N]; plan.batch];
    let mut next = first;
    loop {
        let count = match pop(&mut stream, &mut batch) {
            Ok(count) => count,
            Err(PopError::Closed) => break,
            Err(error) => return Err(error.into()),
        };
        for message in &batch[..count] {
            ensure!(
                message::is(message, next),
                "instead of message {next} came one that says it is {}, or its checksum is wrong",
                message::number(message)
            );
            next += 1;
        }
        control.verified.store(next, Release);
    }
    let seconds = (clock() - control.began.load(Acquire)) as f64 / 1e9;
    let total = control.total.load(Acquire);
    ensure!(
        total == next + 1,
        "the stream ended after message {next}, but its producer pushed {}",
        total.wrapping_sub(1)
    );
    Ok(Consumed {
        first,
        end: next,
        seconds,
    })
}

#[inline]
fn pop<const N: usize>(
    stream: &mut Consumer<Message<N>>,
    batch: &mut [Message<N>],
) -> Result<usize, PopError>
where
    Message<N>: Plain,
{
    if let [message] = batch {
        *message = stream.pop()?;
        return Ok(1);
    }
    stream.pop_into(batch)
}
