//! The lease of a participant, and what becomes of what the dead have left of theirs.
//!
//! The state of a lease is in its row, see [the protocol](super). What is here besides lies in the memory of its holder, outside
//! of the seam: a forked child inherits it, and finds its bound at zero.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{BLOCK, Counter, DRAWING, ONE_LOST, Refusal, Row};
use crate::fork::{Bound, BoundOwner, Process};
use crate::memory::{LockByte, Memory};
use crate::participant::ParticipantId;

/// Every so many refills a lease looks for ranges that others left behind.
const SEARCH_EVERY: u32 = 16;

impl<M: Memory> Counter<M> {
    fn lease_byte(&self, row: u16) -> LockByte {
        LockByte::Object(self.lock + self.leases.len() as u64 + u64::from(row))
    }

    /// The lease of a participant's row, unless it has it already, or there are fewer rows than participants.
    pub fn lease(&self, me: ParticipantId) -> Option<Lease<M>> {
        let row = self.leases.get(usize::from(me.get()) - 1)?.clone();
        if !self.memory().try_lock(self.lease_byte(me.get())) {
            return None;
        }
        let (next, end) = self.leftover(&row);
        let lost = settle(&row);
        let own = BoundOwner::new();
        own.set(end);
        Some(Lease {
            next,
            bound: own.bound(),
            block: Box::new(Block {
                bound: own,
                row,
                end,
                lost,
                refills: 0,
                me,
                process: Process::current(),
                counter: self.clone(),
            }),
        })
    }
}

/// A block of ids from which one participant gives them out without asking anybody.
///
/// What every id needs are fields of their own, to which no reference is ever taken, so that a loop may keep them in
/// registers.
#[derive(Debug)]
pub struct Lease<M: Memory> {
    next: u64,
    /// The end of the block, or zero in a forked child: one comparison tells that there is an id to give, and that it is
    /// ours to give.
    bound: Bound,
    block: Box<Block<M>>,
}

/// What a lease needs besides its next id.
#[derive(Debug)]
struct Block<M: Memory> {
    bound: BoundOwner,
    row: Row<M>,
    end: u64,
    lost: u64,
    refills: u32,
    me: ParticipantId,
    process: Process,
    counter: Counter<M>,
}

impl<M: Memory> Lease<M> {
    /// Gives the next id.
    ///
    /// # Errors
    ///
    /// As [`Counter::draw_many`], when a block has to be drawn; never while there are ids left in the block.
    /// [`Refusal::Forked`] in a forked child.
    #[inline]
    pub fn give(&mut self) -> Result<u64, Refusal> {
        if self.next >= self.bound.get() {
            self.next = self.block.ready(self.next)?;
        }
        let id = self.next;
        self.next += 1;
        // ORDERING: Release pairs with the Acquire in `leftover`. Before the id is given: whoever has the row after us
        // does not give it again.
        self.block.row.next.store(self.next, Release);
        Ok(id)
    }
}

impl<M: Memory> Block<M> {
    /// Sees to it that there is an id to give, and says which is the next one. `next` was that until now.
    #[cold]
    fn ready(&mut self, next: u64) -> Result<u64, Refusal> {
        if !self.process.is_here() {
            return Err(Refusal::Forked);
        }
        // More leases than bounds: theirs are always zero.
        if next < self.end {
            return Ok(next);
        }
        let look_for_parked = self.refills % SEARCH_EVERY == 0;
        self.refills = self.refills.wrapping_add(1);
        self.row.lost.store(self.lost | DRAWING, Relaxed);
        let parked = look_for_parked.then(|| self.parked()).flatten();
        let range = match parked {
            Some(range) => Ok(range),
            None => self.counter.draw(BLOCK).map(|first| (first, first + BLOCK)),
        };
        match range {
            Ok((next, end)) => self.record(next, end),
            Err(_) => self.lost = self.lost.wrapping_add(ONE_LOST),
        }
        // ORDERING: Release: the block is recorded before drawing is over.
        self.row.lost.store(self.lost, Release);
        range.map(|(next, _)| next)
    }

    /// Takes away what the holder of another row left behind. Holding its life byte keeps newcomers from the row.
    fn parked(&self) -> Option<(u64, u64)> {
        let counter = &self.counter;
        for (row, number) in counter.leases.iter().zip(1_u16..) {
            let life = LockByte::Life(number);
            let left = |row| {
                let (next, end) = counter.leftover(row);
                (next < end).then_some((next, end))
            };
            let worth_it = left(row).is_some() || row.lost.load(Relaxed) & DRAWING != 0;
            if !worth_it || number == self.me.get() || !counter.memory().try_lock(life) {
                continue;
            }
            settle(row);
            // Again, now that nobody else changes it.
            let left = left(row);
            // Cleared there before it is recorded here: a kill in between loses the range and does not double it.
            // ORDERING: Release pairs with the Acquire in `leftover`.
            row.end.store(0, Release);
            counter.memory().unlock(life);
            if left.is_some() {
                return left;
            }
        }
        None
    }

    /// Makes a range that of the row.
    fn record(&mut self, next: u64, end: u64) {
        self.end = end;
        self.bound.set(end);
        // The old range is used up, and below the new one or not: with the end at zero there is none in between.
        self.row.end.store(0, Relaxed);
        // ORDERING: Release pairs with the Acquire in `leftover`: the range is whole once its end is there.
        self.row.next.store(next, Release);
        self.row.end.store(end, Release);
    }
}

impl<M: Memory> Drop for Block<M> {
    fn drop(&mut self) {
        self.counter
            .memory()
            .unlock(self.counter.lease_byte(self.me.get()));
    }
}

/// Counts a block whose drawer was killed before it was recorded, for whoever has the row to itself. One store counts it
/// and ends it.
fn settle<M: Memory>(row: &Row<M>) -> u64 {
    let mut lost = row.lost.load(Relaxed);
    if lost & DRAWING != 0 {
        lost = (lost & !DRAWING).wrapping_add(ONE_LOST);
        row.lost.store(lost, Relaxed);
    }
    lost
}
