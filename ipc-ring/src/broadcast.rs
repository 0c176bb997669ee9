//! Broadcast: one producer, any number of readers, each of which gets every message of a fixed type.
//!
//! Each reader chooses what happens when it is too slow. A *lossy* one misses messages and is told exactly how many. A
//! *latest* one skips to the newest message each time. A *lossless* one is waited for: the ring is full while it has
//! still to take the oldest message. All three sorts may read one ring side by side. Publishing costs the same for one
//! and for a hundred lossy readers, which only load. There may be [`LOSSLESS`] lossless readers at a time.
//!
//! # Protocol
//!
//! ```text
//! word    of each slot: 2p + 1 if it holds the message of position p, 2p while that is being written
//! tail    position of the next message; only the producer stores it
//! row     of each lossless reader: its role, whether it is active, and its head
//! joined  how often a lossless reader has come
//!
//! push    joined has changed, or the slowest known head is a ring behind?  look at the rows
//!         word := 2p;  write the message;  word := 2p + 1         publishes
//!         tail := p + 1
//! pop     word = 2p + 1?  copy the message;  word still 2p + 1?   taken: the copy is whole
//!         a larger word: the message has been written over; go on with the oldest that is left
//!         lossless: head := p + 1                                 commits
//! ```
//!
//! The ring's creator chooses how long a slow lossless reader may hold up a push: for ever, or for some
//! [time](Options::patience). Laps are no measure here, since a producer that waits is never more than one ahead.
//!
//! A lossless reader joins in this order: head, active, `joined`, full fence, tail. The producer publishes runs of up to
//! sixteen messages (a quarter of the ring, if that is less), with a full fence after each and a look at `joined` before each
//! message. So either it sees the reader before the next run, or the reader sees in the tail where the current run began,
//! and starts behind all that this run can write over. Heads never go back.
//!
//! # Orderings
//!
//! The store of an odd word is Release and pairs with the first load of the word by a reader: it sees the message. A Release
//! fence stands between the store of the even word and the message, an Acquire fence between the copy and the second load of
//! the word: a reader that has copied a byte of a later message sees that the word has changed. The store of a head is
//! Release and pairs with the Acquire of the producer's look: the slot has been read before it is written again.
//!
//! # When a participant dies
//!
//! A producer killed before it published: its successor writes the same position; readers that may miss messages miss
//! the one that was in the slot before. One killed after it has published, though perhaps before it stored the
//! tail: the successor walks on to the first word that is not there yet. A lossless reader that has died is let go as soon as
//! the producer has waited for it a while, by proof of its death; one that is merely slow or stopped is waited for, unless the ring's creator has said
//! for how long. One that is let go by that policy may go on at any time: it is told exactly what it has missed, and joins
//! again. A
//! [successor](Start::Successor) goes on where the dead one stopped, and is told what was written over meanwhile. The death
//! of a lossy reader matters to nobody.
//!
//! # Delivery
//!
//! Every reader gets the messages in the order in which they were pushed, from where it starts. A lossless one gets each of
//! them; a lossy one each that it is not told to have missed. There is no lending of messages: what is read in place may be
//! written over.
//!
//! Sources: the mcache of Firedancer's tango and Boehm's account of sequence locks. Ours are the lossless readers that join
//! and die at any time.

mod algorithm;
pub(crate) mod audience;
pub(crate) mod readers;

use std::marker::PhantomData;
use std::time::Duration;

use ipc_core::memory::{Area, OutOfArea};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};
use ipc_core::{Mapped, Message};

use crate::claim::Claim;
use crate::error::ClaimError;
use crate::ring::{self, Attached, Options, Ring as _};
use crate::role::Holder;
use crate::seat;
use crate::side::Whole;
pub use algorithm::{Sender, Shared, full};
use audience::claim_row;
pub use readers::{Receiver, Start, Watcher};

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = Kind {
    tag: *b"bcast\0\0\0",
    version: VERSION,
    recover,
};

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = 2;

/// How many lossless readers there can be at a time.
pub const LOSSLESS: usize = 32;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    seat::recover(area, entry, dead, Shared::of)
}

