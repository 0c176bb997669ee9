//! The ring in its area of shared memory, whatever that is, and its producer: the protocol of
//! [`broadcast`](crate::broadcast), step by step.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64, Words};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use super::LOSSLESS;
use crate::pace::Pace;
use crate::role::{Holder, Role};
use crate::side::{End, Refusal, SendSide, Side, Whole};
use crate::slot;

/// Offsets in the object and in a row. Each line of 128 bytes has one writer, or is hardly ever written.
mod field {
    /// Written by the producer.
    pub(super) const TAIL: usize = 0;
    /// Read by the producer with every message, written when readers sleep, come or go.
    pub(super) const ITEMS: usize = 128;
    pub(super) const CLOSED: usize = 132;
    pub(super) const JOINED: usize = 136;
    /// Read by lossless readers with every message, written when the producer's mood changes.
    pub(super) const SPACE: usize = 256;
    /// Written when the producer changes.
    pub(super) const PRODUCER: usize = 384;
    /// One row for each lossless reader, written by that reader.
    pub(super) const ROWS: usize = 512;
    pub(super) const ROW: usize = 128;
    pub(super) const SLOTS: usize = ROWS + super::LOSSLESS * ROW;

    /// In a row.
    pub(super) const ROLE: usize = 0;
    pub(super) const ACTIVE: usize = 8;
    pub(super) const HEAD: usize = 16;
}

/// The word of a slot that holds the message of this position: odd, so that a slot of zeros holds none.
#[inline]
pub fn full(position: u64) -> u64 {
    position << 1 | 1
}

/// The word of a slot in which the message of this position is being written.
#[inline]
pub(super) fn writing(position: u64) -> u64 {
    full(position).wrapping_sub(1)
}

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    pub(super) tail: Word64<M>,
    pub(super) items: Event<M>,
    pub(super) closed: Word32<M>,
    pub(super) joined: Word64<M>,
    pub(super) space: Event<M>,
    pub(super) producer: Role<M>,
    pub(super) rows: Vec<Row<M>>,
    pub(super) words: Words<M>,
    pub(super) payload: Slots<M>,
}

/// The row of a lossless reader.
#[derive(Clone, Debug)]
pub(super) struct Row<M> {
    pub(super) role: Role<M>,
    /// Whether the producer heeds it.
    pub(super) active: Word64<M>,
    pub(super) head: Word64<M>,
}

impl<M: Memory> Shared<M> {
    /// The ring of `capacity` slots for messages of that size and alignment in `area`.
    pub fn new(
        area: &Area<M>,
        capacity: usize,
        size: usize,
        align: usize,
    ) -> Result<Self, OutOfArea> {
        let row = |index: usize| {
            let at = field::ROWS + index * field::ROW;
            Ok(Row {
                role: Role::new(area, at + field::ROLE)?,
                active: area.word64(at + field::ACTIVE)?,
                head: area.word64(at + field::HEAD)?,
            })
        };
        let (words, payload) = slot::slots(area, field::SLOTS, capacity, (size, align))?;
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            items: Event::new(area, field::ITEMS, Waiters::Many)?,
            closed: area.word32(field::CLOSED)?,
            joined: area.word64(field::JOINED)?,
            space: Event::new(area, field::SPACE, Waiters::One)?,
            producer: Role::new(area, field::PRODUCER)?,
            rows: (0..LOSSLESS).map(row).collect::<Result<_, _>>()?,
            words,
            payload,
        })
    }

    /// The ring that the directory says is in `area`, for whoever does not know its messages.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let (size, align) = slot::of_entry(entry);
        Self::new(area, entry.parameters[0] as usize, size, align)
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize, size: usize, align: usize) -> Option<usize> {
        slot::size(capacity, size, align)?.checked_add(field::SLOTS)
    }

    /// The producer's role.
    pub fn producer(&self) -> &Role<M> {
        &self.producer
    }

    /// The roles of the lossless readers.
    pub fn readers(&self) -> impl Iterator<Item = &Role<M>> {
        self.rows.iter().map(|row| &row.role)
    }

    /// What the holder of the producer's role works with.
    pub fn sender(&self) -> Sender<M> {
        // A predecessor may have died between the word of its last message and the tail.
        let mut tail = self.tail.load(Acquire);
        for _ in 0..self.capacity() {
            if self.words.load(tail, Acquire) != full(tail) {
                break;
            }
            tail = tail.wrapping_add(1);
        }
        self.tail.store(tail, Release);
        Sender {
            ring: self.clone(),
            tail,
            limit: tail,
            joined: 0,
            pace: Pace::new(tail),
        }
    }

    /// The oldest message before `tail` that is whole; `tail` if there is none.
    pub(super) fn oldest(&self, tail: u64) -> u64 {
        let mut position = tail.wrapping_sub(self.capacity() as u64);
        while position != tail && self.words.load(position, Acquire) != full(position) {
            position = position.wrapping_add(1);
        }
        position
    }

    /// How many messages the producer publishes between two looks at who has joined.
    pub(super) fn run(&self) -> u64 {
        (self.capacity() as u64 / 4).clamp(1, 16)
    }

    /// How far behind `tail` the slowest lossless reader is, at most a ring, and its row.
    fn slowest(&self, tail: u64) -> Option<(u64, &Row<M>)> {
        let active = self.rows.iter().filter(|row| row.active.load(Acquire) != 0);
        // ORDERING: Acquire pairs with the Release in `Receiver::advance`: the slots have been read.
        let behind = active.map(|row| (tail.wrapping_sub(row.head.load(Acquire)), row));
        behind
            .map(|(behind, row)| (behind.min(self.capacity() as u64), row))
            .max_by_key(|(behind, _)| *behind)
    }
}

