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
use std::time::{Duration, Instant};

use ipc_core::bytemuck;
use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, Segment, SegmentError};
use ipc_core::{Mapped, Message};

use crate::error::{ClaimError, PopError, PushError};
use crate::ring;
use crate::role::{Holder, Role};

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

/// How long a consumer that has caught up with a stream leaves the producer's lines alone.
const BACK_OFF: Duration = Duration::from_nanos(800);

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

/// Why an attempt gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Full, or empty: wait for the other side.
    NotYet,
    /// Closed.
    Closed,
    /// The shared positions contradict each other.
    Corrupt,
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

    fn is_closed(&self) -> bool {
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

    /// Messages in the ring when looked at.
    fn len(&self) -> usize {
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
    /// Copies as many of the messages in as there is room for, and publishes them in one step. At least one, unless
    /// refused. `messages` holds whole messages, at least one.
    #[inline]
    pub fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal> {
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
        self.tail = self.tail.wrapping_add(count as u64);
        // ORDERING: Release pairs with the Acquire in `Receiver::refresh`: the messages come before the position.
        self.ring.tail.store(self.tail, Release);
        self.ring.items.notify(1);
        Ok(count)
    }

    /// Copies one message in and publishes it.
    #[inline]
    pub fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        if self.free() == 0 {
            self.refresh()?;
        }
        self.ring.slots.write(self.tail, message);
        self.tail = self.tail.wrapping_add(1);
        // ORDERING: as in `try_push`.
        self.ring.tail.store(self.tail, Release);
        self.ring.items.notify(1);
        Ok(())
    }

    #[inline]
    fn free(&self) -> usize {
        self.ring.slots.count() - self.tail.wrapping_sub(self.head) as usize
    }

    /// Looks at the consumer's position; the room there is, or `NotYet`.
    #[inline(never)]
    fn refresh(&mut self) -> Result<usize, Refusal> {
        // ORDERING: Acquire pairs with the Release in `Receiver`: the slots have been read.
        let head = self.ring.head.load(Acquire);
        let used = self.ring.distance(head, self.tail)?;
        self.head = head;
        if self.tail.wrapping_sub(self.calm_since) > CALM {
            self.ring.space.start_streaming();
        }
        if self.free() == 0 {
            Err(Refusal::NotYet)
        } else {
            Ok(self.ring.slots.count() - used)
        }
    }

    /// Waits until `attempt` gives something; `Ok(None)` at the deadline.
    pub fn wait<T>(
        &mut self,
        wait: Wait,
        deadline: Option<Duration>,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Refusal>,
        mut look_around: impl FnMut(&Role<M>) -> Result<(), Interrupted>,
    ) -> Result<Option<T>, Interrupted> {
        let (space, consumer) = (self.ring.space.clone(), self.ring.consumer.clone());
        let waited = wait_until(
            &space,
            wait,
            deadline,
            || not_yet(attempt(self)),
            || look_around(&consumer),
        )?;
        if waited.slept {
            self.calm_since = self.tail;
        }
        Ok(waited.got)
    }
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
    /// Copies as many messages out as there are and as fit in, and commits them in one step. At least one, unless
    /// refused. `into` has room for whole messages, at least one.
    #[inline]
    pub fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
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
        self.head = self.head.wrapping_add(count as u64);
        // ORDERING: Release pairs with the Acquire in `Sender::refresh`: the slots have been read.
        self.ring.head.store(self.head, Release);
        self.ring.space.notify(1);
        Ok(count)
    }

    /// Copies one message out and commits it.
    #[inline]
    pub fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        if self.ready() == 0 {
            self.refresh()?;
        }
        self.ring.slots.read(self.head, into);
        self.head = self.head.wrapping_add(1);
        // ORDERING: as in `try_pop`.
        self.ring.head.store(self.head, Release);
        self.ring.space.notify(1);
        Ok(())
    }

    #[inline]
    fn ready(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Looks at the producer's position; the messages there are, or why there are none.
    #[inline]
    fn refresh(&mut self) -> Result<usize, Refusal> {
        // ORDERING: Acquire pairs with the Release in `Sender`: the messages come before the position.
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

    /// Waits until `attempt` gives something; `Ok(None)` at the deadline.
    pub fn wait<T>(
        &mut self,
        wait: Wait,
        deadline: Option<Duration>,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Refusal>,
        mut look_around: impl FnMut(&Role<M>) -> Result<(), Interrupted>,
    ) -> Result<Option<T>, Interrupted> {
        let (items, producer) = (self.ring.items.clone(), self.ring.producer.clone());
        if self.head.wrapping_sub(self.run_since) > 1 && wait != Wait::Block {
            // We have caught up with a stream. Polling now would take the line that is being written away from the
            // producer for every single message.
            let until = items.memory().now() + BACK_OFF;
            while items.memory().now() < until {
                items.memory().pause();
            }
        }
        let waited = wait_until(
            &items,
            wait,
            deadline,
            || not_yet(attempt(self)),
            || look_around(&producer),
        )?;
        self.run_since = self.head;
        if waited.slept {
            self.calm_since = self.head;
        }
        Ok(waited.got)
    }
}

/// What ends a wait early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The ring is closed or damaged.
    Refused(Refusal),
    /// The other side has died.
    PeerDead,
}

