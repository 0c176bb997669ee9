//! Broadcast of bytes: one producer, any number of readers, each of which gets every record of any length.
//!
//! What [`broadcast`](crate::broadcast) is for messages of a type, with the same three sorts of readers side by side: lossless
//! ones that are waited for, lossy ones that are told exactly how many records they have missed, and those of the latest
//! record. Records are written as in [`bytes`], of any length up to half the arena, copied in or where
//! they lie, and read by copies. Does not lend: what is read in place may be written over.
//!
//! # Protocol
//!
//! ```text
//! arena   the byte at position p has index p mod capacity; records lie one behind the other, as in `bytes`
//! tail    mark behind the last record; only the producer moves it
//! oldest  mark of the first record that the producer has not begun to write over; only the producer moves it
//! row     of each lossless reader: its role, whether it is active, and the mark of its next record
//! seen    how many of those who have joined the producer has taken note of
//!
//! push    joined has changed, or the slowest known head is in the way?  look at the rows;  seen := joined
//!         oldest := the first record that stays;  write header and payload;  tail := its end      publishes
//! pop     our position = tail?  nothing there
//!         copy header and payload;  oldest still at or before our position?                       taken: the copy is whole
//!         otherwise go on with the oldest, whose number less ours is what was missed
//!         lossless: head := behind it                                                             commits
//! ```
//!
//! A mark is a position and the number of the record there, found together at any time: see the head of `mark.rs`. So the count
//! of what was missed is exact, also if the producer dies at any step. Numbers are not in the records, which are those of
//! `bytes` to the byte. The producer gives up a sixteenth of the arena at a time, so that readers find `oldest` where it was.
//!
//! A lossless reader joins as in `broadcast`: head, active, `joined`, full fence. Until `seen` says that the producer has taken
//! note, which it does before it writes the next record, a record may be written over that the reader has still to take; it
//! is then told so, exactly. From there on none is, unless the ring's creator has set a limit to
//! [patience](crate::ring::Options::patience).
//!
//! # Orderings
//!
//! The store of a position is Release and pairs with the Acquire load of whoever goes there: it sees header, payload and the
//! note of the mark. A Release fence stands between the store of `oldest` and what is written after it, an Acquire fence between
//! a copy and the look at `oldest` behind it: a reader that has copied a byte of a later record sees that the mark has
//! passed. The store of a head is Release and pairs with the Acquire of the producer's look; that of `seen` with the look of
//! the reader.
//!
//! # When a participant dies
//!
//! A producer killed before its store of `tail` has published nothing; its successor writes the same record in the same place,
//! and only readers that may miss records miss those that had to make room. A lossless reader that has died is let go by
//! proof of its death; a [successor](Start::Successor) goes on where it stopped, and is told what was written over
//! meanwhile. The death of a lossy reader matters to nobody.
//!
//! # A peer that writes rubbish
//!
//! As in `bytes`: positions and headers are copied once and checked, before and after; a record lies within what is published
//! and within the arena, or the call gives [`PopError::Corrupt`](crate::PopError::Corrupt).
//!
//! Sources: Aeron's broadcast buffer, whose intent to write is our mark of the oldest; there a reader that was too slow starts over
//! with the latest record and does not know how many it has missed.

mod mark;
mod readers;
mod sender;

use std::time::Duration;

use ipc_core::Mapped;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

pub use crate::broadcast::{LOSSLESS, Start};
pub use crate::bytes::{DEFAULT_CAPACITY, Reservation};
pub use readers::{Receiver, Watcher};
pub use sender::{Sender, Shared};

use crate::broadcast::audience::{claim_row, patience_parameter};
use crate::bytes::{self, CAPACITIES, check_capacity};
use crate::claim::Claim;
use crate::error::ClaimError;
use crate::ring::{self, Attached, Options, Ring as _};
use crate::role::Holder;
use crate::seat;
use crate::side::Whole;

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"bcastbyt",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 2;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    seat::recover(area, entry, dead, Shared::of)
}

