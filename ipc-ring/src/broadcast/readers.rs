//! The readers: one that the producer waits for, and one that only loads.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Wait};
use ipc_core::memory::Memory;

use super::algorithm::{Shared, full, writing};
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, NoPeek, Peek, ReceiveSide, Refusal, Side, Spot, Whole};

/// How often a reader of the latest message tries again, when it is overwritten under its hands, before it says "empty".
const RETRIES: u32 = 16;

/// How long a reader that has caught up with a stream leaves its lines alone.
const BACK_OFF: Duration = Duration::from_nanos(800);

/// How far ahead of `position` the message is that a slot with this word holds or is getting.
#[inline]
fn ahead(word: u64, position: u64) -> i64 {
    // Of what is being written, the word is one less: rounded up, the same.
    (word.wrapping_sub(full(position)) as i64).wrapping_add(1) >> 1
}

/// The later one of two positions.
#[inline]
pub(crate) fn later(a: u64, b: u64) -> u64 {
    if (a.wrapping_sub(b) as i64) > 0 { a } else { b }
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next message that is pushed.
    Newest,
    /// With the oldest message that is there.
    Oldest,
    /// Where a lossless reader stopped that died, if there is one; otherwise with the oldest message. What has been
    /// overwritten since is told by [`Lagged`](crate::PopError::Lagged).
    Successor,
}

impl<M: Memory> Shared<M> {
    /// A reader that the producer does not wait for.
    pub fn watcher(&self, start: Start, latest: bool) -> Watcher<M> {
        let tail = self.audience.tail.load(Acquire);
        let position = match start {
            Start::Newest => tail,
            Start::Oldest | Start::Successor => self.oldest(tail),
        };
        Watcher {
            cursor: self.cursor(position),
            latest,
        }
    }

    /// A reader that the producer waits for. The caller has the role of the row at `index`.
    pub fn receiver(&self, index: usize, start: Start) -> Receiver<M> {
        let head = &self.audience.rows[index].head;
        let tail = self.audience.tail.load(Acquire);
        let lowest = match start {
            Start::Newest => tail,
            Start::Oldest => tail.wrapping_sub(self.capacity() as u64),
            Start::Successor => match head.load(Acquire) {
                head if later(head, tail) == tail => head,
                _ => tail,
            },
        };
        let mut receiver = Receiver {
            cursor: self.cursor(lowest),
            row: index,
            membership: 0,
        };
        receiver.join();
        if start != Start::Successor {
            // What was there before we came is nothing to miss.
            receiver.cursor.missed = 0;
        }
        receiver
    }

    fn cursor(&self, position: u64) -> Cursor<M> {
        Cursor {
            ring: self.clone(),
            position,
            missed: 0,
            taken: 0,
            pace: Pace::new(position),
        }
    }
}

impl<M: Memory> Peek for Shared<M> {
    fn oldest(&self, _lane: usize) -> Spot {
        Spot::of(self.oldest(self.audience.tail.load(Acquire)))
    }

    fn newest(&self, _lane: usize) -> Spot {
        Spot::of(self.audience.tail.load(Acquire))
    }

    fn peek(&self, _lane: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek> {
        into.resize(self.payload.width(), 0);
        let mut cursor = self.cursor(at.position);
        if cursor.copy(into) {
            return Ok(Spot::of(at.position.wrapping_add(1)));
        }
        match cursor.nothing() {
            Refusal::Lagged(_) => Err(NoPeek::Gone(Spot::of(cursor.position))),
            _ => Err(NoPeek::NotYet),
        }
    }
}

/// Where a reader is.
#[derive(Debug)]
struct Cursor<M> {
    ring: Shared<M>,
    position: u64,
    /// Messages missed, and not yet told.
    missed: u64,
    /// Messages taken.
    taken: u64,
    pace: Pace,
}

impl<M: Memory> Cursor<M> {
    /// Copies the message at our position out, and moves on.
    #[inline]
    fn take(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        if self.missed != 0 {
            return Err(Refusal::Lagged(std::mem::take(&mut self.missed)));
        }
        if self.copy(into) {
            self.position = self.position.wrapping_add(1);
            self.taken += 1;
            Ok(())
        } else {
            Err(self.nothing())
        }
    }

