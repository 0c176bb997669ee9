//! `channel`, of values whose encoding takes just 64 bytes with its header, as the records of the other kinds do.

use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::{Place, Segment, SegmentError};
use ipc_ring::channel::{self, Codec, CodecError};
use ipc_ring::{PopError, PushError, Ring as _};

use super::bytes::{self, BYTES, EXTENT, arena, len, number, record};
use super::{Consumer, Kind, Producer, Ring};

/// The bytes themselves.
#[derive(Debug)]
enum Raw {}

impl Codec<Vec<u8>> for Raw {
    fn encode(value: &Vec<u8>, mut sink: impl FnMut(&[u8])) -> Result<(), CodecError> {
        sink(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

type Channel = channel::Ring<Vec<u8>, Raw>;

pub(super) const CHANNEL: Kind = Kind {
    name: "channel",
    many_producers: true,
    lends: false,
    marks_redelivery: false,
    // A value is written where there is room for a longer one.
    exact: false,
    create: |place, capacity| {
        let options = Channel::options().capacity(arena(capacity)).lanes(8);
        boxed(options.create(place))
    },
    open: |place: Place| boxed(Channel::open(place)),
    ..BYTES
};

fn boxed(ring: Result<Channel, SegmentError>) -> Result<Box<dyn Ring>, SegmentError> {
    Ok(Box::new(ring?))
}

impl Ring for Channel {
    fn producer(&self) -> Box<dyn Producer> {
        Box::new(Sender {
            end: ipc_ring::Ring::producer(self).unwrap(),
            len: len(ipc_ring::Ring::capacity(self)),
        })
    }

    fn consumer(&self) -> Box<dyn Consumer> {
        Box::new(Receiver {
            end: ipc_ring::Ring::consumer(self).unwrap(),
            len: len(ipc_ring::Ring::capacity(self)),
        })
    }

    fn rejoin(&self) -> Box<dyn Ring> {
        Box::new(ipc_ring::Ring::rejoin(self).unwrap())
    }

    fn segment(&self) -> &Segment {
        ipc_ring::Ring::segment(self)
    }

    fn close(&self) {
        ipc_ring::Ring::close(self);
    }

    fn len(&self) -> usize {
        ipc_ring::Ring::len(self)
    }

    fn capacity(&self) -> usize {
        ipc_ring::Ring::capacity(self) / EXTENT
    }
}

struct Sender {
    end: channel::Producer<Vec<u8>, Raw>,
    len: usize,
}

fn refused(error: channel::PushError) -> PushError<()> {
    match error {
        channel::PushError::Ring(error) => error,
        other => panic!("{other}"),
    }
}

impl Producer for Sender {
    fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    fn try_push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.end
            .try_push(&record(number, self.len))
            .map_err(refused)
    }

    fn push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.end.push(&record(number, self.len)).map_err(refused)
    }

    fn push_until(&mut self, number: u64, deadline: Instant) -> Result<(), PushError<()>> {
        self.end
            .push_until(&record(number, self.len), deadline)
            .map_err(refused)
    }

    fn try_push_slice(&mut self, numbers: &[u64]) -> Result<usize, PushError<()>> {
        bytes::one_by_one(numbers, |number| self.try_push(number))
    }

    fn push_slice(&mut self, numbers: &[u64]) -> Result<(), PushError<usize>> {
        for (done, number) in numbers.iter().enumerate() {
            self.push(*number).map_err(|error| error.map(|()| done))?;
        }
        Ok(())
    }

    fn reserve_and_commit(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.try_push(number)
    }

    /// A channel reserves nothing that its user could hold.
    fn reserve_and_drop(&mut self) -> Result<(), PushError<()>> {
        Ok(())
    }

    fn reserve_and_forget(&mut self) -> Result<(), PushError<()>> {
        Ok(())
    }

    fn close(self: Box<Self>) {
        self.end.close();
    }
}

struct Receiver {
    end: channel::Consumer<Vec<u8>, Raw>,
    len: usize,
}

impl Receiver {
    fn number(&self, popped: Result<Vec<u8>, channel::PopError>) -> Result<u64, PopError> {
        match popped {
            Ok(record) => Ok(number(&record, self.len)),
            Err(channel::PopError::Ring(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }
}

impl Consumer for Receiver {
    fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    fn try_pop(&mut self) -> Result<u64, PopError> {
        let popped = self.end.try_pop();
        self.number(popped)
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        let popped = self.end.pop();
        self.number(popped)
    }

    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError> {
        let popped = self.end.pop_until(deadline);
        self.number(popped)
    }

    fn try_pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.try_pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }

    fn pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }

    fn drain(&mut self) -> Vec<u64> {
        let count = self.end.len();
        (0..count).map_while(|_| self.try_pop().ok()).collect()
    }

    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        done(self.try_pop()?, false);
        Ok(())
    }

    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        unimplemented!("a channel does not lend its values")
    }

    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        unimplemented!("a channel does not lend its values")
    }

    fn close(self: Box<Self>) {
        self.end.close();
    }
}
