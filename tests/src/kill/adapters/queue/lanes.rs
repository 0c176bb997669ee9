//! The kinds made of byte rings: lanes, and the channel.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_ring::{ClaimError, Options, PopError, PushError, Ring as _, channel, lanes};

use super::kinds::{Bytes, Finish, Queue, ROLES, ring_functions};
use crate::kill::parcel::Parcel;

/// Two lanes. A bystander has one of them, so that the victim finds its messages in the other.
#[derive(Clone, Copy)]
pub(in crate::kill) struct Lanes;

/// How many there are.
const LANES: usize = 2;

/// Numbers from here on are the second victim's, from [`NEW`](super::NEW) on the first one's.
const SENDERS: [u64; 3] = [super::NEW, super::OTHER, super::LAST - 1];

impl Queue for Lanes {
    const KIND: &'static str = "lanes";
    const ACCOUNT: &'static str = "\
What was not published or committed is as if it had never begun; nothing in the ring needs repair. The lane of a dead \
producer is free as soon as somebody asks for one and no other is free; what it had published is taken in its turn. A \
consumer is not told that a producer died, since there are others; a producer that has to wait is told once that its \
consumer died. Records of two producers are in no order, and shown here in the order of their numbers.";
    const EXCLUSIVE: bool = true;
    const TELLS: bool = false;
    const CAPACITY: usize = Bytes::CAPACITY;
    type Ring = lanes::Ring;
    type Producer = lanes::Producer;
    type Consumer = lanes::Consumer;

    ring_functions!();

    fn options() -> Options<Self::Ring> {
        lanes::Ring::options().lanes(LANES)
    }
    fn bystander(ring: &Self::Ring) -> Result<Option<Self::Producer>> {
        Ok(Some(ring.producer()?))
    }
    fn every_part(ring: &Self::Ring) -> Result<()> {
        let all: Vec<_> = (0..LANES)
            .map(|_| ring.producer())
            .collect::<Result<_, _>>()?;
        ensure!(
            matches!(ring.producer(), Err(ClaimError::NoLane { .. })),
            "a lane too many beside {}",
            all.len()
        );
        Ok(())
    }
    fn in_order(mut taken: Vec<u64>) -> Result<Vec<u64>> {
        let sender = |number: &u64| SENDERS.iter().filter(|first| number >= first).count();
        for one in 0..=SENDERS.len() {
            let own: Vec<_> = taken
                .iter()
                .filter(|number| sender(number) == one)
                .collect();
            ensure!(
                own.is_sorted(),
                "the records of one producer come out of order: {own:?}"
            );
        }
        taken.sort_unstable();
        Ok(taken)
    }

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>> {
        Bytes::push(on, number, until)
    }
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>> {
        Bytes::try_push(on, number)
    }
    fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()> {
        Bytes::push_batch(on, numbers)
    }
    fn push_whole(on: &mut Self::Producer, numbers: [u64; 3], until: Instant) -> Result<()> {
        Bytes::push_whole(on, numbers, until)
    }
    fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()> {
        Bytes::reserve(on, number, commit)
    }
    fn pop(from: &mut Self::Consumer, until: Instant) -> Result<Parcel, PopError> {
        Bytes::pop(from, until)
    }
    fn try_pop(from: &mut Self::Consumer) -> Result<Parcel, PopError> {
        Bytes::try_pop(from)
    }
    fn pop_batch(from: &mut Self::Consumer) -> Result<()> {
        Bytes::pop_batch(from)
    }
    fn pop_waiting(from: &mut Self::Consumer, until: Instant) -> Result<()> {
        Bytes::pop_waiting(from, until)
    }
    fn read(from: &mut Self::Consumer, finish: Finish) -> Result<()> {
        Bytes::read(from, finish)
    }
    fn while_reserved(on: &mut Self::Producer, act: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        Bytes::while_reserved(on, act)
    }
    fn while_lent(from: &mut Self::Consumer, act: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        Bytes::while_lent(from, act)
    }
}

/// The channel, with one lane.
#[derive(Clone, Copy)]
pub(in crate::kill) struct Channel;

/// A parcel as a value with an encoding.
type Value = (u64, u64, u64);

fn value(number: u64) -> Value {
    let words: [u64; 3] = bytemuck::cast(Parcel::new(number));
    words.into()
}

fn refused(error: channel::PushError) -> PushError<()> {
    match error {
        channel::PushError::Ring(error) => error,
        _ => PushError::Corrupt(()),
    }
}

fn parcel(popped: Result<Value, channel::PopError>) -> Result<Parcel, PopError> {
    match popped {
        Ok(value) => Ok(bytemuck::cast(<[u64; 3]>::from(value))),
        Err(channel::PopError::Ring(error)) => Err(error),
        Err(_) => Err(PopError::Corrupt),
    }
}

impl Queue for Channel {
    const KIND: &'static str = "channel";
    const ACCOUNT: &'static str = ROLES;
    const EXCLUSIVE: bool = true;
    const LENDS: bool = false;
    // A value is tried in a place that is larger than it needs, which may leave the rest before the seam unused.
    const FIRM: bool = false;
    const CAPACITY: usize = Bytes::CAPACITY;
    type Ring = channel::Ring<Value>;
    type Producer = channel::Producer<Value>;
    type Consumer = channel::Consumer<Value>;

    ring_functions!();

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>> {
        on.push_until(&value(number), until).map_err(refused)
    }
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>> {
        on.try_push(&value(number)).map_err(refused)
    }
    fn push_batch(_: &mut Self::Producer, _: [u64; 3]) -> Result<()> {
        bail!("a channel has no batches")
    }
    fn push_whole(_: &mut Self::Producer, _: [u64; 3], _: Instant) -> Result<()> {
        bail!("a channel has no batches")
    }
    fn reserve(_: &mut Self::Producer, _: u64, _: bool) -> Result<()> {
        bail!("a channel gives out no places")
    }
    fn pop(from: &mut Self::Consumer, until: Instant) -> Result<Parcel, PopError> {
        parcel(from.pop_until(until))
    }
    fn try_pop(from: &mut Self::Consumer) -> Result<Parcel, PopError> {
        parcel(from.try_pop())
    }
    fn pop_batch(_: &mut Self::Consumer) -> Result<()> {
        bail!("a channel has no batches")
    }
    fn pop_waiting(_: &mut Self::Consumer, _: Instant) -> Result<()> {
        bail!("a channel has no batches")
    }
    fn read(_: &mut Self::Consumer, _: Finish) -> Result<()> {
        bail!("a channel lends nothing")
    }
    fn while_reserved(_: &mut Self::Producer, _: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        bail!("a channel gives out no places")
    }
    fn while_lent(_: &mut Self::Consumer, _: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        bail!("a channel lends nothing")
    }
}