    /// Copies the message at our position out, if it is there and stays whole meanwhile.
    #[inline]
    fn copy(&self, into: &mut [u8]) -> bool {
        let expected = full(self.position);
        // ORDERING: Acquire pairs with the Release in `Sender::publish`: we see the message of the word.
        if self.ring.words.load(self.position, Acquire) != expected {
            return false;
        }
        self.ring.payload.read(self.position, into);
        // ORDERING: pairs with the fence in `Sender::begin`: if we have copied a byte of a later message, we see its word.
        self.ring.payload.memory().fence(Acquire);
        self.ring.words.load(self.position, Relaxed) == expected
    }

    /// Why there is no message at our position.
    #[cold]
    fn nothing(&mut self) -> Refusal {
        let ring = &self.ring;
        let ahead = ahead(ring.words.load(self.position, Acquire), self.position);
        if ahead > 0 {
            return self.lag(ahead as u64);
        }
        // ORDERING: Acquire pairs with the Release in `close`: what was pushed before is seen by the load of the word.
        let closed = ring.audience.closed.load(Acquire) != 0;
        if closed && ring.words.load(self.position, Acquire) != full(self.position) {
            return Refusal::Closed;
        }
        Refusal::NotYet
    }

    /// Moves to the oldest message that is left; the producer is at least so far ahead of us.
    fn lag(&mut self, ahead: u64) -> Refusal {
        let tail = self.ring.audience.tail.load(Acquire);
        let by_tail = tail.wrapping_sub(self.position);
        // The message in our slot has come after ours, so all up to a ring before it are gone. The tail may be a step
        // behind; it may also be rubbish.
        let by_word = ahead + 1;
        let end = if (by_tail as i64) > by_word as i64 {
            by_tail
        } else {
            by_word
        };
        let mut missed = end.saturating_sub(self.ring.capacity() as u64).max(1);
        let next = self.position.wrapping_add(missed);
        // The slot of the oldest one may be the one that is being written.
        if self.ring.words.load(next, Acquire)
            == writing(next.wrapping_add(self.ring.capacity() as u64))
        {
            missed += 1;
        }
        self.position = self.position.wrapping_add(missed);
        Refusal::Lagged(missed)
    }

    fn take_many(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        let mut count = 0;
        for message in into.chunks_exact_mut(self.ring.payload.width()) {
            match self.take(message) {
                Ok(()) => count += 1,
                Err(refusal) if count == 0 => return Err(refusal),
                Err(refusal) => {
                    if let Refusal::Lagged(missed) = refusal {
                        self.missed = missed;
                    }
                    break;
                }
            }
        }
        Ok(count)
    }

    fn len(&self) -> usize {
        let tail = self.ring.audience.tail.load(Acquire);
        let behind = tail.wrapping_sub(self.position);
        if (behind as i64) < 0 {
            0
        } else {
            (behind as usize).min(self.ring.capacity())
        }
    }

    fn before_wait(&self, wait: Wait) {
        let memory = self.ring.audience.items.memory();
        self.pace.before_wait(memory, self.position, wait, BACK_OFF);
    }
}

/// The side of a reader that the producer waits for.
#[derive(Debug)]
pub struct Receiver<M> {
    cursor: Cursor<M>,
    row: usize,
    /// What our row says as long as the producer heeds it.
    membership: u64,
}

impl<M: Memory> Receiver<M> {
    /// Joins at our position, or behind what may be written over before the producer notices. Messages in between are missed.
    fn join(&mut self) {
        let cursor = &mut self.cursor;
        let ring = &cursor.ring;
        let row = &ring.audience.rows[self.row];
        // A head never goes back. So it starts as low as it may have to.
        row.head.store(cursor.position, Release);
        self.membership = ring.audience.join(self.row).0;
        let tail = ring.audience.tail.load(Acquire);
        // The current run may still write over what is before this.
        let certain = tail
            .wrapping_add(ring.run())
            .wrapping_sub(ring.capacity() as u64);
        let position = later(cursor.position, later(certain, ring.oldest(tail)));
        row.head.store(position, Release);
        ring.audience.space.notify(1);
        let missed = position.wrapping_sub(cursor.position);
        cursor.missed = cursor.missed.wrapping_add(missed);
        cursor.position = position;
    }

