//! Lanes: many producers, one consumer, records of any length; first in, first out for each producer.
//!
//! Each producer has a [byte ring](crate::bytes) of its own, so that producers never wait for each other, never contend
//! for a word, and one that is killed leaves nothing half done in anybody's way. There are as many producers at a time as
//! lanes, 16 if nothing is said. Does not order the records of two producers.
//!
//! # Protocol
//!
//! A producer claims a lane: one that is free and empty, or, where there is none, one that is free. The consumer goes round: it
//! takes up to 64 KiB from a lane, or what there is, and looks at the next one. No lane is left out for
//! long, and none is served twice while another has something. Publishing is what it is in a byte ring: one store, then one load
//! and a branch while the consumer is awake. There is no bitmap of lanes that have something: setting and clearing its bits would cost both sides an
//! atomic read-modify-write each time a lane runs empty, while to look at an idle lane is one load from the consumer's own cache.
//! So a consumer with nothing to do looks at all lanes; with a thousand of them, that takes microseconds.
//!
//! # When a participant dies
//!
//! As in a [byte ring](crate::bytes). What a dead producer had published is taken in its turn; its lane is free as soon as somebody
//! asks for one. The consumer is not told of a producer's death: there may be others, now or later.
//!
//! A lane whose positions or headers contradict each other is told once as
//! [`PopError::Corrupt`](crate::PopError::Corrupt) and then left alone: it does not stop the others.

use ipc_core::Mapped;
use ipc_core::segment::{Kind, Object, ObjectSpec, SegmentError};

pub use crate::bytes::{Consumer, DEFAULT_CAPACITY, Producer, Record, Reservation};

use crate::bytes::{Shared, attach, recover, spec};
use crate::claim::Claim;
use crate::error::ClaimError;
use crate::ring::{self, Attached, Options};
use crate::role::Holder;
use crate::side::Whole;

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"lanes\0\0\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = crate::bytes::VERSION;

/// Lanes, if nothing is said.
pub const DEFAULT_LANES: usize = 16;

/// The most lanes.
pub const MAX_LANES: usize = 1024;

/// Lanes in shared memory, from which producers and the consumer are claimed.
#[derive(Clone, Debug)]
pub struct Ring {
    attached: Attached<Shared<Mapped>>,
}

impl ring::Ring for Ring {
    type Producer = Producer;
    type Consumer = Consumer;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        Self::spec_of_lanes(capacity, DEFAULT_LANES)
    }

    fn spec_of_lanes(capacity: usize, lanes: usize) -> Result<ObjectSpec, SegmentError> {
        spec(KIND, VERSION, lanes, capacity)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let attached = attach(object, KIND, VERSION)?;
        Ok(Self { attached })
    }

    fn object(&self) -> &Object {
        &self.attached.object
    }

    fn whole(&self) -> &dyn Whole {
        &self.attached.shared
    }

    /// How to create the ring in a segment of its own. The capacity is in bytes and of each lane, [`DEFAULT_CAPACITY`] if
    /// not set; there are [`DEFAULT_LANES`] of them if not set.
    fn options() -> Options<Self> {
        Options::<Self>::new(DEFAULT_CAPACITY).lanes(DEFAULT_LANES)
    }

    /// Claims a lane for a producer. A producer that died is cleared up after where no other lane is free.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NoLane`] if every lane has a producer that lives.
    fn producer(&self) -> Result<Producer, ClaimError> {
        claim_lane(&self.attached)
    }

    /// Claims the role of the consumer: there is one at a time. A consumer that died is cleared up after, and the new one
    /// goes on where its commits end.
    fn consumer(&self) -> Result<Consumer, ClaimError> {
        claim_consumer(&self.attached)
    }
}

impl Ring {
    /// How many lanes there are, and so producers at a time.
    pub fn lanes(&self) -> usize {
        self.attached.shared.lanes()
    }

    /// The longest record, in bytes: half the arena of a lane.
    pub fn max_len(&self) -> usize {
        self.attached.shared.max_len()
    }

    /// Who produces in a lane.
    ///
    /// # Panics
    ///
    /// If there is no such lane.
    pub fn producer_role(&self, lane: usize) -> Holder {
        self.attached.shared.producer(lane).holder()
    }

    /// Who consumes.
    pub fn consumer_role(&self) -> Holder {
        self.attached.shared.consumer().holder()
    }
}

/// Claims a free lane; an empty one if there is.
pub(crate) fn claim_lane(attached: &Attached<Shared<Mapped>>) -> Result<Producer, ClaimError> {
    let Attached { object, shared } = attached;
    let mut lanes: Vec<_> = (0..shared.lanes()).collect();
    // Those that are free without asking first; of these, the empty ones. All of it may have changed when we get there.
    lanes.sort_by_key(|&lane| {
        let taken = matches!(shared.producer(lane).holder(), Holder::Present(_));
        (taken, shared.used(lane) > 0)
    });
    for lane in lanes {
        let (role, peer) = (shared.producer(lane), shared.consumer());
        let claim = match Claim::role(object, role, "producer", peer) {
            Err(ClaimError::Taken { .. }) => continue,
            other => other?,
        };
        // A lane that makes no sense is passed over.
        match shared.sender(lane) {
            Ok(side) => return Ok(Producer::new(side, claim)),
            Err(_) => continue,
        }
    }
    Err(ClaimError::NoLane {
        lanes: shared.lanes(),
    })
}

/// Claims the consumer's role.
pub(crate) fn claim_consumer(attached: &Attached<Shared<Mapped>>) -> Result<Consumer, ClaimError> {
    let Attached { object, shared } = attached;
    let claim = Claim::role(object, shared.consumer(), "consumer", shared.producer(0))?;
    let side = shared.receiver().map_err(|_| ring::damaged(object))?;
    Ok(Consumer::new(side, claim))
}
