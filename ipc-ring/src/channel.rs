//! Channel: values of any `serde` type, from any number of producers to one consumer.
//!
//! [Lanes](crate::lanes) of records, each of which is a value in an encoding: that of bincode 2, or [your own](Codec). A
//! value is encoded straight into its place in the ring, and decoded from a private copy of it. One lane if nothing is said, and then
//! everything is first in, first out; with more, that holds for each producer.
//!
//! # What is checked
//!
//! That what comes out is a value of the type: an error says if not, and the record is gone. Not that producer and consumer mean
//! the same type: an encoding does not tell. A length in a record that is longer than the record, or than the limit of the
//! codec, is an error and no allocation. But where the type contains itself (a tree, say), a hostile producer chooses how deep it
//! goes, and can exhaust the stack: take such types from those you trust, or limit their depth in their `Deserialize`.
//!
//! # When a participant dies
//!
//! As in [`bytes`]: what is not published never was, what is published is taken once.
//!
//! ```
//! use ipc_ring::{Ring, channel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let name = format!("doc-channel-{}", std::process::id());
//! let ring = channel::Ring::<(String, Vec<f64>)>::options().open_or_create(&name)?;
//! let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
//! producer.push(&("prices".to_owned(), vec![1.5, 2.5]))?;
//! assert_eq!(consumer.pop()?, ("prices".to_owned(), vec![1.5, 2.5]));
//! # ipc_core::segment::Segment::unlink(&name)?;
//! # Ok(()) }
//! ```

mod codec;

use std::marker::PhantomData;
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::{Kind, Object, ObjectSpec, SegmentError};

pub use codec::{Bincode, Codec, CodecError};

use crate::bytes::{self, DEFAULT_CAPACITY, Reservation, Shared, attach, spec};
use crate::error::ClaimError;
use crate::lanes::{claim_consumer, claim_lane};
use crate::ring::{self, Attached, Options};
use crate::role::Holder;
use crate::side::Whole;

/// How rings of this kind are told from others, and cleared up after the dead.
pub const KIND: Kind = bytes::CHANNEL;

/// The version of what `docs/layout.md` draws for this kind.
pub const VERSION: u32 = bytes::VERSION;

/// The room that a value is first tried in.
const GUESS: usize = 256;

/// Why a value was not pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The ring refused it.
    #[error(transparent)]
    Ring(#[from] crate::PushError<()>),
    /// It cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Encode(#[source] CodecError),
}

/// Why no value was popped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PopError {
    /// The ring has none to give.
    #[error(transparent)]
    Ring(#[from] crate::PopError),
    /// The record that came is no such value. It has been taken out of the ring.
    #[error("a record of {len} bytes is no value of the type expected here: {error}")]
    Decode {
        /// Its length in bytes.
        len: usize,
        /// What is wrong with it.
        #[source]
        error: CodecError,
    },
}

/// A channel of `M` in shared memory, from which its ends are claimed. `C` says how a value becomes bytes.
#[derive(Debug)]
pub struct Ring<M, C = Bincode> {
    attached: Attached<Shared<Mapped>>,
    value: PhantomData<fn(M, C) -> M>,
}

impl<M, C> ring::Ring for Ring<M, C> {
    type Producer = Producer<M, C>;
    type Consumer = Consumer<M, C>;

    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError> {
        Self::spec_of_lanes(capacity, 1)
    }

    fn spec_of_lanes(capacity: usize, lanes: usize) -> Result<ObjectSpec, SegmentError> {
        spec(KIND, VERSION, lanes, capacity)
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        Ok(Self {
            attached: attach(object, KIND, VERSION)?,
            value: PhantomData,
        })
    }

    fn object(&self) -> &Object {
        &self.attached.object
    }

    fn whole(&self) -> &dyn Whole {
        &self.attached.shared
    }

    /// How to create the channel in a segment of its own. The capacity is in bytes and of each lane,
    /// [`DEFAULT_CAPACITY`] if not set; there is one lane if not set.
    fn options() -> Options<Self> {
        Options::new(DEFAULT_CAPACITY)
    }

    /// Claims a lane for a producer, as [`lanes::Ring`](crate::lanes::Ring) does.
    fn producer(&self) -> Result<Producer<M, C>, ClaimError> {
        Ok(Producer {
            end: claim_lane(&self.attached)?,
            guess: GUESS,
            value: PhantomData,
        })
    }

    /// Claims the role of the consumer: there is one at a time.
    fn consumer(&self) -> Result<Consumer<M, C>, ClaimError> {
        Ok(Consumer {
            end: claim_consumer(&self.attached)?,
            record: Vec::new(),
            value: PhantomData,
        })
    }
}

impl<M, C> Options<Ring<M, C>> {
    /// How many lanes, and so producers at a time: 1 to 1,024, 1 if not set.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }
}

impl<M, C> Clone for Ring<M, C> {
    fn clone(&self) -> Self {
        Self {
            attached: self.attached.clone(),
            value: PhantomData,
        }
    }
}

