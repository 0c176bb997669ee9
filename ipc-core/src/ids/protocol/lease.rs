//! The lease of a participant, and what becomes of what the dead have left of theirs.
//!
//! The state of a lease is in its row, see [the protocol](super). What is here besides lies in the memory of its holder, outside
//! of the seam: a forked child inherits it, and finds its bound at zero.
//!
//! # Safety
//!
//! A lease drops its block by value, once, in its own drop.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{BLOCK, Counter, DRAWING, ONE_LOST, Refusal, Row};
use crate::fork::{Bound, BoundOwner, Process};
use crate::memory::{LockByte, Memory, Word64};
use crate::participant::ParticipantId;

/// Every so many refills a lease looks for ranges that others left behind.
const SEARCH_EVERY: u32 = 16;

impl<M: Memory> Counter<M> {
    fn lease_byte(&self, row: u16) -> LockByte {
        LockByte::Object(self.lock + self.leases.len() as u64 + u64::from(row))
    }

    /// The lease of a participant's row, unless it has it already, or there are fewer rows than participants. `attached` is
    /// what the row is ours by: it is kept for as long as the lease.
    pub fn lease<A>(&self, me: ParticipantId, attached: A) -> Option<Lease<M, A>> {
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
            given: ManuallyDrop::new(row.next.clone()),
            block: ManuallyDrop::new(Box::new(Block {
                bound: own,
                row,
                end,
                lost,
                refills: 0,
                me,
                process: Process::current(),
                counter: self.clone(),
                _attached: attached,
            })),
        })
    }
}

/// A block of ids from which one participant gives them out without asking anybody.
///
/// What every id needs are fields of their own, to which no reference is ever taken, so that a loop may keep them in
/// registers. That takes a drop which is inlined even where a panic unwinds, so it is as short as can be: a lease whose
/// address is known to a call lies in memory, and an id takes half as long again.
#[derive(Debug)]
pub struct Lease<M: Memory, A = ()> {
    next: u64,
    /// The end of the block, or zero in a forked child: one comparison tells that there is an id to give, and that it is
    /// ours to give.
    bound: Bound,
    /// Where `next` is stored: the word of the row.
    given: ManuallyDrop<Word64<M>>,
    block: ManuallyDrop<Box<Block<M, A>>>,
}

/// What a lease needs besides its next id.
#[derive(Debug)]
struct Block<M: Memory, A> {
    bound: BoundOwner,
    row: Row<M>,
    end: u64,
    lost: u64,
    refills: u32,
    me: ParticipantId,
    process: Process,
    counter: Counter<M>,
    /// Dropped after the row was given back.
    _attached: A,
}

impl<M: Memory, A> Lease<M, A> {
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
        self.given.store(self.next, Release);
        Ok(id)
    }
}

impl<M: Memory, A> Drop for Lease<M, A> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: whoever drops the lease does not use it any more.
        let given = unsafe { ManuallyDrop::take(&mut self.given) };
        // SAFETY: as above.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        give_back(given, block);
    }
}

#[inline(never)]
fn give_back<M: Memory, A>(_: Word64<M>, _: Box<Block<M, A>>) {}

impl<M: Memory, A> Block<M, A> {
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

impl<M: Memory, A> Drop for Block<M, A> {
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
