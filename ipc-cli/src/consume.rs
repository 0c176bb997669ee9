//! `ipc consume`: a ring to standard output.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytemuck::Zeroable;
use clap::Args;
use ipc_ring::spsc::Consumer;
use ipc_ring::{PopError, Ring as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;

use crate::stream::{BATCH, CARRIES, Chunk, LOOK, Open, Side, Stream};

/// Write to standard output what `ipc produce` of the same name sends.
///
/// Either side may be started first. Ends at the end of the producer's input; a producer that stopped before that is an error.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    #[command(flatten)]
    stream: Stream,
}

impl Consume {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let output = output()?;
        let mut open = self.stream.open(Side::Consumer, None)?;
        let mut consumer = open.ring.consumer()?;
        open.must_be_fresh()?;
        let done = pump(&mut open, &mut consumer, output.as_fd());
        // A producer that is still at work is told that we have stopped.
        consumer.close();
        open.remove()?;
        if done.is_ok() {
            open.tell_rate();
        }
        done
    }
}

/// Everything up to the mark of the end.
fn pump(open: &mut Open<'_>, consumer: &mut Consumer<Chunk>, output: BorrowedFd<'_>) -> Result<()> {
    let mut batch = vec![Chunk::zeroed(); BATCH];
    loop {
        let count = pop(open, consumer, &mut batch)?;
        let mut is_last = false;
        let mut pieces = Vec::with_capacity(count);
        for chunk in &batch[..count] {
            // What another process wrote is checked before it is used.
            let len = chunk.len as usize;
            ensure!(len <= CARRIES && chunk.is_last <= 1, "a damaged chunk came");
            is_last |= chunk.is_last == 1;
            pieces.push(IoSlice::new(&chunk.data[..len]));
        }
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        write(open, output, &mut pieces)?;
        open.moved(bytes);
        if is_last {
            return Ok(());
        }
    }
}

fn pop(open: &Open<'_>, consumer: &mut Consumer<Chunk>, batch: &mut [Chunk]) -> Result<usize> {
    loop {
        match consumer.pop_into_until(batch, Instant::now() + LOOK) {
            Ok(count) => return Ok(count),
            Err(PopError::Closed) => return Err(open.closed()),
            Err(PopError::TimedOut | PopError::PeerDead) => open.wait_on()?,
            Err(error) => return Err(error).context("cannot pop"),
        }
        open.check_signals()?;
    }
}

/// Writes all of the pieces.
fn write(open: &Open<'_>, output: BorrowedFd<'_>, mut pieces: &mut [IoSlice<'_>]) -> Result<()> {
    // Drops pieces of no bytes: to write nothing at all would look like an end.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        open.check_signals()?;
        match rustix::io::writev(output, pieces) {
            Ok(written) => IoSlice::advance_slices(&mut pieces, written),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(output)?,
            Err(error) => {
                return Err(io::Error::from(error)).context("cannot write to standard output");
            }
        }
    }
    Ok(())
}

/// Waits for a moment: a signal may have come meanwhile.
fn wait_for_room(output: BorrowedFd<'_>) -> Result<()> {
    let timeout = Timespec::try_from(LOOK)?;
    match poll(&mut [PollFd::new(&output, PollFlags::OUT)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(io::Error::from(error)).context("cannot wait for standard output"),
    }
}

/// Standard output; where it is a pipe, through a description of our own that never blocks, so that a full pipe whose
/// reader is slow does not keep us from noticing signals.
fn output() -> io::Result<OwnedFd> {
    let output = io::stdout();
    if fstat(&output).is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::Fifo) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(own) = rustix::fs::open("/proc/self/fd/1", flags, Mode::empty()) {
            return Ok(own);
        }
    }
    output.as_fd().try_clone_to_owned()
}
