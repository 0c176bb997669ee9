//! The ring in its area of shared memory, whatever that is, and its two sides: the protocol of [`spsc`](crate::spsc), step
//! by step.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Wait, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use crate::pace::Pace;
use crate::role::Role;
use crate::side::{
    End, LendSide, Moved, NoPeek, Peek, ReceiveSide, Refusal, SendSide, Side, Spot, Taken, Whole,
};

/// Offsets in the object. Each line of 128 bytes has one writer, or is hardly ever written.
mod field {
    /// Written by the producer.
    pub(super) const TAIL: usize = 0;
    pub(super) const SEEN: usize = 8;
    /// Written by the consumer.
    pub(super) const HEAD: usize = 128;
    /// Read by the producer with every message, written when the consumer's mood changes.
    pub(super) const ITEMS: usize = 256;
    pub(super) const CLOSED: usize = 260;
    /// Read by the consumer with every message, written when the producer's mood changes.
    pub(super) const SPACE: usize = 384;
    /// Written when a role changes hands.
    pub(super) const PRODUCER: usize = 512;
    pub(super) const CONSUMER: usize = 520;
    pub(super) const SLOTS: usize = 640;
}

/// How long a side that has caught up with a stream leaves the lines of the other one alone: as many nanoseconds as there
/// are slots, which is a fraction of the time in which these are filled or emptied, up to this.
const BACK_OFF: usize = 800;

/// How far ahead of a message its lines are fetched, in bytes.
const AHEAD: usize = 2048;

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    tail: Word64<M>,
    /// The head that the producer goes by. It writes nothing a ring ahead of it.
    seen: Word64<M>,
    head: Word64<M>,
    items: Event<M>,
    space: Event<M>,
    closed: Word32<M>,
    producer: Role<M>,
    consumer: Role<M>,
    slots: Slots<M>,
}

impl<M: Memory> Shared<M> {
    /// The ring of `capacity` slots of `stride` bytes in `area`.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
    pub fn new(area: &Area<M>, capacity: usize, stride: usize) -> Result<Self, OutOfArea> {
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            seen: area.word64(field::SEEN)?,
            head: area.word64(field::HEAD)?,
            items: Event::new(area, field::ITEMS, Waiters::One)?,
            space: Event::new(area, field::SPACE, Waiters::One)?,
            closed: area.word32(field::CLOSED)?,
            producer: Role::new(area, field::PRODUCER)?,
            consumer: Role::new(area, field::CONSUMER)?,
            slots: area.slots(field::SLOTS, stride, capacity)?,
        })
    }

    /// The ring that the directory says is in `area`.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let [capacity, stride] = entry.parameters;
        Self::new(area, capacity as usize, stride as usize)
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize, stride: usize) -> Option<usize> {
        capacity.checked_mul(stride)?.checked_add(field::SLOTS)
    }

    /// The producer's role.
    pub fn producer(&self) -> &Role<M> {
        &self.producer
    }

    /// The consumer's role.
    pub fn consumer(&self) -> &Role<M> {
        &self.consumer
    }

    /// What the holder of the producer's role works with.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`] if its positions contradict each other.
    pub fn sender(&self) -> Result<Sender<M>, Refusal> {
        let (head, tail) = self.positions()?;
        self.show(head);
        Ok(Sender {
            ring: self.clone(),
            ahead: self.ahead(),
            tail,
            head,
            pace: Pace::new(tail),
        })
    }

    /// What the holder of the consumer's role works with.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`] if its positions contradict each other.
    pub fn receiver(&self) -> Result<Receiver<M>, Refusal> {
        let (head, tail) = self.positions()?;
        Ok(Receiver {
            ring: self.clone(),
            ahead: self.ahead(),
            tail,
            head,
            pace: Pace::new(head),
        })
    }

    /// Where both sides are; where there is one, the caller is one of them.
    fn positions(&self) -> Result<(u64, u64), Refusal> {
        // The head first: it never passes a tail that is loaded later. The tail may run on meanwhile, but not for a whole
        // ring, since the head that limits it can only have moved as well.
        let head = self.head.load(Acquire);
        let tail = self.tail.load(Acquire);
        let head = if self.distance(head, tail).is_ok() {
            head
        } else {
            self.head.load(Acquire)
        };
        self.distance(head, tail).map(|_| (head, tail))
    }

    /// Messages between two positions; `Corrupt` if there can be no so many.
    fn distance(&self, head: u64, tail: u64) -> Result<usize, Refusal> {
        let distance = tail.wrapping_sub(head);
        if distance > self.slots.count() as u64 {
            Err(Refusal::Corrupt)
        } else {
            Ok(distance as usize)
        }
    }

    /// Tells observers which messages the producer may write over from now on.
    fn show(&self, head: u64) {
        // ORDERING: Release pairs with the Acquire in `peek`: who sees it sees a head that is no older.
        self.seen.store(head, Release);
        // ORDERING: Release pairs with the Acquire fence in `peek`: who copies a byte of a later message sees the head that
        // let it be written.
        self.slots.memory().fence(Release);
    }

    /// How many messages further on lie those whose lines are fetched now: not so many that the other side works there.
    fn ahead(&self) -> usize {
        let slots = &self.slots;
        (AHEAD / slots.stride()).clamp(1, (slots.count() / 4).max(1))
    }

    /// How long a side that has caught up stands back.
    fn back_off(&self) -> Duration {
        Duration::from_nanos(self.slots.count().min(BACK_OFF) as u64)
    }

    /// How many messages were ever published, and how many of them were committed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.tail.load(Acquire), self.head.load(Acquire))
    }
}

