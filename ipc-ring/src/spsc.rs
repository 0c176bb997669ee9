//! SPSC: one producer, one consumer, messages of a fixed type, first in first out.
//!
//! The fastest way from one process to one other. Never allocates, never overwrites, never loses a message that was
//! published. Does not serve two producers or two consumers at a time: a second one is refused.
//!
//! # Protocol
//!
//! ```text
//! tail    position of the next message to be written; only the producer stores it
//! head    position of the next message to be read; only the consumer stores it
//! slots   message of position p in slot p mod capacity; no header, no padding
//!
//! push    slot(tail) := message;  tail := tail + 1     publishes
//! pop     message := slot(head);  head := head + 1     commits: the message is delivered
//! ```
//!
//! Each side keeps its own position privately and the other's last seen value, and looks at the other's only when that
//! value says full or empty. A batch moves its position once.
//!
//! # Orderings
//!
//! The store of `tail` is Release and pairs with the Acquire load in the consumer's `refresh`: whoever sees the position
//! sees the message. The store of `head` is Release and pairs with the Acquire load in the producer's `refresh`: the slot has
//! been read before it is written again.
//!
//! # When a participant dies
//!
//! A producer killed before its store of `tail` has published nothing; its successor writes the same slot. One killed
//! after it has published, though a sleeping consumer may find out only at the end of its bounded sleep. A consumer
//! killed before its store of `head` has taken nothing: its successor gets the message. One killed after it, but before
//! `pop` returned, has taken the message with it. The role of the dead is free as soon as anybody asks for it.
//!
//! Sources: Lamport (1983) for the ring; FastForward and rtrb for the private copies of the other side's position. Ours
//! are the roles, the recovery and the [waiting](ipc_core::event).

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_core::event::{Event, Wait, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, Segment, SegmentError};
use ipc_core::{Mapped, Message};

use crate::error::ClaimError;
use crate::ring;
use crate::role::{Holder, Role};
use crate::side::{self, LendSide, ReceiveSide, Refusal, SendSide, Side, Taken};

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"spsc\0\0\0\0",
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 1;

/// Offsets in the object. Each line of 128 bytes has one writer, or is hardly ever written.
mod field {
    /// Written by the producer.
    pub(super) const TAIL: usize = 0;
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

/// After so many messages without a sleep, a side promises not to sleep for now.
const CALM: u64 = 4096;

// ---------------------------------------------------------------------------------------------------- the algorithm

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    tail: Word64<M>,
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
    pub fn new(area: &Area<M>, capacity: usize, stride: usize) -> Result<Self, OutOfArea> {
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            head: area.word64(field::HEAD)?,
            items: Event::new(area, field::ITEMS, Waiters::One)?,
            space: Event::new(area, field::SPACE, Waiters::One)?,
            closed: area.word32(field::CLOSED)?,
            producer: Role::new(area, field::PRODUCER)?,
            consumer: Role::new(area, field::CONSUMER)?,
            slots: area.slots(field::SLOTS, stride, capacity)?,
        })
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
    pub fn sender(&self) -> Result<Sender<M>, Refusal> {
        let (head, tail) = self.positions()?;
        Ok(Sender {
            ring: self.clone(),
            tail,
            head,
            calm_since: tail,
        })
    }

    /// What the holder of the consumer's role works with.
    pub fn receiver(&self) -> Result<Receiver<M>, Refusal> {
        let (head, tail) = self.positions()?;
        Ok(Receiver {
            ring: self.clone(),
            tail,
            head,
            run_since: head,
            calm_since: head,
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

    /// Closes the ring for good, and wakes both sides.
    pub fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `Receiver::refresh`: who sees the ring closed sees every message
        // that was pushed before it was closed.
        self.closed.store(1, Release);
        self.items.notify(1);
        self.space.notify(1);
    }

    /// Takes its roles from a participant that is proven dead. What it had not published or committed is as if it had
    /// never begun; nothing else needs repair. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        self.producer.recover(dead);
        self.consumer.recover(dead);
    }

    /// Whether somebody has closed it.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
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

    /// Whether nothing was in the ring when looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        self.slots.count()
    }

    /// Messages in the ring when looked at.
    pub fn len(&self) -> usize {
        self.positions()
            .map_or(0, |(head, tail)| tail.wrapping_sub(head) as usize)
    }
}

/// The producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    /// Our position.
    tail: u64,
    /// The consumer's, when last seen.
    head: u64,
    /// Our position when we last slept.
    calm_since: u64,
}

impl<M: Memory> Sender<M> {
    /// Free slots, for all we know.
    #[inline]
    fn free(&self) -> usize {
        self.ring.slots.count() - self.tail.wrapping_sub(self.head) as usize
    }

    /// Looks at the consumer's position; the room there is, or `NotYet`.
    #[inline(never)]
    fn refresh(&mut self) -> Result<usize, Refusal> {
        // ORDERING: Acquire pairs with the Release in `Receiver::advance`: the slots have been read.
        let head = self.ring.head.load(Acquire);
        self.ring.distance(head, self.tail)?;
        self.head = head;
        if self.tail.wrapping_sub(self.calm_since) > CALM {
            self.ring.space.start_streaming();
        }
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
    #[inline]
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

    fn event(&self) -> &Event<M> {
        &self.ring.space
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.consumer)
    }

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn capacity(&self) -> usize {
        self.ring.slots.count()
    }

