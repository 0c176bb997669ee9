//! The ring in its area of shared memory, whatever that is, and its producer: the protocol of
//! [`broadcast`](crate::broadcast), step by step.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::Event;
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Words};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use super::audience::{Audience, Heed, Patience, field, patience_of, patience_parameter};
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, Moved, Refusal, SendSide, Side, Whole};
use crate::slot;

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

/// The second parameter of an object: the distance of two slots, and above it the patience.
pub(super) fn second_parameter(stride: u64, patience: Patience) -> u64 {
    stride | patience_parameter(patience) << 32
}

/// What the second parameter of an object says.
pub(super) fn split(second: u64) -> (u64, Patience) {
    (second & u64::from(u32::MAX), patience_of(second >> 32))
}

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    pub(super) audience: Audience<M>,
    pub(super) words: Words<M>,
    pub(super) payload: Slots<M>,
}

impl<M: Memory> Shared<M> {
    /// The ring of `capacity` slots for messages of that size and alignment in `area`.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
    pub fn new(
        area: &Area<M>,
        capacity: usize,
        size: usize,
        align: usize,
    ) -> Result<Self, OutOfArea> {
        let (words, payload) = slot::slots(area, field::END, capacity, (size, align))?;
        Ok(Self {
            audience: Audience::new(area)?,
            words,
            payload,
        })
    }

    /// The same ring, whose producer lets go of a lossless reader that holds up a push for so long; never if `None`.
    pub fn with_patience(self, patience: Option<Duration>) -> Self {
        Self {
            audience: self.audience.with_patience(patience),
            ..self
        }
    }

    /// The ring that the directory says is in `area`, for whoever does not know its messages.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let [capacity, second] = entry.parameters;
        let (stride, patience) = split(second);
        let (size, align) = slot::of_entry(entry, stride);
        let ring = Self::new(area, capacity as usize, size, align)?;
        Ok(ring.with_patience(patience))
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize, size: usize, align: usize) -> Option<usize> {
        slot::size(capacity, size, align)?.checked_add(field::END)
    }

    /// The producer's role.
    pub fn producer(&self) -> &Role<M> {
        &self.audience.producer
    }

    /// The roles of the lossless readers.
    pub fn readers(&self) -> impl Iterator<Item = &Role<M>> {
        self.audience.rows.iter().map(|row| &row.role)
    }

    /// What the holder of the producer's role works with.
    pub fn sender(&self) -> Sender<M> {
        // A predecessor may have died between the word of its last message and the tail.
        let mut tail = self.audience.tail.load(Acquire);
        for _ in 0..self.capacity() {
            if self.words.load(tail, Acquire) != full(tail) {
                break;
            }
            tail = tail.wrapping_add(1);
        }
        self.audience.tail.store(tail, Release);
        Sender {
            ring: self.clone(),
            tail,
            heed: Heed::new(tail),
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
}

impl<M: Memory> Whole for Shared<M> {
    /// Messages that the slowest lossless reader has still to take.
    fn len(&self) -> usize {
        let tail = self.audience.tail.load(Acquire);
        let slowest = self.audience.slowest(tail, self.capacity() as u64);
        slowest.map_or(0, |(behind, _)| behind as usize)
    }

    fn capacity(&self) -> usize {
        self.payload.count()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.audience.is_closed()
    }

    fn close(&self) {
        self.audience.close();
    }

    /// The producer stops waiting for the dead one.
    fn recover(&self, dead: ParticipantId) {
        self.audience.recover(dead);
    }

    fn moved(&self, end: End, _place: usize, counted: Moved) -> Moved {
        let messages = match end {
            End::Producer => self.audience.tail.load(Relaxed),
            End::Consumer => counted.messages,
        };
        Moved::of(messages, self.payload.width())
    }
}

/// The producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    /// Our position.
    tail: u64,
    heed: Heed,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    /// Whether there is room for a message.
    #[inline]
    fn room(&mut self) -> Result<(), Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        let end = self.tail.wrapping_add(1);
        if self.heed.suffices(&self.ring.audience, self.tail, end) {
            return Ok(());
        }
        self.look_at_readers(end)
    }

    #[inline(never)]
    fn look_at_readers(&mut self, end: u64) -> Result<(), Refusal> {
        let ring = &self.ring;
        self.pace.stream(&ring.audience.space, self.tail);
        let capacity = ring.capacity() as u64;
        self.heed.look(&ring.audience, self.tail, end, capacity)
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
        self.ring.audience.tail.store(self.tail, Release);
    }

    /// Wakes the readers. Its fence stands between this run and the next look at who has joined.
    #[inline]
    fn announce(&self) {
        self.ring.audience.items.notify(u32::MAX);
    }
}

impl<M: Memory> SendSide for Sender<M> {
    #[inline(always)]
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
        &self.ring.audience.space
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.tail, slept);
    }
}