impl<M, C> Ring<M, C> {
    /// How many lanes there are, and so producers at a time.
    pub fn lanes(&self) -> usize {
        self.attached.shared.lanes()
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

/// The end that values go in at. Dropping it gives its lane back without closing the channel.
#[derive(Debug)]
pub struct Producer<M, C = Bincode> {
    end: bytes::Producer,
    /// Room that the next value will most likely fit in.
    guess: usize,
    value: PhantomData<fn(M, C)>,
}

/// Takes what an encoding gives: into the record as far as it reaches, and counts all of it.
struct Sink<'r, 'p> {
    record: Option<&'r mut Reservation<'p>>,
    len: usize,
}

impl Sink<'_, '_> {
    #[inline]
    fn take(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match &mut self.record {
            Some(record) if end <= record.len() => record.write_at(self.len, bytes),
            _ => {}
        }
        self.len = end;
    }
}

impl<M, C: Codec<M>> Producer<M, C> {
    /// How to wait while the channel is full. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    /// Pushes a value, waiting for room.
    ///
    /// # Errors
    ///
    /// [`PushError::Encode`]; and why the ring refused it, as for [`bytes::Producer::push`].
    pub fn push(&mut self, value: &M) -> Result<(), PushError> {
        self.push_with(value, |end, len| end.reserve(len))
    }

    /// Pushes a value, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with that of the deadline.
    pub fn push_until(&mut self, value: &M, deadline: Instant) -> Result<(), PushError> {
        self.push_with(value, |end, len| end.reserve_until(len, deadline))
    }

    /// Pushes a value if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with that of a full ring.
    pub fn try_push(&mut self, value: &M) -> Result<(), PushError> {
        self.push_with(value, |end, len| end.try_reserve(len))
    }

    fn push_with(
        &mut self,
        value: &M,
        reserve: impl for<'a> FnOnce(
            &'a mut bytes::Producer,
            usize,
        ) -> Result<Reservation<'a>, crate::PushError<()>>,
    ) -> Result<(), PushError> {
        // Where the guess holds and there is room for it, one pass does.
        let guess = self.guess.min(self.end.max_len());
        let mut tried = self.end.try_guess(guess);
        let len = encode::<M, C>(value, tried.as_mut())?;
        if let Some(record) = tried.filter(|record| len <= record.len()) {
            return Ok(record.commit_len(len)?);
        }
        // Now the length is known.
        let mut record = reserve(&mut self.end, len)?;
        let again = encode::<M, C>(value, Some(&mut record))?;
        if again > len {
            // A value that changes while it is encoded, or a codec that does not make the same of it twice.
            let fault = "its encoding grew from one attempt to the next";
            return Err(PushError::Encode(fault.into()));
        }
        record.commit_len(again)?;
        self.guess = len.next_power_of_two().max(GUESS);
        Ok(())
    }

    /// Closes the channel for good: the consumer takes what is in it and is then told
    /// [`Closed`](crate::PopError::Closed). Never waits; whoever sleeps is woken.
    pub fn close(self) {
        self.end.close();
    }
}

/// Encodes into the record as far as it reaches; tells how long the encoding is.
fn encode<M, C: Codec<M>>(
    value: &M,
    record: Option<&mut Reservation<'_>>,
) -> Result<usize, PushError> {
    let mut sink = Sink { record, len: 0 };
    C::encode(value, |bytes| sink.take(bytes)).map_err(PushError::Encode)?;
    Ok(sink.len)
}

/// The end that values come out at. Dropping it gives the role back without closing the channel.
#[derive(Debug)]
pub struct Consumer<M, C = Bincode> {
    end: bytes::Consumer,
    /// A private copy of a record.
    record: Vec<u8>,
    value: PhantomData<fn(C) -> M>,
}

impl<M, C: Codec<M>> Consumer<M, C> {
    /// How to wait while the channel is empty. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    /// Takes the next value, waiting for one.
    ///
    /// # Errors
    ///
    /// [`PopError::Decode`], and the record is gone; or why the ring has none, as for [`bytes::Consumer::pop`].
    pub fn pop(&mut self) -> Result<M, PopError> {
        self.end.pop(&mut self.record)?;
        self.decode()
    }

    /// Takes the next value, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop), with that of the deadline.
    pub fn pop_until(&mut self, deadline: Instant) -> Result<M, PopError> {
        self.end.pop_until(&mut self.record, deadline)?;
        self.decode()
    }

    /// Takes the next value if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop), with that of an empty ring.
    pub fn try_pop(&mut self) -> Result<M, PopError> {
        self.end.try_pop(&mut self.record)?;
        self.decode()
    }

    fn decode(&self) -> Result<M, PopError> {
        let len = self.record.len();
        C::decode(&self.record).map_err(|error| PopError::Decode { len, error })
    }

    /// How many values were in the channel when it was looked at. While others push, it may differ by the time you read
    /// it.
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Whether nothing was in the channel when it was looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the channel for good: producers are told [`Closed`](crate::PushError::Closed). Never waits; whoever sleeps
    /// is woken.
    pub fn close(self) {
        self.end.close();
    }
}