/// A ring in shared memory, from which its producer and its readers are claimed.
#[derive(Clone, Debug)]
pub struct Ring {
    attached: Attached<Shared<Mapped>>,
}

/// The one producer of a ring.
pub type Producer = bytes::Producer<Sender<Mapped>>;

/// A reader that gets every record; the producer waits for it.
pub type Lossless = bytes::Consumer<Receiver<Mapped>>;

/// A reader that is told how many records it has missed, or skips to the newest one. It disturbs nobody.
pub type Lossy = bytes::Consumer<Watcher<Mapped>>;

impl ring::Ring for Ring {
    type Producer = Producer;
    type Consumer = Lossless;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        check_capacity(capacity)?;
        let len = Shared::<Mapped>::size(capacity).and_then(|len| seat::size(KIND.tag, 1, len));
        Ok(ObjectSpec {
            kind: KIND.tag,
            version: VERSION,
            len: len.ok_or_else(|| SegmentError::Object("it would not fit any memory".into()))?,
            schema: String::new(),
            parameters: [capacity as u64, 0],
        })
    }

    fn spec_of(options: &Options<Self>) -> Result<ObjectSpec, SegmentError> {
        let mut spec = Self::spec(options.capacity)?;
        spec.parameters[1] = patience_parameter(options.patience);
        Ok(spec)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        object.expect(KIND.tag, VERSION, "")?;
        let [capacity, _] = object.entry().parameters;
        let fits = usize::try_from(capacity).is_ok_and(|capacity| CAPACITIES.contains(&capacity));
        match Shared::of(object.area(), object.entry()) {
            Ok(shared) if fits => Ok(Self {
                attached: Attached { object, shared },
            }),
            _ => Err(ring::misfit(object.entry())),
        }
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
        let claim = Claim::role(object, shared.producer(), "producer", None)?;
        let side = shared.sender().map_err(|_| ring::damaged(object))?;
        Ok(Producer::new(side, claim))
    }

    /// A reader that gets every record from the next one on: [`lossless`](Ring::lossless) from [`Start::Newest`] on.
    fn consumer(&self) -> Result<Lossless, ClaimError> {
        self.lossless(Start::Newest)
    }
}

impl Options<Ring> {
    /// How long a lossless reader may hold up a push, before it is let go: for ever if not set. As for
    /// [`broadcast`](crate::broadcast).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }
}

impl Ring {
    /// A reader that gets every record from `start` on. The producer waits for it while it is in the way, unless it
    /// has died.
    ///
    /// # Errors
    ///
    /// If every row of lossless readers is held by a process that lives, or this process cannot join the segment.
    pub fn lossless(&self, start: Start) -> Result<Lossless, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let (row, start, claim) = claim_row(object, shared.readers(), start, shared.producer())?;
        let side = shared.receiver(row, start);
        Ok(Lossless::new(
            side.map_err(|_| ring::damaged(object))?,
            claim,
        ))
    }

    /// A reader that may miss records, and is told how many. The producer knows nothing of it.
    ///
    /// # Errors
    ///
    /// If this process cannot join the segment.
    pub fn lossy(&self, start: Start) -> Result<Lossy, ClaimError> {
        self.watcher(start, false)
    }

    /// A reader that takes the newest record each time, and waits if it has taken that one already.
    ///
    /// # Errors
    ///
    /// If this process cannot join the segment.
    pub fn latest(&self) -> Result<Lossy, ClaimError> {
        self.watcher(Start::Oldest, true)
    }

    fn watcher(&self, start: Start, latest: bool) -> Result<Lossy, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let claim = Claim::participant(object)?;
        let side = shared.watcher(start, latest);
        Ok(Lossy::new(side.map_err(|_| ring::damaged(object))?, claim))
    }

    /// The longest record, in bytes: half the arena.
    pub fn max_len(&self) -> usize {
        self.capacity() / 2
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.attached.shared.producer().holder()
    }
}
