//! Bytes: one producer, one consumer, records of any length up to half the ring, first in first out.
//!
//! For messages whose length varies, and for large ones, which can be written and read where they lie. Never allocates
//! on its own, never overwrites, never splits a record. Does not serve two producers or two consumers at a time: a second one is
//! refused ([`lanes`](crate::lanes) serves many producers).
//!
//! # Protocol
//!
//! ```text
//! tail    position behind the last record; only the producer stores it
//! head    position of the next record to be read; only the consumer stores it
//! arena   the byte at position p has index p mod capacity
//!
//! push    choose a place behind the tail; copy header and payload in;  tail := its end     publishes
//! pop     check the header at the head; copy the payload out;          head := its end     commits
//! ```
//!
//! A record is a header of 8 bytes, which says where its payload is and how long, and the payload, which has no seam: one that
//! would cross the end of the arena begins at index 0 instead. Any record up to half the arena fits, wherever the
//! positions are. Each side keeps its own position privately and the other's last seen value, and looks at the other's
//! only when that value is not enough. A batch moves its position once.
//!
//! A reservation writes nothing that a reader would look at before it is committed; a loan moves nothing before it is
//! released. So dropping either gives it back, and forgetting one harms nobody.
//!
//! # Orderings
//!
//! The store of `tail` is Release and pairs with the Acquire load in `Outlet::refresh`: whoever sees the position sees the
//! records. The store of `head` is Release and pairs with the Acquire load in `Sender::refresh`: the payload has been read
//! before its place is written again. Headers are ordered by these alone.
//!
//! # When a participant dies
//!
//! A producer killed before its store of `tail` has published nothing, whatever it had reserved and written; its successor
//! writes at the same place. One killed after it has published, though a sleeping consumer may find out only at the end of
//! its bounded sleep. A consumer killed before its store of `head` has taken nothing: its successor gets the record, and
//! where it is [read](Consumer::read) where it lies, is told if it had been shown before. One killed after it, but before
//! `pop` returned, has taken the record with it. The role of the dead is free as soon as anybody asks for it.
//!
//! # A peer that writes rubbish
//!
//! Positions and headers are copied once and checked: a record lies within what is published and within the arena, or the
//! call gives [`PopError::Corrupt`](crate::PopError::Corrupt). A payload is any bytes: decode a copy, not the shared bytes.
//!
//! Sources: Lamport (1983); the padding at the seam from Aeron's and Agrona's ring buffers, the bip buffer's contiguous
//! payloads. Ours are the place of the payload in the header, which makes half the arena the limit and lets a reservation
//! shrink, the roles, the recovery and the [waiting](ipc_core::event).

mod consumer;
mod lane;
mod place;
mod producer;
mod receiver;
mod records;
mod sender;

use ipc_core::Mapped;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

pub use consumer::{Consumer, Record};
pub use lane::Shared;
pub use place::Place;
pub use producer::{Producer, Reservation};
pub use receiver::Receiver;
pub use records::{ReceiveRecords, SendRecords};
pub use sender::Sender;

use crate::claim::Claim;
use crate::error::ClaimError;
use crate::lanes::{MAX_LANES, claim_consumer};
use crate::ring::{self, Attached, Options};
use crate::role::Holder;
use crate::seat;
use crate::side::Whole;

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"bytes\0\0\0",
    version: VERSION,
    recover,
};

