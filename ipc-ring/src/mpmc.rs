//! MPMC: any number of producers and consumers, messages of a fixed type, in the order of the claims.
//!
//! Any process may push and pop, with as many handles and threads as it likes; there are no roles. Never allocates, never
//! overwrites, never loses a message that was published. For several producers and one consumer that need no common
//! order, a ring for each producer is faster.
//!
//! # Protocol
//!
//! Position `p` belongs to slot `p mod N`. The word of a slot (see [`geometry`]) names the position, what is going on, and in
//! whose hands: a claim is one compare-exchange that names its owner.
//!
//! ```text
//! word    FREE(p) -> WRITING(p, producer) -> FULL(p) -> READING(p, consumer) -> FREE(p + N)
//! tail    hint: every position before it has been claimed by a producer
//! head    hint: every position before it is finished, that is, delivered or skipped
//!
//! push    walk from tail to the first FREE(p);  FREE(p) -> WRITING(p, me)            claims
//!         write the message;                    WRITING(p, me) -> FULL(p)            publishes
//!         or give up:                           WRITING(p, me) -> FREE(p + N), mark  skips
//! pop     walk from head to the first FULL(p);  FULL(p) -> READING(p, me)            claims
//!         read the message;                     READING(p, me) -> FREE(p + N)        commits: delivered
//!         or put it back:                       READING(p, me) -> FULL(p), again
//! ```
//!
//! Claims are compare-exchanges; what the owner of a claim does next is a plain store, since nobody else may change the
//! word of a live owner. The hints are plain stores, too. They only ever say what was true once and stays true, so a
//! stale one costs steps and nothing else. A free slot at `p + N` proves that everything up to `p - N` is finished, which
//! bounds any walk by 2N steps.
//!
//! A consumer walks over READING and does not move the head there: should the message come back, it lies before the
//! head of nobody. It does not walk over WRITING: whoever is behind must not overtake. A consumer that meets WRITING is
//! told [`Pending`](crate::PopError::Pending) with the owner, which is not "empty"; a producer that meets a whole ring is told
//! "full", even if only the oldest message is still being read and others behind it are done.
//!
//! After a failed claim a handle stands back for a growing while, up to 64 pauses, and walks on from where it is.
//!
//! # Closing
//!
//! A producer looks whether the ring is closed after its claim, and gives the place back if it is. A consumer that finds
//! nothing looks whether the ring is closed, and if it is, walks once more. All four accesses are sequentially consistent:
//! either the producer sees the ring closed, or the consumer's second walk sees the claim. So no message that a push
//! has promised is left in a ring whose consumers have gone. Nor is one that another process is still reading: as long as
//! it may come back, a closed ring is "empty" and not yet "closed".
//!
//! # Orderings
//!
//! The store of FULL is Release and pairs with the load of the word by the next consumer: it sees the message. The store of
//! FREE is Release and pairs with the load of the word by the next producer: the message has been read before it is written
//! over. Claims acquire and release, and the words are loaded with Acquire: who walks past a claim passes on what its
//! owner had seen, so that the first slot that is not claimed is never seen behind one that is. Recovery changes words by
//! compare-exchange and never by a store, so that a message which comes back still carries the release of its producer.
//!
//! A Release fence stands between a claim and what is written after it, for those who
//! [follow](crate::Follower) the ring without taking part: a byte of a later message shows them that the place was claimed.
//!
//! # When a participant dies
//!
//! A producer killed before it published: its position is skipped, and the free slot says so, lest an onlooker take it for a message. A consumer killed before its commit: the next one
//! gets the message, marked [redelivered](crate::Loan::is_redelivered). One killed after its commit, but before `pop`
//! returned, has taken the message with it. Whoever is held up by a claim finds out, while it waits, whether its owner
//! has died, and recovers it; so does whoever attaches when all participant rows are taken. A process that is stopped
//! while it holds a claim holds up the others: nothing that it may still write is taken from it.
//!
//! # Delivery
//!
//! Every published message is committed by exactly one consumer. Messages are first claimed in the order of their
//! positions, without a gap. One that came back is taken before everything else by every call that begins after it
//! came back.
//!
//! Sources: Vyukov's bounded queue for the slots. Ours are the owner in the word, the hints and the recovery, which were
//! explored exhaustively with kills; two protocols with less in the word were refuted in the same way.

mod consumer;
pub mod geometry;
mod producer;
mod shared;

use std::marker::PhantomData;

use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};
use ipc_core::{Mapped, Message};

use crate::claim::Claim;
use crate::error::ClaimError;
use crate::ring::{self, Attached};
use crate::seat;
use crate::side::Whole;
pub use consumer::Receiver;
pub use producer::Sender;
pub use shared::Shared;

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"mpmc\0\0\0\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 3;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    seat::recover(area, entry, dead, Shared::of)
}

/// A ring of `T` in shared memory, at which any number of handles push and pop.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    attached: Attached<Shared<Mapped>>,
    message: PhantomData<fn(T) -> T>,
}

/// A producer of a ring; there may be any number.
pub type Producer<T> = crate::Producer<T, Sender<Mapped>>;

/// A consumer of a ring; there may be any number.
pub type Consumer<T> = crate::Consumer<T, Receiver<Mapped>>;

impl<T: Message> ring::Ring for Ring<T> {
    type Producer = Producer<T>;
    type Consumer = Consumer<T>;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        ring::spec_in_slots::<T>(KIND, VERSION, capacity, Shared::<Mapped>::size)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        Ok(Self {
            attached: Attached::in_slots::<T>(object, KIND, VERSION, Shared::new)?,
            message: PhantomData,
        })
    }

    fn object(&self) -> &Object {
        &self.attached.object
    }

    fn whole(&self) -> &dyn Whole {
        &self.attached.shared
    }

    /// A handle to push with. Take as many as there are threads that push.
    fn producer(&self) -> Result<Producer<T>, ClaimError> {
        let claim = Claim::participant(self.object())?;
        Ok(Producer::new(
            self.attached.shared.sender(claim.me()),
            claim,
        ))
    }

    /// A handle to pop with. Take as many as there are threads that pop.
    fn consumer(&self) -> Result<Consumer<T>, ClaimError> {
        let claim = Claim::participant(self.object())?;
        Ok(Consumer::new(
            self.attached.shared.receiver(claim.me()),
            claim,
        ))
    }
}
