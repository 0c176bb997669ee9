//! The rings of records of any length: bytes, and lanes with several producers.

use anyhow::{Result, ensure};
use ipc_ring::bytes::{Consumer, Producer};
use ipc_ring::{PopError, PushError, Ring as _, bytes, lanes};

use super::{PARTICIPANTS, nowhere};
use crate::measure::{Case, Measure, Values, over};
use crate::subject::{Side, Subject};
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

macro_rules! subject {
    ($subject:ident, $name:literal, $over:ident) => {
        /// The subject.
        pub struct $subject;

        impl Subject for $subject {
            fn name(&self) -> &'static str {
                $name
            }

            fn side(&self) -> Side {
                Side::Ours
            }

            fn slots(&self, shape: &Shape) -> u64 {
                records(shape)
            }

            fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
                over::<$over>(what, case)
            }
        }
    };
}

subject!(Bytes, "bytes", OverBytes);
subject!(Lanes, "lanes", OverLanes);

/// How many records fit in an arena.
pub(super) fn records(shape: &Shape) -> u64 {
    (shape.arena / (shape.payload + 8)) as u64
}

/// A byte ring.
pub(super) struct OverBytes(bytes::Ring, Waiting);

impl Transport for OverBytes {
    type Tx = Sender;
    type Rx = Receiver;

    fn create(shape: &Shape) -> Result<Self> {
        let options = bytes::Ring::options().capacity(shape.arena);
        Ok(Self(options.create(nowhere())?, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        Ok(Sender::new(self.0.rejoin()?.producer()?, self.1))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        Ok(Receiver::new(self.0.rejoin()?.consumer()?, self.1))
    }
}

/// Lanes, one for each producer.
pub(super) struct OverLanes(lanes::Ring, Waiting);

impl Transport for OverLanes {
    type Tx = Sender;
    type Rx = Receiver;

    fn fits(shape: &Shape) -> bool {
        shape.consumers == 1 && shape.is_queue()
    }

    fn create(shape: &Shape) -> Result<Self> {
        let options = lanes::Ring::options()
            .capacity(shape.arena)
            .lanes(shape.producers)
            .participants(PARTICIPANTS);
        Ok(Self(options.create(nowhere())?, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        Ok(Sender::new(self.0.rejoin()?.producer()?, self.1))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        Ok(Receiver::new(self.0.rejoin()?.consumer()?, self.1))
    }
}

/// The sending end of both.
pub(super) struct Sender {
    producer: Producer,
    waiting: Waiting,
    waits: bool,
}

impl Sender {
    fn new(mut producer: Producer, waiting: Waiting) -> Self {
        let wait = waiting.ours();
        wait.into_iter().for_each(|wait| producer.set_wait(wait));
        Self {
            producer,
            waiting,
            waits: wait.is_some(),
        }
    }
}

impl Tx for Sender {
    const IN_PLACE: bool = true;

    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let message = bytemuck::must_cast_slice(message);
        if self.waits {
            return Ok(self.producer.push(message)?);
        }
        Ok(self
            .waiting
            .until(|| match self.producer.try_push(message) {
                Err(PushError::Full(())) => None,
                done => Some(done),
            })?)
    }

    fn send_batch(&mut self, messages: &Words, size: usize) -> Result<()> {
        let mut records = [&[][..]; 64];
        for some in messages.chunks(size * records.len()) {
            let count = some.len() / size;
            for (record, message) in records.iter_mut().zip(some.chunks_exact(size)) {
                *record = bytemuck::must_cast_slice(message);
            }
            self.producer.push_batch(&records[..count])?;
        }
        Ok(())
    }

    #[inline]
    fn send_in_place(&mut self, words: usize, fill: impl FnOnce(&mut Words)) -> Result<()> {
        let mut record = self.producer.reserve(words * 8)?;
        #[allow(unsafe_code)]
        // SAFETY: all processes of the run use the ring by this crate alone, and so keep to its protocol.
        let bytes = unsafe { record.as_mut_slice() };
        fill(bytemuck::cast_slice_mut(bytes));
        Ok(record.commit()?)
    }
}

/// The receiving end of both.
pub(super) struct Receiver {
    consumer: Consumer,
    waiting: Waiting,
    waits: bool,
}

impl Receiver {
    fn new(mut consumer: Consumer, waiting: Waiting) -> Self {
        let wait = waiting.ours();
        wait.into_iter().for_each(|wait| consumer.set_wait(wait));
        Self {
            consumer,
            waiting,
            waits: wait.is_some(),
        }
    }
}

impl Rx for Receiver {
    const IN_PLACE: bool = true;

    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let buffer = bytemuck::must_cast_slice_mut(message);
        let len = if self.waits {
            self.consumer.pop_into(buffer)?
        } else {
            self.waiting
                .until(|| match self.consumer.try_pop_into(buffer) {
                    Err(PopError::Empty) => None,
                    done => Some(done),
                })?
        };
        ensure!(len == buffer.len(), "a record of {len} bytes");
        Ok(())
    }

    fn receive_batch(&mut self, messages: &mut Words, size: usize) -> Result<usize> {
        self.receive(&mut messages[..size])?;
        let mut count = 1;
        for message in messages[size..].chunks_exact_mut(size) {
            match self
                .consumer
                .try_pop_into(bytemuck::must_cast_slice_mut(message))
            {
                Err(PopError::Empty) => break,
                done => ensure!(done? == size * 8, "a record of another length"),
            }
            count += 1;
        }
        Ok(count)
    }

    #[inline]
    fn receive_in_place<T>(&mut self, look: impl FnOnce(&Words) -> T) -> Result<T> {
        let record = self.consumer.read()?;
        #[allow(unsafe_code)]
        // SAFETY: all processes of the run use the ring by this crate alone, and so keep to its protocol.
        let bytes = unsafe { record.as_slice() };
        let seen = look(bytemuck::cast_slice(bytes));
        record.release();
        Ok(seen)
    }
}