/// A ring of `T` in shared memory, from which its producer and its readers are claimed.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    attached: Attached<Shared<Mapped>>,
    message: PhantomData<fn(T) -> T>,
}

/// The one producer of a ring.
pub type Producer<T> = crate::Producer<T, Sender<Mapped>>;

/// A reader that gets every message; the producer waits for it.
pub type Lossless<T> = crate::Consumer<T, Receiver<Mapped>>;

/// A reader that is told how many messages it has missed, or skips to the newest one. It disturbs nobody.
pub type Lossy<T> = crate::Consumer<T, Watcher<Mapped>>;

impl<T: Message> ring::Ring for Ring<T> {
    type Producer = Producer<T>;
    type Consumer = Lossless<T>;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        ring::spec_in_slots::<T>(KIND, VERSION, capacity, Shared::<Mapped>::size)
    }

    fn spec_of(options: &Options<Self>) -> Result<ObjectSpec, SegmentError> {
        let mut spec = Self::spec(options.capacity)?;
        let [_, stride] = &mut spec.parameters;
        if *stride > u64::from(u32::MAX) {
            return Err(SegmentError::Object(
                "a message of 4 GiB is too long".into(),
            ));
        }
        *stride = algorithm::second_parameter(*stride, options.patience);
        Ok(spec)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let (size, align) = (size_of::<T>(), align_of::<T>());
        let (found, patience) = algorithm::split(object.entry().parameters[1]);
        let stride = crate::slot::stride(size, align).filter(|stride| *stride as u64 == found);
        // What is left to compare is the stride together with the patience.
        let second = stride.map(|_| object.entry().parameters[1] as usize);
        let new = |area: &Area<Mapped>, capacity| {
            let shared = Shared::new(area, capacity, size, align)?;
            Ok(shared.with_patience(patience))
        };
        Ok(Self {
            attached: Attached::typed::<T>(object, KIND, VERSION, second, new)?,
            message: PhantomData,
        })
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
        let claim = Claim::role(object, shared.producer(), "producer", None)?;
        Ok(Producer::new(shared.sender(), claim))
    }

    /// A reader that gets every message from the next one on: [`lossless`](Ring::lossless) from [`Start::Newest`] on.
    fn consumer(&self) -> Result<Lossless<T>, ClaimError> {
        self.lossless(Start::Newest)
    }
}

impl<T: Message> Options<Ring<T>> {
    /// How long a lossless reader that is a ring behind may hold up a push, before it is let go: for ever if not set. It is then
    /// told exactly how many messages it has missed, and is lossless again from there on. With
    /// [`Duration::ZERO`] nobody ever waits. Kept in the ring in milliseconds; a producer that sleeps notices within
    /// another 40.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }
}

impl<T: Message> Ring<T> {
    /// A reader that gets every message from `start` on. The producer waits for it while it is a ring behind, unless it
    /// has died.
    ///
    /// # Errors
    ///
    /// If every row of lossless readers is held by a process that lives, or this process cannot join the segment.
    pub fn lossless(&self, start: Start) -> Result<Lossless<T>, ClaimError> {
        let Attached { object, shared } = &self.attached;
        let (row, start, claim) = claim_row(object, shared.readers(), start, shared.producer())?;
        Ok(Lossless::new(shared.receiver(row, start), claim))
    }

    /// A reader that may miss messages, and is told how many. The producer knows nothing of it.
    ///
    /// # Errors
    ///
    /// If this process cannot join the segment.
    pub fn lossy(&self, start: Start) -> Result<Lossy<T>, ClaimError> {
        let claim = Claim::participant(self.object())?;
        Ok(Lossy::new(
            self.attached.shared.watcher(start, false),
            claim,
        ))
    }

    /// A reader that takes the newest message each time, and waits if it has taken that one already.
    ///
    /// # Errors
    ///
    /// If this process cannot join the segment.
    pub fn latest(&self) -> Result<Lossy<T>, ClaimError> {
        let claim = Claim::participant(self.object())?;
        Ok(Lossy::new(
            self.attached.shared.watcher(Start::Oldest, true),
            claim,
        ))
    }

    /// Who produces.
    pub fn producer_role(&self) -> Holder {
        self.attached.shared.producer().holder()
    }
}