    fn close(&self) {
        self.ring.close();
    }

    fn before_wait(&mut self, _wait: Wait) {}

    fn after_wait(&mut self, slept: bool) {
        if slept {
            self.calm_since = self.tail;
        }
    }

    fn leave(&mut self) {}
}

/// The consumer's side.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    /// The producer's position, when last seen.
    tail: u64,
    /// Our position.
    head: u64,
    /// Our position when we last found nothing, and when we last slept.
    run_since: u64,
    calm_since: u64,
}

impl<M: Memory> Receiver<M> {
    /// Messages to read, for all we know.
    #[inline]
    fn ready(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
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
        if self.head.wrapping_sub(self.calm_since) > CALM {
            self.ring.items.start_streaming();
        }
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
    #[inline]
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

    fn event(&self) -> &Event<M> {
        &self.ring.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.producer)
    }

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn capacity(&self) -> usize {
        self.ring.slots.count()
    }

    fn close(&self) {
        self.ring.close();
    }

    fn before_wait(&mut self, wait: Wait) {
        if self.head.wrapping_sub(self.run_since) > 1 && wait != Wait::Block {
            side::let_the_stream_flow(self.ring.items.memory());
        }
    }

    fn after_wait(&mut self, slept: bool) {
        self.run_since = self.head;
        if slept {
            self.calm_since = self.head;
        }
    }

    fn leave(&mut self) {}
}

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    let [capacity, stride] = entry.parameters;
    let ring = Shared::new(area, capacity as usize, stride as usize)?;
    ring.recover(dead);
    Ok(())
}

// ------------------------------------------------------------------------------------------------------ the handles

/// A ring of `T` in shared memory, from which its two ends are claimed.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    object: Object,
    shared: Shared<Mapped>,
    message: PhantomData<fn(T) -> T>,
}

impl<T: Message> ring::Ring for Ring<T> {
    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        let stride = size_of::<T>();
        let len = Shared::<Mapped>::size(capacity, stride);
        ring::spec_of::<T>(KIND, VERSION, capacity, Some(stride), len)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let stride = size_of::<T>();
        let capacity = ring::capacity_of::<T>(&object, KIND, VERSION, Some(stride))?;
        let shared = Shared::new(object.area(), capacity, stride);
        Ok(Self {
            shared: shared.map_err(|_| ring::misfit(&object))?,
            object,
            message: PhantomData,
        })
    }
}

/// The one producer of a ring.
pub type Producer<T> = crate::Producer<T, Sender<Mapped>>;

/// The one consumer of a ring.
pub type Consumer<T> = crate::Consumer<T, Receiver<Mapped>>;

impl<T: Message> Ring<T> {
    /// Claims the role of the producer: there is one at a time. A producer that died is cleared up after, and the new one
    /// goes on where its publications end.
    pub fn producer(&self) -> Result<Producer<T>, ClaimError> {
        let (role, peer) = (self.shared.producer(), self.shared.consumer());
        let claim = ring::Claim::role(self.segment(), role, "producer", peer)?;
        let side = self.shared.sender().map_err(|_| damaged(&self.object))?;
        Ok(Producer::new(side, claim))
    }

    /// Claims the role of the consumer: there is one at a time. A consumer that died is cleared up after, and the new one
    /// goes on where its commits end.
    pub fn consumer(&self) -> Result<Consumer<T>, ClaimError> {
        let (role, peer) = (self.shared.consumer(), self.shared.producer());
        let claim = ring::Claim::role(self.segment(), role, "consumer", peer)?;
        let side = self.shared.receiver().map_err(|_| damaged(&self.object))?;
        Ok(Consumer::new(side, claim))
    }

    /// The ring for the calling process, a forked child of the one that opened it.
    pub fn rejoin(&self) -> Result<Self, SegmentError> {
        let segment = self.segment().rejoin()?;
        ring::Ring::in_segment(&segment, &self.object.entry().name)
    }

    /// The segment that the ring lies in.
    pub fn segment(&self) -> &Segment {
        self.object.segment()
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        self.shared.slots.count()
    }

    /// How many messages were in it when it was looked at. While others push and pop, it may differ by the time you
    /// read it.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether nothing was in it when it was looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages were ever pushed, when it was looked at. Never becomes less.
    pub fn published(&self) -> u64 {
        self.shared.tail.load(Acquire)
    }

    /// How many of them were taken, by all consumers together, when it was looked at. Never becomes less.
    pub fn committed(&self) -> u64 {
        self.shared.head.load(Acquire)
    }

    /// Whether somebody has closed it. That stays true.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Closes the ring for good: nothing more goes in, what is in it can still be taken.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.shared.producer.holder()
    }

    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.shared.consumer.holder()
    }
}

impl<T: Message> Producer<T> {
    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.side().ring.consumer.holder()
    }
}

impl<T: Message> Consumer<T> {
    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.side().ring.producer.holder()
    }
}

fn damaged(object: &Object) -> SegmentError {
    SegmentError::Damaged(format!(
        "the positions of the ring {:?} contradict each other",
        object.entry().name
    ))
}