impl<M: Memory> Whole for Shared<M> {
    /// Messages that the slowest lossless reader has still to take.
    fn len(&self) -> usize {
        let tail = self.tail.load(Acquire);
        self.slowest(tail).map_or(0, |(behind, _)| behind as usize)
    }

    fn capacity(&self) -> usize {
        self.payload.count()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }

    fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `Cursor::nothing`: who sees the ring closed sees every message that
        // was pushed before it was closed.
        self.closed.store(1, Release);
        self.items.notify(u32::MAX);
        self.space.notify(1);
    }

    /// The producer stops waiting for the dead one.
    fn recover(&self, dead: ParticipantId) {
        for row in &self.rows {
            if row.role.holder() == Holder::Present(dead) {
                // First, while nobody else can have the row.
                row.active.store(0, Release);
                row.role.recover(dead);
            }
        }
        self.producer.recover(dead);
        self.items.notify(u32::MAX);
        self.space.notify(1);
    }

    fn moved(&self, end: End, _place: usize, counted: u64) -> (u64, u64) {
        let messages = match end {
            End::Producer => self.tail.load(Relaxed),
            End::Consumer => counted,
        };
        (messages, messages.wrapping_mul(self.payload.width() as u64))
    }
}

/// The producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    /// Our position.
    tail: u64,
    /// Where the slowest lossless reader, when last looked at, makes us stop.
    limit: u64,
    /// How often somebody had joined, when last looked at.
    joined: u64,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    /// Whether there is room for a message.
    #[inline]
    fn room(&mut self) -> Result<(), Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        // ORDERING: Acquire pairs with the Release in `Shared::receiver`: the row comes before the count.
        let joined = self.ring.joined.load(Acquire);
        if joined != self.joined || self.tail == self.limit {
            self.look_at_readers(joined)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn look_at_readers(&mut self, joined: u64) -> Result<(), Refusal> {
        self.pace.stream(&self.ring.space, self.tail);
        let capacity = self.ring.capacity() as u64;
        let slowest = self.ring.slowest(self.tail);
        let behind = slowest.map_or(0, |(behind, _)| behind);
        self.joined = joined;
        self.limit = self.tail.wrapping_add(capacity - behind);
        match slowest {
            Some((behind, row)) if behind == capacity => match row.role.holder() {
                Holder::Present(reader) => Err(Refusal::Watch(reader)),
                _ => Err(Refusal::NotYet),
            },
            _ => Ok(()),
        }
    }

    /// Makes the slot ours: what was in it is lost to readers that may miss messages.
    #[inline]
    fn begin(&self) {
        self.ring
            .words
            .store(self.tail, writing(self.tail), Relaxed);
        // ORDERING: pairs with the fence in `Cursor::copy`: who sees a byte of the message sees the word of `begin`.
        self.ring.payload.memory().fence(Release);
    }

    #[inline]
    fn publish(&mut self) {
        // ORDERING: Release pairs with the Acquire in `Cursor::copy`: the message comes before the word.
        self.ring.words.store(self.tail, full(self.tail), Release);
        self.tail = self.tail.wrapping_add(1);
        // ORDERING: Release pairs with the Acquire of whoever joins: it sees the words of all messages before the tail.
        self.ring.tail.store(self.tail, Release);
    }

    /// Wakes the readers. Its fence stands between this run and the next look at who has joined.
    #[inline]
    fn announce(&self) {
        self.ring.items.notify(u32::MAX);
    }
}

impl<M: Memory> SendSide for Sender<M> {
    #[inline]
    fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal> {
        self.room()?;
        self.begin();
        self.ring.payload.write(self.tail, message);
        self.publish();
        self.announce();
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal> {
        let run = self.ring.run() as usize;
        let mut count = 0;
        for message in messages.chunks_exact(self.ring.payload.width()) {
            if count > 0 && count % run == 0 {
                self.announce();
            }
            match self.room() {
                Ok(()) => {}
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
            self.begin();
            self.ring.payload.write(self.tail, message);
            self.publish();
            count += 1;
        }
        self.announce();
        Ok(count)
    }

    #[inline]
    fn try_reserve(&mut self) -> Result<u64, Refusal> {
        self.room()?;
        self.begin();
        Ok(self.tail)
    }

    #[inline]
    fn commit(&mut self, _place: u64) {
        self.publish();
        self.announce();
    }

    /// Nothing to do: the position is the next one to be written.
    #[inline]
    fn abort(&mut self, _place: u64) {}

    fn payload(&self) -> &Slots<M> {
        &self.ring.payload
    }
}

impl<M: Memory> Side for Sender<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Producer
    }

    fn event(&self) -> &Event<M> {
        &self.ring.space
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.tail, slept);
    }
}
