//! crossbeam: the bounded channel, and the queue in an array that it grew from, both for threads of one process. Upper
//! bounds: they survive nobody's death. A sleeping receiver is woken within one process only, so here nobody sleeps.

use std::mem::ManuallyDrop;

use anyhow::Result;
use crossbeam_channel as channel;
use crossbeam_queue::ArrayQueue;

use super::arena::Arena;
use super::peer;
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

peer!(Channel, "crossbeam", "crossbeam-channel 0.5.17", typed OverChannel);
peer!(Queue, "array-queue", "crossbeam-queue 0.3.14", typed OverQueue);

fn fits(shape: &Shape) -> bool {
    shape.is_queue() && matches!(shape.waiting, Waiting::Poll | Waiting::Share)
}

type Ends<const W: usize> = ManuallyDrop<(channel::Sender<[u64; W]>, channel::Receiver<[u64; W]>)>;

/// A channel whose memory all processes inherit.
pub(super) struct OverChannel<const W: usize> {
    ends: Ends<W>,
    waiting: Waiting,
    _arena: Arena,
}

impl<const W: usize> Transport for OverChannel<W> {
    type Tx = Sender<W>;
    type Rx = Receiver<W>;

    fn fits(shape: &Shape) -> bool {
        fits(shape)
    }

    fn create(shape: &Shape) -> Result<Self> {
        let (arena, ends) = Arena::fill(|| channel::bounded(shape.capacity))?;
        Ok(Self {
            ends: ManuallyDrop::new(ends),
            waiting: shape.waiting,
            _arena: arena,
        })
    }

    fn tx(&self, _: usize) -> Result<Sender<W>> {
        Ok(Sender(ManuallyDrop::new(self.ends.0.clone()), self.waiting))
    }

    fn rx(&self, _: usize) -> Result<Receiver<W>> {
        Ok(Receiver(
            ManuallyDrop::new(self.ends.1.clone()),
            self.waiting,
        ))
    }
}

pub(super) struct Sender<const W: usize>(ManuallyDrop<channel::Sender<[u64; W]>>, Waiting);

pub(super) struct Receiver<const W: usize>(ManuallyDrop<channel::Receiver<[u64; W]>>, Waiting);

impl<const W: usize> Tx for Sender<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let message = message.as_chunks().0[0];
        self.1.until(|| self.0.try_send(message).ok());
        Ok(())
    }
}

impl<const W: usize> Rx for Receiver<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        message.as_chunks_mut().0[0] = self.1.until(|| self.0.try_recv().ok());
        Ok(())
    }
}

/// A queue whose memory all processes inherit.
pub(super) struct OverQueue<const W: usize> {
    queue: &'static ArrayQueue<[u64; W]>,
    waiting: Waiting,
    _arena: Arena,
}

impl<const W: usize> Transport for OverQueue<W> {
    type Tx = QueueEnd<W>;
    type Rx = QueueEnd<W>;

    fn fits(shape: &Shape) -> bool {
        fits(shape)
    }

    fn create(shape: &Shape) -> Result<Self> {
        let make = || Box::leak(Box::new(ArrayQueue::new(shape.capacity)));
        let (arena, queue) = Arena::fill(make)?;
        Ok(Self {
            queue,
            waiting: shape.waiting,
            _arena: arena,
        })
    }

    fn tx(&self, _: usize) -> Result<QueueEnd<W>> {
        Ok(QueueEnd(self.queue, self.waiting))
    }

    fn rx(&self, index: usize) -> Result<QueueEnd<W>> {
        self.tx(index)
    }
}

pub(super) struct QueueEnd<const W: usize>(&'static ArrayQueue<[u64; W]>, Waiting);

impl<const W: usize> Tx for QueueEnd<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let message = message.as_chunks().0[0];
        self.1.until(|| self.0.push(message).ok());
        Ok(())
    }
}

impl<const W: usize> Rx for QueueEnd<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        message.as_chunks_mut().0[0] = self.1.until(|| self.0.pop());
        Ok(())
    }
}