impl<M: Memory> Whole for Shared<M> {
    fn len(&self) -> usize {
        self.positions()
            .map_or(0, |(head, tail)| tail.wrapping_sub(head) as usize)
    }

    fn capacity(&self) -> usize {
        self.slots.count()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }

    fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `Receiver::refresh`: who sees the ring closed sees every message
        // that was pushed before it was closed.
        self.closed.store(1, Release);
        self.items.notify(1);
        self.space.notify(1);
    }

    /// What the dead one had not published or committed is as if it had never begun: nothing but its roles needs repair.
    fn recover(&self, dead: ParticipantId) {
        self.producer.recover(dead);
        self.consumer.recover(dead);
    }

    fn moved(&self, end: End, _place: usize, _counted: Moved) -> Moved {
        let (published, committed) = self.counts();
        let messages = match end {
            End::Producer => published,
            End::Consumer => committed,
        };
        Moved::of(messages, self.slots.stride())
    }
}

impl<M: Memory> Peek for Shared<M> {
    fn oldest(&self, _lane: usize) -> Spot {
        Spot::of(self.head.load(Relaxed))
    }

    fn newest(&self, _lane: usize) -> Spot {
        Spot::of(self.tail.load(Relaxed))
    }

    fn peek(&self, lane: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek> {
        let position = at.position;
        // ORDERING: Acquire pairs with the Release in `Sender::advance`: we see the message.
        let published = self.tail.load(Acquire).wrapping_sub(position) as i64;
        if published <= 0 {
            return Err(NoPeek::NotYet);
        }
        into.resize(self.slots.stride(), 0);
        self.slots.read(position, into);
        // ORDERING: pairs with the fence in `show`.
        self.slots.memory().fence(Acquire);
        // ORDERING: Acquire pairs with the Release in `show`: where we go on is no older.
        if self.seen.load(Acquire).wrapping_sub(position) as i64 > 0 {
            return Err(NoPeek::Gone(self.oldest(lane)));
        }
        Ok(Spot::of(position.wrapping_add(1)))
    }
}

/// The producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    /// How many messages further on lines are fetched.
    ahead: usize,
    /// Our position.
    tail: u64,
    /// The consumer's, when last seen.
    head: u64,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    /// Free slots, for all we know.
    #[inline]
    fn free(&self) -> usize {
        self.ring.slots.count() - self.tail.wrapping_sub(self.head) as usize
    }

    /// Fetches the lines of a message to come, if there is room for it.
    #[inline]
    fn fetch_ahead(&self) {
        if self.free() > self.ahead {
            let ahead = self.tail.wrapping_add(self.ahead as u64);
            self.ring.slots.expect_write(ahead);
        }
    }

    /// Looks at the consumer's position; the room there is, or `NotYet`.
    #[inline(never)]
    fn refresh(&mut self) -> Result<usize, Refusal> {
        // ORDERING: Acquire pairs with the Release in `Receiver::advance`: the slots have been read.
        let head = self.ring.head.load(Acquire);
        self.ring.distance(head, self.tail)?;
        self.head = head;
        self.ring.show(head);
        self.pace.stream(&self.ring.space, self.tail);
        match self.free() {
            0 => Err(Refusal::NotYet),
            free => Ok(free),
        }
    }

    /// Publishes the messages that were written.
    #[inline]
    fn advance(&mut self, count: usize) {
        self.tail = self.tail.wrapping_add(count as u64);
        // ORDERING: Release pairs with the Acquire in `Receiver::refresh`: the messages come before the position.
        self.ring.tail.store(self.tail, Release);
        self.ring.items.notify(1);
    }
}

