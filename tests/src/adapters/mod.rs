//! Every kind of ring behind the same few calls, so that one suite serves them all.
//!
//! A kind is added by an entry in [`KINDS`]. Messages are numbers; what travels is [`Message`], whose words all depend on
//! the number, so that a torn message is seen.

mod broadcast;
mod broadcast_bytes;
mod bytes;
mod channel;
mod typed;

use std::cell::Cell;
use std::time::Instant;

use ipc_core::segment::{Place, Segment, SegmentError};
use ipc_ring::{PopError, PushError};

/// What travels: the number, and words made from it.
pub type Message = [u64; 5];

/// The message of a number.
pub fn message(number: u64) -> Message {
    std::array::from_fn(|word| {
        number
            .wrapping_mul(1 + 2 * word as u64)
            .wrapping_add(word as u64)
    })
}

/// The number of a message.
///
/// # Panics
///
/// If it is torn, unless rubbish is [expected](expect_rubbish).
pub fn number(received: &Message) -> u64 {
    if !rubbish_is_expected() {
        assert_eq!(*received, message(received[0]), "a torn message");
    }
    received[0]
}

thread_local! {
    static RUBBISH: Cell<bool> = const { Cell::new(false) };
}

fn rubbish_is_expected() -> bool {
    RUBBISH.get()
}

/// From now on, messages in this thread may be anything.
pub fn expect_rubbish() {
    RUBBISH.set(true);
}

/// A kind of ring.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Whether it serves several producers at a time.
    pub many_producers: bool,
    /// Whether it serves several consumers at a time, each message going to one of them.
    pub many_consumers: bool,
    /// Whether messages that nobody has taken wait for a consumer that comes later.
    pub keeps: bool,
    /// Whether messages can be read where they lie.
    pub lends: bool,
    /// Whether a message says that it had been taken before. One with a single consumer at a time need not.
    pub marks_redelivery: bool,
    /// Whether it takes exactly as many messages as its capacity says. Otherwise a place may be larger than a message.
    pub exact: bool,
    /// Creates one of so many messages.
    pub create: fn(Place, usize) -> Result<Box<dyn Ring>, SegmentError>,
    /// Opens one that exists.
    pub open: fn(Place) -> Result<Box<dyn Ring>, SegmentError>,
    /// Moves a new, empty ring to a position: as if so many messages had gone through it. `None` where there is no
    /// position that could wrap.
    pub start_at: Option<fn(&Segment, u64)>,
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    typed::SPSC,
    typed::MPMC,
    broadcast::BROADCAST,
    broadcast_bytes::BROADCAST_BYTES,
    bytes::BYTES,
    bytes::LANES,
    channel::CHANNEL,
];

/// Positions in messages, for [`Kind::start_at`], from which the places where arithmetic may wrap are near: at 2^32, of messages
/// and of records of 64 bytes, 2^47 laps of a ring of one slot, 2^63 in the words of a broadcast, and 2^64.
pub const STARTS: [u64; 7] = [
    0,
    1,
    (1 << 26) - 3,
    (1 << 32) - 5,
    (1 << 47) - 2,
    (1 << 63) - 3,
    0_u64.wrapping_sub(7),
];

/// A ring that is open.
pub trait Ring {
    /// Claims the producer's end.
    fn producer(&self) -> Box<dyn Producer>;
    /// Claims the consumer's end.
    fn consumer(&self) -> Box<dyn Consumer>;
    /// For a forked child.
    fn rejoin(&self) -> Box<dyn Ring>;
    /// The segment.
    fn segment(&self) -> &Segment;
    /// Closes it.
    fn close(&self);
    /// Messages in it.
    fn len(&self) -> usize;
    /// Whether it was found empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many fit in.
    fn capacity(&self) -> usize;
}

/// A ring of the library, and what its kind needs to be one here.
struct Opened<R: ipc_ring::Ring> {
    ring: R,
    /// How much of the capacity a message takes.
    extent: usize,
    /// The ends, of a ring of that capacity.
    producer: fn(R::Producer, usize) -> Box<dyn Producer>,
    consumer: fn(R::Consumer, usize) -> Box<dyn Consumer>,
}

impl<R: ipc_ring::Ring + 'static> Opened<R> {
    fn boxed(self) -> Box<dyn Ring> {
        Box::new(self)
    }
}

impl<R: ipc_ring::Ring + 'static> Ring for Opened<R> {
    fn producer(&self) -> Box<dyn Producer> {
        (self.producer)(self.ring.producer().unwrap(), self.ring.capacity())
    }

    fn consumer(&self) -> Box<dyn Consumer> {
        (self.consumer)(self.ring.consumer().unwrap(), self.ring.capacity())
    }

    fn rejoin(&self) -> Box<dyn Ring> {
        Box::new(Self {
            ring: self.ring.rejoin().unwrap(),
            ..*self
        })
    }

    fn segment(&self) -> &Segment {
        self.ring.segment()
    }

    fn close(&self) {
        self.ring.close();
    }

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn capacity(&self) -> usize {
        self.ring.capacity() / self.extent
    }
}

/// The end that messages go in at. The names are those of `ipc_ring`.
#[allow(missing_docs)]
pub trait Producer {
    fn set_wait(&mut self, wait: ipc_core::event::Wait);
    fn try_push(&mut self, number: u64) -> Result<(), PushError<()>>;
    fn push(&mut self, number: u64) -> Result<(), PushError<()>>;
    fn push_until(&mut self, number: u64, deadline: Instant) -> Result<(), PushError<()>>;
    fn try_push_slice(&mut self, numbers: &[u64]) -> Result<usize, PushError<()>>;
    fn push_slice(&mut self, numbers: &[u64]) -> Result<(), PushError<usize>>;
    /// Reserves, writes and commits.
    fn reserve_and_commit(&mut self, number: u64) -> Result<(), PushError<()>>;
    /// Reserves, writes rubbish, and lets go.
    fn reserve_and_drop(&mut self) -> Result<(), PushError<()>>;
    /// Reserves, writes rubbish, and forgets about it.
    fn reserve_and_forget(&mut self) -> Result<(), PushError<()>>;
    fn close(self: Box<Self>);
}

/// The end that messages come out at. The names are those of `ipc_ring`. What a kind does not have is made of what it has.
#[allow(missing_docs)]
pub trait Consumer {
    fn set_wait(&mut self, wait: ipc_core::event::Wait);
    fn try_pop(&mut self) -> Result<u64, PopError>;
    fn pop(&mut self) -> Result<u64, PopError>;
    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError>;
    /// Messages for it.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Takes up to `most`.
    fn try_pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.try_pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }
    fn pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }
    fn drain(&mut self) -> Vec<u64> {
        let count = self.len();
        (0..count).map_while(|_| self.try_pop().ok()).collect()
    }
    /// Takes a message where it lies, calls `done` with its number and whether it is redelivered, and releases it.
    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        done(self.try_pop()?, false);
        Ok(())
    }
    /// Takes a message where it lies, and puts it back. Only of a kind that [lends](Kind::lends).
    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        panic!("a ring that does not lend was asked for a message where it lies")
    }
    /// Takes a message where it lies, and forgets about it. Only of a kind that [lends](Kind::lends).
    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        self.read_and_put_back()
    }
    fn close(self: Box<Self>);
}