    /// Whether the producer heeds us. If it has let us go, we join again where we are.
    #[inline]
    fn stay(&mut self) {
        let audience = &self.cursor.ring.audience;
        if !audience.is_member(self.row, self.membership) {
            self.join();
        }
    }

    /// Tells the producer how far we are.
    #[inline]
    fn advance(&self) {
        // ORDERING: Release pairs with the Acquire in `Audience::heeded`: the slots have been read.
        let row = &self.cursor.ring.audience.rows[self.row];
        row.head.store(self.cursor.position, Release);
        self.cursor.ring.audience.space.notify(1);
    }
}

impl<M: Memory> ReceiveSide for Receiver<M> {
    #[inline(always)]
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        self.stay();
        self.cursor.take(into)?;
        self.advance();
        Ok(())
    }

    #[inline]
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        self.stay();
        let count = self.cursor.take_many(into)?;
        self.advance();
        Ok(count)
    }
}

/// The side of a reader that the producer does not wait for. It only loads.
#[derive(Debug)]
pub struct Watcher<M> {
    cursor: Cursor<M>,
    /// Whether it skips all messages but the newest.
    latest: bool,
}

impl<M: Memory> Watcher<M> {
    /// Copies the newest message out, unless it has been taken.
    fn take_newest(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        let cursor = &mut self.cursor;
        for _ in 0..RETRIES {
            let tail = cursor.ring.audience.tail.load(Acquire);
            let newest = tail.wrapping_sub(1);
            if (newest.wrapping_sub(cursor.position) as i64) < 0 {
                break;
            }
            cursor.position = newest;
            if cursor.copy(into) {
                cursor.position = tail;
                cursor.taken += 1;
                return Ok(());
            }
        }
        match cursor.nothing() {
            Refusal::Closed => Err(Refusal::Closed),
            _ => Err(Refusal::NotYet),
        }
    }
}

impl<M: Memory> ReceiveSide for Watcher<M> {
    #[inline(always)]
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        if self.latest {
            self.take_newest(into)
        } else {
            self.cursor.take(into)
        }
    }

    #[inline]
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        if self.latest {
            let width = self.cursor.ring.payload.width();
            self.take_newest(&mut into[..width]).map(|()| 1)
        } else {
            self.cursor.take_many(into)
        }
    }
}

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.cursor.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.cursor.taken)
    }

    fn event(&self) -> &Event<M> {
        &self.cursor.ring.audience.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.cursor.ring.audience.producer)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }

    fn before_wait(&mut self, wait: Wait) {
        self.cursor.before_wait(wait);
    }

    fn after_wait(&mut self, slept: bool) {
        self.cursor.pace.after_wait(self.cursor.position, slept);
    }

    /// The producer does not wait for us any more. The role goes with the handle.
    fn leave(&mut self) {
        self.cursor.ring.audience.leave(self.row);
    }
}

impl<M: Memory> Side for Watcher<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.cursor.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.cursor.taken)
    }

    fn event(&self) -> &Event<M> {
        &self.cursor.ring.audience.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.cursor.ring.audience.producer)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }

    fn before_wait(&mut self, wait: Wait) {
        self.cursor.before_wait(wait);
    }

    fn after_wait(&mut self, slept: bool) {
        self.cursor.pace.after_wait(self.cursor.position, slept);
    }
}
