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

mod algorithm;

use std::marker::PhantomData;

use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};
use ipc_core::{Mapped, Message};

use crate::claim::Claim;
use crate::error::ClaimError;
use crate::ring::{self, Attached};
use crate::role::Holder;
use crate::seat;
use crate::side::Whole;
pub use algorithm::{Receiver, Sender, Shared};

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"spsc\0\0\0\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 2;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    seat::recover(area, entry, dead, Shared::of)
}

/// A ring of `T` in shared memory, from which its two ends are claimed.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    attached: Attached<Shared<Mapped>>,
    message: PhantomData<fn(T) -> T>,
}

/// The one producer of a ring.
pub type Producer<T> = crate::Producer<T, Sender<Mapped>>;

/// The one consumer of a ring.
pub type Consumer<T> = crate::Consumer<T, Receiver<Mapped>>;

impl<T: Message> ring::Ring for Ring<T> {
    type Producer = Producer<T>;
    type Consumer = Consumer<T>;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        let stride = size_of::<T>();
        let len = Shared::<Mapped>::size(capacity, stride);
        ring::spec_of::<T>(KIND, VERSION, capacity, Some(stride), len)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let stride = size_of::<T>();
        let attached =
            Attached::typed::<T>(object, KIND, VERSION, Some(stride), |area, capacity| {
                Shared::new(area, capacity, stride)
            })?;
        let message = PhantomData;
        Ok(Self { attached, message })
    }

    fn object(&self) -> &Object {
        &self.attached.object
    }

    fn whole(&self) -> &dyn Whole {
        &self.attached.shared
    }

    /// Claims the role of the producer: there is one at a time. A producer that died is cleared up after, and the new one
    /// goes on where its publications end.
    fn producer(&self) -> Result<Producer<T>, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let claim = Claim::role(object, shared.producer(), "producer", shared.consumer())?;
        let side = shared.sender().map_err(|_| ring::damaged(object))?;
        Ok(Producer::new(side, claim))
    }

    /// Claims the role of the consumer: there is one at a time. A consumer that died is cleared up after, and the new one
    /// goes on where its commits end.
    fn consumer(&self) -> Result<Consumer<T>, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let claim = Claim::role(object, shared.consumer(), "consumer", shared.producer())?;
        let side = shared.receiver().map_err(|_| ring::damaged(object))?;
        Ok(Consumer::new(side, claim))
    }
}

impl<T: Message> Ring<T> {
    /// How many messages were ever pushed, when it was looked at. Never becomes less.
    pub fn published(&self) -> u64 {
        self.attached.shared.counts().0
    }

    /// How many of them were taken, by all consumers together, when it was looked at. Never becomes less.
    pub fn committed(&self) -> u64 {
        self.attached.shared.counts().1
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.attached.shared.producer().holder()
    }

    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.attached.shared.consumer().holder()
    }
}