/// The kind of channels, known here so that those built without it clear up in it too.
pub(crate) const CHANNEL: Kind = Kind {
    tag: *b"channel\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 2;

/// Bytes of an arena, if nothing is said: twice a common second-level cache, where a stream of large records is fastest.
pub const DEFAULT_CAPACITY: usize = 1 << 20;

/// The smallest and the largest arena, in bytes.
pub(crate) const CAPACITIES: std::ops::RangeInclusive<usize> = 16..=1 << 32;

/// Clears up after a dead participant in an object of lanes, whose version is the same for all kinds that are made of
/// them.
pub(crate) fn recover(
    area: &Area<Mapped>,
    entry: &Entry,
    dead: ParticipantId,
) -> Result<(), OutOfArea> {
    seat::recover(area, entry, dead, Shared::of)
}

/// Refuses an arena of which there can be no ring.
pub(crate) fn check_capacity(capacity: usize) -> Result<(), SegmentError> {
    if capacity.is_power_of_two() && CAPACITIES.contains(&capacity) {
        return Ok(());
    }
    let near = capacity
        .clamp(*CAPACITIES.start(), *CAPACITIES.end())
        .next_power_of_two();
    Err(SegmentError::Object(format!(
        "a ring of {capacity} bytes: its capacity must be a power of two from 16 to 2^32, such as {near}"
    )))
}

/// What an object of lanes needs.
pub(crate) fn spec(
    kind: Kind,
    version: u32,
    lanes: usize,
    capacity: usize,
) -> Result<ObjectSpec, SegmentError> {
    check_capacity(capacity)?;
    let refuse = |fault: &str| {
        let text = format!("a ring of {capacity} bytes: {fault}");
        Err(SegmentError::Object(text))
    };
    if !(1..=MAX_LANES).contains(&lanes) {
        return refuse(&format!("it can have 1 to {MAX_LANES} lanes, not {lanes}"));
    }
    let Some(len) = seat_size(kind, lanes, capacity) else {
        return refuse("it would not fit any memory");
    };
    Ok(ObjectSpec {
        kind: kind.tag,
        version,
        len,
        schema: String::new(),
        parameters: [capacity as u64, lanes as u64],
    })
}

fn seat_size(kind: Kind, lanes: usize, capacity: usize) -> Option<usize> {
    seat::size(
        kind.tag,
        lanes as u64,
        Shared::<Mapped>::size(lanes, capacity)?,
    )
}

/// The lanes in an object, if it is of that kind.
pub(crate) fn attach(
    object: Object,
    kind: Kind,
    version: u32,
) -> Result<Attached<Shared<Mapped>>, SegmentError> {
    object.expect(kind.tag, version, "")?;
    let [capacity, lanes] = object.entry().parameters;
    let fit = usize::try_from(capacity).is_ok_and(|capacity| CAPACITIES.contains(&capacity))
        && usize::try_from(lanes).is_ok_and(|lanes| (1..=MAX_LANES).contains(&lanes));
    match Shared::of(object.area(), object.entry()) {
        Ok(shared) if fit => Ok(Attached { object, shared }),
        _ => Err(ring::misfit(object.entry())),
    }
}

/// A byte ring in shared memory, from which its two ends are claimed.
#[derive(Clone, Debug)]
pub struct Ring {
    attached: Attached<Shared<Mapped>>,
}

impl ring::Ring for Ring {
    type Producer = Producer;
    type Consumer = Consumer;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        spec(KIND, VERSION, 1, capacity)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let attached = attach(object, KIND, VERSION)?;
        if attached.shared.lanes() != 1 {
            return Err(ring::misfit(attached.object.entry()));
        }
        Ok(Self { attached })
    }

    fn object(&self) -> &Object {
        &self.attached.object
    }

    fn whole(&self) -> &dyn Whole {
        &self.attached.shared
    }

    /// How to create the ring in a segment of its own. The capacity is in bytes, [`DEFAULT_CAPACITY`] if not set.
    fn options() -> Options<Self> {
        Options::new(DEFAULT_CAPACITY)
    }

    /// Claims the role of the producer: there is one at a time. A producer that died is cleared up after, and the new one
    /// goes on where its publications end.
    fn producer(&self) -> Result<Producer, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let claim = Claim::role(object, shared.producer(0), "producer", shared.consumer())?;
        let side = shared.sender(0).map_err(|_| ring::damaged(object))?;
        Ok(Producer::new(side, claim))
    }

    /// Claims the role of the consumer: there is one at a time. A consumer that died is cleared up after, and the new one
    /// goes on where its commits end.
    fn consumer(&self) -> Result<Consumer, ClaimError> {
        claim_consumer(&self.attached)
    }
}

impl Ring {
    /// The longest record, in bytes: half the arena.
    pub fn max_len(&self) -> usize {
        self.attached.shared.max_len()
    }

    /// How many bytes of the arena were taken when it was looked at. A record takes 8 more than its payload, rounded up to a
    /// multiple of 8, and now and then what is left before the end of the arena.
    pub fn used(&self) -> usize {
        self.attached.shared.used(0)
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.attached.shared.producer(0).holder()
    }

    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.attached.shared.consumer().holder()
    }
}
