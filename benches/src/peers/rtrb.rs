//! rtrb: a ring for one producer and one consumer, threads of one process. An upper bound: it survives nobody's death.

use std::cell::Cell;
use std::mem::ManuallyDrop;

use anyhow::{Context, Result};
use rtrb::{Consumer, Producer, RingBuffer};

use super::arena::Arena;
use super::peer;
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

peer!(Rtrb, "rtrb", "0.4.1", typed Over);

/// A ring whose memory all processes inherit.
pub(super) struct Over<const W: usize> {
    producer: Cell<Option<ManuallyDrop<Producer<[u64; W]>>>>,
    consumer: Cell<Option<ManuallyDrop<Consumer<[u64; W]>>>>,
    waiting: Waiting,
    _arena: Arena,
}

impl<const W: usize> Transport for Over<W> {
    type Tx = Sender<W>;
    type Rx = Receiver<W>;

    fn fits(shape: &Shape) -> bool {
        shape.is_pair() && shape.waiting == Waiting::Poll
    }

    fn create(shape: &Shape) -> Result<Self> {
        let (arena, (producer, consumer)) = Arena::fill(|| RingBuffer::new(shape.capacity))?;
        Ok(Self {
            producer: Cell::new(Some(ManuallyDrop::new(producer))),
            consumer: Cell::new(Some(ManuallyDrop::new(consumer))),
            waiting: shape.waiting,
            _arena: arena,
        })
    }

    fn tx(&self, _: usize) -> Result<Sender<W>> {
        let producer = self.producer.take().context("there is one producer")?;
        Ok(Sender(producer, self.waiting))
    }

    fn rx(&self, _: usize) -> Result<Receiver<W>> {
        let consumer = self.consumer.take().context("there is one consumer")?;
        Ok(Receiver(consumer, self.waiting))
    }
}

/// From so many words on a message is lent to the calls, not moved through them, as with our own.
const LARGE: usize = 32;

pub(super) struct Sender<const W: usize>(ManuallyDrop<Producer<[u64; W]>>, Waiting);

pub(super) struct Receiver<const W: usize>(ManuallyDrop<Consumer<[u64; W]>>, Waiting);

impl<const W: usize> Tx for Sender<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        if W >= LARGE {
            return self.send_batch(&message[..W], W);
        }
        let message = message.as_chunks().0[0];
        self.1.until(|| self.0.push(message).ok());
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        let mut left: &[[u64; W]] = messages.as_chunks().0;
        self.1.until(|| {
            left = self.0.push_partial_slice(left).1;
            left.is_empty().then_some(())
        });
        Ok(())
    }
}

impl<const W: usize> Rx for Receiver<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        if W >= LARGE {
            return self.receive_batch(&mut message[..W], W).map(drop);
        }
        message.as_chunks_mut().0[0] = self.1.until(|| self.0.pop().ok());
        Ok(())
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        let messages: &mut [[u64; W]] = messages.as_chunks_mut().0;
        Ok(self.1.until(|| {
            let got = self.0.pop_partial_slice(messages).0.len();
            (got > 0).then_some(got)
        }))
    }
}
