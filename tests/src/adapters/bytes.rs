//! The rings of records: `bytes` and `lanes`. A record is made so long that it takes just 64 bytes.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::{Place, Segment, SegmentError};
use ipc_ring::{ONLY, PopError, PushError, Ring as _, bytes, lanes};

use super::{Consumer, Kind, Message, Opened, Producer, Ring, message};

/// Bytes that a record takes, with its header.
pub(super) const EXTENT: usize = 64;

/// Where `docs/layout.md` draws the first lane, and its arena.
const LANE: usize = 256;
const ARENA: usize = 512;

pub(super) const BYTES: Kind = Kind {
    name: "bytes",
    many_producers: false,
    many_consumers: false,
    keeps: true,
    lends: true,
    marks_redelivery: true,
    exact: true,
    create: |place, capacity| {
        let options = bytes::Ring::options().capacity(arena(capacity));
        boxed(options.create(place))
    },
    open: |place: Place| boxed(bytes::Ring::open(place)),
    start_at: Some(start_at),
};

pub(super) const LANES: Kind = Kind {
    name: "lanes",
    many_producers: true,
    create: |place, capacity| {
        let options = lanes::Ring::options().capacity(arena(capacity)).lanes(8);
        boxed(options.create(place))
    },
    open: |place: Place| boxed(lanes::Ring::open(place)),
    ..BYTES
};

fn boxed<R, S>(ring: Result<R, SegmentError>) -> Result<Box<dyn Ring>, SegmentError>
where
    R: ipc_ring::Ring<Producer = bytes::Producer<S>, Consumer = bytes::Consumer> + 'static,
    S: bytes::SendRecords<Memory = Mapped> + 'static,
{
    let ring = Opened {
        ring: ring?,
        extent: EXTENT,
        producer: |end, _| Box::new(end),
        consumer: |end, _| Box::new(end),
    };
    Ok(ring.boxed())
}

/// Bytes for so many messages; where there can be no such ring, a number that is refused.
pub(super) fn arena(messages: usize) -> usize {
    messages
        .checked_mul(EXTENT)
        .filter(|_| messages.is_power_of_two())
        .unwrap_or(messages)
}

fn start_at(segment: &Segment, position: u64) {
    let object = segment.object(ONLY).unwrap();
    let [capacity, lanes] = object.entry().parameters;
    for lane in 0..lanes as usize {
        let at = LANE + lane * (ARENA + capacity as usize).next_multiple_of(128);
        for at in [at, at + 128] {
            let position = position.wrapping_mul(EXTENT as u64);
            object.area().word64(at).unwrap().store(position, Relaxed);
        }
    }
}

/// How long a record is: as long as it may be where there is room for one only.
pub(super) fn len(capacity: usize) -> usize {
    (EXTENT - 8).min(capacity / 2)
}

/// The words of the message, cut off or filled with more of their kind.
pub(super) fn record(number: u64, len: usize) -> Vec<u8> {
    let words: Message = message(number);
    words
        .iter()
        .cycle()
        .flat_map(|word| word.to_ne_bytes())
        .take(len)
        .collect()
}

pub(super) fn number(received: &[u8], len: usize) -> u64 {
    if super::rubbish_is_expected() {
        return 0;
    }
    let number = u64::from_ne_bytes(received[..8].try_into().unwrap());
    assert_eq!(received, record(number, len), "a torn message");
    number
}

/// Pushes as many of the numbers as there is room for, where a kind knows no batches.
pub(super) fn one_by_one(
    numbers: &[u64],
    mut push: impl FnMut(u64) -> Result<(), PushError<()>>,
) -> Result<usize, PushError<()>> {
    for (done, number) in numbers.iter().enumerate() {
        match push(*number) {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
    }
    Ok(numbers.len())
}

impl<S: bytes::SendRecords<Memory = Mapped>> Producer for bytes::Producer<S> {
    fn set_wait(&mut self, wait: Wait) {
        self.set_wait(wait);
    }

    fn try_push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.try_push(&record(number, len(self.capacity())))
    }

    fn push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.push(&record(number, len(self.capacity())))
    }

    fn push_until(&mut self, number: u64, deadline: Instant) -> Result<(), PushError<()>> {
        self.push_until(&record(number, len(self.capacity())), deadline)
    }

    fn try_push_slice(&mut self, numbers: &[u64]) -> Result<usize, PushError<()>> {
        let len = len(self.capacity());
        let records: Vec<_> = numbers.iter().map(|number| record(*number, len)).collect();
        self.try_push_batch(&records)
            .map_err(|error| error.map(|_| ()))
    }

    fn push_slice(&mut self, numbers: &[u64]) -> Result<(), PushError<usize>> {
        let len = len(self.capacity());
        let records: Vec<_> = numbers.iter().map(|number| record(*number, len)).collect();
        self.push_batch(&records)
    }

    fn reserve_and_commit(&mut self, number: u64) -> Result<(), PushError<()>> {
        let record = record(number, len(self.capacity()));
        let mut place = self.try_reserve(record.len())?;
        // In two pieces, the second one first.
        place.write_at(16, &record[16..]);
        place.write_at(0, &record[..16]);
        place.commit()
    }

    fn reserve_and_drop(&mut self) -> Result<(), PushError<()>> {
        let rubbish = vec![0xff; len(self.capacity())];
        self.try_reserve(rubbish.len())?.write_at(0, &rubbish);
        Ok(())
    }

    #[allow(clippy::forget_non_drop, reason = "that it needs none is its secret")]
    fn reserve_and_forget(&mut self) -> Result<(), PushError<()>> {
        let rubbish = vec![0xff; len(self.capacity())];
        let mut place = self.try_reserve(rubbish.len())?;
        place.write_at(0, &rubbish);
        std::mem::forget(place);
        Ok(())
    }

    fn close(self: Box<Self>) {
        (*self).close();
    }
}

impl Consumer for bytes::Consumer {
    fn set_wait(&mut self, wait: Wait) {
        self.set_wait(wait);
    }

    fn try_pop(&mut self) -> Result<u64, PopError> {
        let mut received = Vec::new();
        self.try_pop(&mut received)?;
        Ok(number(&received, len(self.capacity())))
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        let mut received = Vec::new();
        self.pop(&mut received)?;
        Ok(number(&received, len(self.capacity())))
    }

    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError> {
        let mut received = [0; EXTENT];
        let count = self.pop_into_until(&mut received, deadline)?;
        Ok(number(&received[..count], len(self.capacity())))
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        let len = len(self.capacity());
        let message = self.try_read()?;
        done(number(&message.to_vec(), len), message.is_redelivered());
        message.release();
        Ok(())
    }

    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        let len = len(self.capacity());
        Ok(number(&self.try_read()?.to_vec(), len))
    }

    #[allow(clippy::forget_non_drop, reason = "that it needs none is its secret")]
    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        let len = len(self.capacity());
        let message = self.try_read()?;
        let number = number(&message.to_vec(), len);
        std::mem::forget(message);
        Ok(number)
    }

    fn close(self: Box<Self>) {
        (*self).close();
    }
}
