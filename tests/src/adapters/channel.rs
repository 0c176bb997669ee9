//! `channel`, of values whose encoding takes just 64 bytes with its header, as the records of the other kinds do.

use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::{Place, SegmentError};
use ipc_ring::channel::{self, Codec, CodecError};
use ipc_ring::{PopError, PushError, Ring as _};

use super::bytes::{self, BYTES, EXTENT, arena, len, number, record};
use super::{Consumer, Kind, Opened, Producer, Ring};

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
    let ring = Opened {
        ring: ring?,
        extent: EXTENT,
        producer: |end, capacity| {
            let len = len(capacity);
            Box::new(Sender { end, len })
        },
        consumer: |end, capacity| {
            let len = len(capacity);
            Box::new(Receiver { end, len })
        },
    };
    Ok(ring.boxed())
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

    fn len(&self) -> usize {
        self.end.len()
    }

    fn close(self: Box<Self>) {
        self.end.close();
    }
}