fn not_yet<T>(attempt: Result<T, Refusal>) -> Result<Option<T>, Interrupted> {
    match attempt {
        Ok(got) => Ok(Some(got)),
        Err(Refusal::NotYet) => Ok(None),
        Err(refusal) => Err(Interrupted::Refused(refusal)),
    }
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
        let refuse = |fault: &str| {
            Err(SegmentError::Object(format!(
                "a ring of {capacity} messages: {fault}"
            )))
        };
        if !capacity.is_power_of_two() {
            let near = capacity.checked_next_power_of_two().unwrap_or(1 << 30);
            return refuse(&format!(
                "its capacity must be a power of two, such as {near}"
            ));
        }
        if size_of::<T>() == 0 {
            return refuse("a message of no bytes cannot be told from none");
        }
        let Some(len) = Shared::<Mapped>::size(capacity, size_of::<T>()) else {
            return refuse("it would not fit any memory");
        };
        let parameters = [capacity as u64, size_of::<T>() as u64];
        Ok(ObjectSpec {
            kind: KIND.tag,
            version: VERSION,
            len,
            schema: T::schema().text(),
            parameters,
        })
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        object.expect(KIND.tag, VERSION, &T::schema().text())?;
        let [capacity, stride] = object.entry().parameters;
        let fits = usize::try_from(capacity)
            .ok()
            .filter(|_| stride == size_of::<T>() as u64);
        let shared =
            fits.and_then(|capacity| Shared::new(object.area(), capacity, size_of::<T>()).ok());
        match shared {
            Some(shared) => Ok(Self {
                object,
                shared,
                message: PhantomData,
            }),
            None => Err(SegmentError::Damaged(format!(
                "{capacity} slots of {stride} bytes do not fit the {} bytes of the ring {:?}",
                object.entry().len,
                object.entry().name
            ))),
        }
    }
}

impl<T: Message> Ring<T> {
    /// Claims the role of the producer: there is one at a time. A producer that died is cleared up after, and the new one
    /// goes on where its publications end.
    pub fn producer(&self) -> Result<Producer<T>, ClaimError> {
        let (role, peer) = (self.shared.producer(), self.shared.consumer());
        let claim = ring::Claim::new(self.segment(), role, "producer", peer)?;
        let side = self.shared.sender().map_err(|_| damaged(&self.object))?;
        Ok(Producer {
            side,
            claim,
            wait: Wait::default(),
            message: PhantomData,
        })
    }

