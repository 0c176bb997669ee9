//! `ipc produce`: standard input into a ring.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use bytemuck::Zeroable;
use clap::Args;
use ipc_ring::spsc::Producer;
use ipc_ring::{PushError, Ring as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::stream::{BATCH, CARRIES, Chunk, LOOK, Open, Side, Stream};

/// Send standard input through a ring to `ipc consume` of the same name.
///
/// Either side may be started first. What fits into the ring can be consumed after the producer has ended.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    #[command(flatten)]
    stream: Stream,
}

impl Produce {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let input = io::stdin();
        let input = input.as_fd();
        let mut open = self.stream.open(Side::Producer, len(input))?;
        let mut producer = open.ring.producer()?;
        open.must_be_fresh()?;
        let done = pump(&mut open, &mut producer, input);
        // Without the mark of the end before it, this tells the consumer that we have stopped.
        producer.close();
        match &done {
            Ok(()) => open.tell_rate(),
            Err(_) => open.remove()?,
        }
        done
    }
}

/// Everything from the input to the end, and the mark.
fn pump(open: &mut Open<'_>, producer: &mut Producer<Chunk>, input: BorrowedFd<'_>) -> Result<()> {
    let mut batch = vec![Chunk::zeroed(); BATCH];
    loop {
        let bytes = read(open, input, &mut batch)?;
        let count = bytes.div_ceil(CARRIES).max(1);
        for (index, chunk) in batch[..count].iter_mut().enumerate() {
            chunk.len = (bytes - index * CARRIES).min(CARRIES) as u32;
        }
        if bytes == 0 {
            batch[0].is_last = 1;
        }
        push(open, producer, &batch[..count])?;
        if bytes == 0 {
            return Ok(());
        }
        open.moved(bytes);
    }
}

/// Reads what there is into the chunks, one after the other; waits for something. Zero at the end.
fn read(open: &Open<'_>, input: BorrowedFd<'_>, batch: &mut [Chunk]) -> Result<usize> {
    let mut places: Vec<_> = batch
        .iter_mut()
        .map(|chunk| IoSliceMut::new(&mut chunk.data))
        .collect();
    loop {
        open.check_signals()?;
        let timeout = Timespec::try_from(LOOK)?;
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                if open.ring.is_closed() {
                    return Err(open.closed());
                }
                open.look_around()?;
                continue;
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed(error)),
        }
        match rustix::io::readv(input, &mut places) {
            Ok(bytes) => {
                // A Ctrl-C that ends us ends the program that feeds us as well: this is not the end of its data then.
                open.check_signals()?;
                return Ok(bytes);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn failed(error: Errno) -> anyhow::Error {
    anyhow::Error::new(io::Error::from(error)).context("cannot read standard input")
}

fn push(open: &mut Open<'_>, producer: &mut Producer<Chunk>, mut chunks: &[Chunk]) -> Result<()> {
    open.begin_to_wait();
    loop {
        let deadline = std::time::Instant::now() + LOOK;
        match producer.push_slice_until(chunks, deadline) {
            Ok(()) => return Ok(()),
            Err(PushError::Closed(_)) => return Err(open.closed()),
            Err(PushError::TimedOut(done) | PushError::PeerDead(done)) => {
                chunks = &chunks[done..];
                if done > 0 {
                    open.begin_to_wait();
                }
                open.wait_on()?;
            }
            Err(error) => return Err(error.map(drop)).context("cannot push"),
        }
    }
}

/// Bytes left in a regular file.
fn len(input: BorrowedFd<'_>) -> Option<u64> {
    let file = rustix::fs::fstat(input).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(file.st_mode).is_file();
    regular.then_some(file.st_size as u64)
}
