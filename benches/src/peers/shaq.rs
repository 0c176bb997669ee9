//! shaq: queues in shared memory, SPSC and MPMC, in files of memory. Batches by its batch calls, as it advises.
//!
//! # Safety
//!
//! Each queue is created once, by the parent, and all processes agree on the type. The one producer of an SPSC queue is
//! the one that created it, and one process alone takes it over.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{MemfdFlags, memfd_create};
use shaq::{mpmc, spsc};

use super::peer;
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

peer!(Spsc, "shaq-spsc", "4.3.0", typed OverSpsc);
peer!(Mpmc, "shaq-mpmc", "4.3.0", typed OverMpmc);

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

fn memory(size: usize) -> Result<File> {
    let file = File::from(memfd_create("bench", MemfdFlags::CLOEXEC)?);
    file.set_len(size as u64)?;
    Ok(file)
}

/// An SPSC queue.
pub(super) struct OverSpsc<const W: usize> {
    file: File,
    producer: Cell<Option<spsc::Producer<[u64; W]>>>,
    waiting: Waiting,
}

impl<const W: usize> Transport for OverSpsc<W> {
    type Tx = Sender<W>;
    type Rx = Receiver<W>;

    fn create(shape: &Shape) -> Result<Self> {
        let size = spsc::minimum_file_size::<[u64; W]>(shape.capacity);
        let file = memory(size)?;
        // SAFETY: created once, here; this is the one producer.
        let producer = unsafe { spsc::Producer::create(&file, size) };
        let producer = producer.map_err(|error| anyhow!("{error:?}"))?;
        Ok(Self {
            file,
            producer: Cell::new(Some(producer)),
            waiting: shape.waiting,
        })
    }

    fn tx(&self, _: usize) -> Result<Sender<W>> {
        let producer = self.producer.take().context("there is one producer")?;
        Ok(Sender(producer, self.waiting))
    }

    fn rx(&self, _: usize) -> Result<Receiver<W>> {
        // SAFETY: one process alone asks for the consumer, of the same type.
        let consumer = unsafe { spsc::Consumer::join(&self.file) };
        let consumer = consumer.map_err(|error| anyhow!("{error:?}"))?;
        Ok(Receiver(consumer, self.waiting))
    }
}

pub(super) struct Sender<const W: usize>(spsc::Producer<[u64; W]>, Waiting);

pub(super) struct Receiver<const W: usize>(spsc::Consumer<[u64; W]>, Waiting);

impl<const W: usize> Tx for Sender<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let message = message.as_chunks().0[0];
        self.1.until(|| self.0.try_write(message).ok());
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        let mut left: &[[u64; W]] = messages.as_chunks().0;
        self.1.until(|| {
            let mut batch = self.0.write_batch();
            while let [first, rest @ ..] = left {
                if batch.try_write(*first).is_err() {
                    return None;
                }
                left = rest;
            }
            Some(())
        });
        Ok(())
    }
}

impl<const W: usize> Rx for Receiver<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let message = &mut message.as_chunks_mut().0[0];
        *message = match self.1 {
            Waiting::Block | Waiting::Default => {
                let read = self.0.read_timeout(LONG);
                read.map_err(|error| anyhow!("{error:?}"))?
            }
            waiting => waiting.until(|| self.0.try_read()),
        };
        Ok(())
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        let messages: &mut [[u64; W]] = messages.as_chunks_mut().0;
        let most = NonZeroUsize::new(messages.len()).context("no room")?;
        Ok(self.1.until(|| {
            let batch = self.0.try_reserve_read_batch(most)?;
            let (first, second) = batch.as_slices();
            messages[..first.len()].copy_from_slice(first);
            messages[first.len()..batch.len()].copy_from_slice(second);
            Some(batch.len())
        }))
    }
}

/// An MPMC queue.
pub(super) struct OverMpmc<const W: usize>(File, Waiting);

impl<const W: usize> Transport for OverMpmc<W> {
    type Tx = ManySender<W>;
    type Rx = ManyReceiver<W>;

    fn fits(shape: &Shape) -> bool {
        shape.is_queue()
    }

    fn create(shape: &Shape) -> Result<Self> {
        let size = mpmc::minimum_file_size::<[u64; W]>(shape.capacity);
        let file = memory(size)?;
        // SAFETY: created once, here.
        let producer = unsafe { mpmc::Producer::<[u64; W]>::create(&file, size) };
        producer.map_err(|error| anyhow!("{error:?}"))?;
        Ok(Self(file, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<ManySender<W>> {
        // SAFETY: all processes use the same type.
        let producer = unsafe { mpmc::Producer::join(&self.0) };
        let producer = producer.map_err(|error| anyhow!("{error:?}"))?;
        Ok(ManySender(producer, self.1))
    }

    fn rx(&self, _: usize) -> Result<ManyReceiver<W>> {
        // SAFETY: all processes use the same type.
        let consumer = unsafe { mpmc::Consumer::join(&self.0) };
        let consumer = consumer.map_err(|error| anyhow!("{error:?}"))?;
        Ok(ManyReceiver(consumer, self.1))
    }
}

pub(super) struct ManySender<const W: usize>(mpmc::Producer<[u64; W]>, Waiting);

pub(super) struct ManyReceiver<const W: usize>(mpmc::Consumer<[u64; W]>, Waiting);

impl<const W: usize> Tx for ManySender<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let message = message.as_chunks().0[0];
        self.1.until(|| self.0.try_write(message).ok());
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        let messages: &[[u64; W]] = messages.as_chunks().0;
        self.1
            .until(|| self.0.try_write_slice(messages).then_some(()));
        Ok(())
    }
}

impl<const W: usize> Rx for ManyReceiver<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let message = &mut message.as_chunks_mut().0[0];
        *message = match self.1 {
            Waiting::Block | Waiting::Default => {
                let read = self.0.read_timeout(LONG);
                read.map_err(|error| anyhow!("{error:?}"))?
            }
            waiting => waiting.until(|| self.0.try_read()),
        };
        Ok(())
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        let messages: &mut [[u64; W]] = messages.as_chunks_mut().0;
        let most = NonZeroUsize::new(messages.len()).context("no room")?;
        Ok(self.1.until(|| {
            let batch = self.0.try_reserve_read_batch(most)?;
            let count = batch.len();
            for (message, value) in messages.iter_mut().zip(batch) {
                *message = value;
            }
            Some(count)
        }))
    }
}