    /// Claims the role of the consumer: there is one at a time. A consumer that died is cleared up after, and the new one
    /// goes on where its commits end.
    pub fn consumer(&self) -> Result<Consumer<T>, ClaimError> {
        let (role, peer) = (self.shared.consumer(), self.shared.producer());
        let claim = ring::Claim::new(self.segment(), role, "consumer", peer)?;
        let side = self.shared.receiver().map_err(|_| damaged(&self.object))?;
        Ok(Consumer {
            side,
            claim,
            wait: Wait::default(),
            message: PhantomData,
        })
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

fn damaged(object: &Object) -> SegmentError {
    SegmentError::Damaged(format!(
        "the positions of the ring {:?} contradict each other",
        object.entry().name
    ))
}

/// The end that messages go in at. One at a time has the role; dropping it gives the role back without closing the ring.
#[derive(Debug)]
pub struct Producer<T> {
    side: Sender<Mapped>,
    claim: ring::Claim,
    wait: Wait,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Producer<T> {
    /// How to wait while the ring is full. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Pushes a message, waiting for room.
    pub fn push(&mut self, message: T) -> Result<(), PushError<T>> {
        self.push_within(message, None)
    }

    /// Pushes a message, waiting for room until `deadline`.
    pub fn push_until(&mut self, message: T, deadline: Instant) -> Result<(), PushError<T>> {
        self.push_within(message, Some(deadline))
    }

    /// Pushes a message if there is room. Never waits.
    #[inline]
    pub fn try_push(&mut self, message: T) -> Result<(), PushError<T>> {
        if !self.claim.is_here() {
            return Err(PushError::Forked(message));
        }
        let pushed = self.side.try_push_one(bytemuck::bytes_of(&message));
        pushed.map_err(|refusal| push_error(refusal, message))
    }

    #[inline]
    fn push_within(&mut self, message: T, deadline: Option<Instant>) -> Result<(), PushError<T>> {
        match self.try_push(message) {
            Err(PushError::Full(message)) => {
                let bytes = bytemuck::bytes_of(&message);
                match self.wait(deadline, |side| side.try_push_one(bytes)) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(error.map(|()| message)),
                }
            }
            other => other,
        }
    }

    /// Pushes all messages in order, waiting for room as often as needed. They become visible in runs, each with a single
    /// store. On an error, tells how many went in.
    pub fn push_slice(&mut self, messages: &[T]) -> Result<(), PushError<usize>> {
        let mut done = 0;
        while done < messages.len() {
            let rest = &messages[done..];
            let pushed = match self.try_push_slice(rest) {
                Err(PushError::Full(())) => {
                    self.wait(None, |side| side.try_push(bytemuck::must_cast_slice(rest)))
                }
                other => other,
            };
            done += pushed.map_err(|error| error.map(|()| done))?;
        }
        Ok(())
    }

    /// Pushes as many of the messages as there is room for, in order, and makes them visible with a single store. Tells
    /// how many. Never waits.
    #[inline]
    pub fn try_push_slice(&mut self, messages: &[T]) -> Result<usize, PushError<()>> {
        if !self.claim.is_here() {
            return Err(PushError::Forked(()));
        }
        if messages.is_empty() {
            return Ok(0);
        }
        let pushed = self.side.try_push(bytemuck::must_cast_slice(messages));
        pushed.map_err(|refusal| push_error(refusal, ()))
    }

    #[cold]
    fn wait<U>(
        &mut self,
        deadline: Option<Instant>,
        attempt: impl FnMut(&mut Sender<Mapped>) -> Result<U, Refusal>,
    ) -> Result<U, PushError<()>> {
        let (claim, memory) = (&mut self.claim, self.side.ring.space.memory());
        let deadline = ring::in_memory_time(memory, deadline);
        let died = |peer: &Role<Mapped>| {
            if claim.peer_died(peer) {
                Err(Interrupted::PeerDead)
            } else {
                Ok(())
            }
        };
        match self.side.wait(self.wait, deadline, attempt, died) {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(PushError::TimedOut(())),
            Err(Interrupted::PeerDead) => Err(PushError::PeerDead(())),
            Err(Interrupted::Refused(refusal)) => Err(push_error(refusal, ())),
        }
    }

    /// Closes the ring for good: the consumer takes what is in it and is then told [`PopError::Closed`].
    pub fn close(self) {
        if self.claim.is_here() {
            self.side.ring.close();
        }
    }

    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.side.ring.consumer.holder()
    }
}

fn push_error<V>(refusal: Refusal, value: V) -> PushError<V> {
    match refusal {
        Refusal::NotYet => PushError::Full(value),
        Refusal::Closed => PushError::Closed(value),
        Refusal::Corrupt => PushError::Corrupt(value),
    }
}

/// The end that messages come out at. One at a time has the role; dropping it gives the role back without closing the
/// ring.
#[derive(Debug)]
pub struct Consumer<T> {
    side: Receiver<Mapped>,
    claim: ring::Claim,
    wait: Wait,
    message: PhantomData<fn() -> T>,
}

impl<T: Message> Consumer<T> {
    /// How to wait while the ring is empty. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Takes the next message, waiting for one.
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.pop_within(None)
    }