impl<M: Memory> SendSide for Sender<M> {
    #[inline(always)]
    fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let place = self.try_reserve()?;
        self.ring.slots.write(place, message);
        self.advance(1);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        let stride = self.ring.slots.stride();
        let wanted = messages.len() / stride;
        let mut free = self.free();
        if free < wanted {
            free = self.refresh()?;
        }
        self.fetch_ahead();
        let count = wanted.min(free);
        self.ring
            .slots
            .write_run(self.tail, &messages[..count * stride]);
        self.advance(count);
        Ok(count)
    }

    #[inline]
    fn try_reserve(&mut self) -> Result<u64, Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        if self.free() == 0 {
            self.refresh()?;
        }
        self.fetch_ahead();
        Ok(self.tail)
    }

    #[inline]
    fn commit(&mut self, _place: u64) {
        self.advance(1);
    }

    /// Nothing to do: what is behind the tail is ours anyway.
    #[inline]
    fn abort(&mut self, _place: u64) {}

    fn payload(&self) -> &Slots<M> {
        &self.ring.slots
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

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.consumer)
    }

    fn before_wait(&mut self, wait: Wait) {
        let memory = self.ring.space.memory();
        self.pace
            .before_wait(memory, self.tail, wait, self.ring.back_off());
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.tail, slept);
    }
}

/// The consumer's side.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    /// How many messages further on lines are fetched.
    ahead: usize,
    /// The producer's position, when last seen.
    tail: u64,
    /// Our position.
    head: u64,
    pace: Pace,
}

impl<M: Memory> Receiver<M> {
    /// Messages to read, for all we know.
    #[inline]
    fn ready(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Fetches the lines of a message to come, if it is there.
    #[inline]
    fn fetch_ahead(&self) {
        if self.ready() > self.ahead {
            let ahead = self.head.wrapping_add(self.ahead as u64);
            self.ring.slots.expect_read(ahead);
        }
    }

    /// Looks at the producer's position; the messages there are, or why there are none.
    #[inline]
    fn refresh(&mut self) -> Result<usize, Refusal> {
        // ORDERING: Acquire pairs with the Release in `Sender::advance`: the messages come before the position.
        let tail = self.ring.tail.load(Acquire);
        let ready = self.ring.distance(self.head, tail)?;
        self.tail = tail;
        if ready == 0 {
            return Err(self.closed_or_empty());
        }
        self.pace.stream(&self.ring.items, self.head);
        Ok(ready)
    }

    #[inline]
    fn closed_or_empty(&self) -> Refusal {
        // ORDERING: Acquire pairs with the Release in `close`: what was pushed before is seen by the load of the tail.
        if self.ring.closed.load(Acquire) != 0 && self.ring.tail.load(Acquire) == self.head {
            return Refusal::Closed;
        }
        Refusal::NotYet
    }

    /// Commits the messages that were read.
    #[inline]
    fn advance(&mut self, count: usize) {
        self.head = self.head.wrapping_add(count as u64);
        // ORDERING: Release pairs with the Acquire in `Sender::refresh`: the slots have been read.
        self.ring.head.store(self.head, Release);
        self.ring.space.notify(1);
    }
}

impl<M: Memory> ReceiveSide for Receiver<M> {
    #[inline(always)]
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        let taken = self.try_read()?;
        self.ring.slots.read(taken.place, into);
        self.advance(1);
        Ok(())
    }

    #[inline]
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        let stride = self.ring.slots.stride();
        let wanted = into.len() / stride;
        let mut ready = self.ready();
        if ready < wanted {
            ready = self.refresh()?;
        }
        self.fetch_ahead();
        let count = wanted.min(ready);
        self.ring
            .slots
            .read_run(self.head, &mut into[..count * stride]);
        self.advance(count);
        Ok(count)
    }
}

impl<M: Memory> LendSide for Receiver<M> {
    #[inline]
    fn try_read(&mut self) -> Result<Taken, Refusal> {
        if self.ready() == 0 {
            self.refresh()?;
        }
        self.fetch_ahead();
        Ok(Taken {
            place: self.head,
            redelivered: false,
        })
    }

    #[inline]
    fn release(&mut self, _place: u64) {
        self.advance(1);
    }

    /// Nothing to do: the head has not moved.
    #[inline]
    fn put_back(&mut self, _place: u64) {}

    fn payload(&self) -> &Slots<M> {
        &self.ring.slots
    }
}

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    fn event(&self) -> &Event<M> {
        &self.ring.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.producer)
    }

    fn before_wait(&mut self, wait: Wait) {
        let memory = self.ring.items.memory();
        self.pace
            .before_wait(memory, self.head, wait, self.ring.back_off());
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.head, slept);
    }
}