    /// Takes the next message, waiting for one until `deadline`.
    pub fn pop_until(&mut self, deadline: Instant) -> Result<T, PopError> {
        self.pop_within(Some(deadline))
    }

    /// Takes the next message if there is one. Never waits.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        if !self.claim.is_here() {
            return Err(PopError::Forked);
        }
        let mut message = T::zeroed();
        self.side
            .try_pop_one(bytemuck::bytes_of_mut(&mut message))
            .map_err(pop_error)?;
        Ok(message)
    }

    #[inline]
    fn pop_within(&mut self, deadline: Option<Instant>) -> Result<T, PopError> {
        match self.try_pop() {
            Err(PopError::Empty) => self.wait(deadline, |side| {
                let mut message = T::zeroed();
                side.try_pop_one(bytemuck::bytes_of_mut(&mut message))
                    .map(|()| message)
            }),
            other => other,
        }
    }

    /// Takes as many messages as there are and as fit into `messages`, waiting for the first. Tells how many.
    pub fn pop_into(&mut self, messages: &mut [T]) -> Result<usize, PopError> {
        match self.try_pop_into(messages) {
            Err(PopError::Empty) => self.wait(None, |side| {
                side.try_pop(bytemuck::must_cast_slice_mut(messages))
            }),
            other => other,
        }
    }

    /// Takes as many messages as there are and as fit into `messages`, and commits them with a single store. Tells how
    /// many. Never waits.
    #[inline]
    pub fn try_pop_into(&mut self, messages: &mut [T]) -> Result<usize, PopError> {
        if !self.claim.is_here() {
            return Err(PopError::Forked);
        }
        if messages.is_empty() {
            return Ok(0);
        }
        self.side
            .try_pop(bytemuck::must_cast_slice_mut(messages))
            .map_err(pop_error)
    }

    #[cold]
    fn wait<U>(
        &mut self,
        deadline: Option<Instant>,
        attempt: impl FnMut(&mut Receiver<Mapped>) -> Result<U, Refusal>,
    ) -> Result<U, PopError> {
        let (claim, memory) = (&mut self.claim, self.side.ring.items.memory());
        let deadline = ring::in_memory_time(memory, deadline);
        let died = |peer: &Role<Mapped>| {
            if claim.peer_died(peer) {
                Err(Interrupted::PeerDead)
            } else {
                Ok(())
            }
        };
        match self.side.wait(self.wait, deadline, attempt, died) {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(PopError::TimedOut),
            Err(Interrupted::PeerDead) => Err(PopError::PeerDead),
            Err(Interrupted::Refused(refusal)) => Err(pop_error(refusal)),
        }
    }

    /// Closes the ring for good: the producer is told [`PushError::Closed`].
    pub fn close(self) {
        if self.claim.is_here() {
            self.side.ring.close();
        }
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.side.ring.producer.holder()
    }
}

fn pop_error(refusal: Refusal) -> PopError {
    match refusal {
        Refusal::NotYet => PopError::Empty,
        Refusal::Closed => PopError::Closed,
        Refusal::Corrupt => PopError::Corrupt,
    }
}
