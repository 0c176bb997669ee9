//! What a kind of ring gives to its handles: the algorithm, one side of it at a time.
//!
//! [`Producer`](crate::Producer) and [`Consumer`](crate::Consumer) are written once, over these traits. They add what is
//! the same everywhere: types, deadlines, waiting, errors, the check after `fork`. A side is generic over its
//! [`Memory`], so that a model checker drives the very code that runs in production.

use ipc_core::event::{Event, Wait};
use ipc_core::memory::{Memory, Slots};
use ipc_core::participant::ParticipantId;

use crate::role::Role;

/// Why an attempt gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Full, or empty: wait for the other side.
    NotYet,
    /// Full, or empty, as long as this participant lives: if it has died, what it holds can be had.
    Watch(ParticipantId),
    /// The message that is next is still in the hands of this producer. Others may lie behind it.
    Held(ParticipantId),
    /// The ring is closed.
    Closed,
    /// A reader that may miss messages has missed this many; the next attempt goes on behind them.
    Lagged(u64),
    /// The shared words contradict each other.
    Corrupt,
}

/// One of the two ends of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where messages go in.
    Producer,
    /// Where they come out.
    Consumer,
}

/// What has gone through an end of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many messages.
    pub messages: u64,
    /// How many bytes they take; of records, with what they need for headers and padding.
    pub bytes: u64,
}

impl Moved {
    /// Messages of so many bytes each.
    #[inline]
    pub(crate) fn of(messages: u64, size: usize) -> Self {
        Self {
            messages,
            bytes: messages.wrapping_mul(size as u64),
        }
    }
}

/// What a ring is as a whole, whatever its kind and whatever it lies in.
pub trait Whole {
    /// How many messages were in it when it was looked at.
    fn len(&self) -> usize;

    /// Whether nothing was in it when it was looked at.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit in; of a ring of bytes, how many bytes.
    fn capacity(&self) -> usize;

    /// Whether somebody has closed it.
    fn is_closed(&self) -> bool;

    /// Closes it for good, and wakes both sides.
    fn close(&self);

    /// Takes everything that a participant held which is proven dead. Idempotent, and every step may be the last one. One
    /// caller at a time for each participant.
    fn recover(&self, dead: ParticipantId);

    /// What has gone through a place at that end (which lane, where there are several): by the positions, or, where none
    /// tells, by what its holders have `counted`.
    fn moved(&self, end: End, place: usize, counted: Moved) -> Moved;
}

/// Looking at the messages of a ring as they go by. Only loads.
pub trait Peek: Whole {
    /// How many lanes there are, each with an order of its own.
    fn lanes(&self) -> usize {
        1
    }

    /// Where the oldest message in a lane is that nobody has taken.
    fn oldest(&self, lane: usize) -> Spot;

    /// Where the next message in a lane will be.
    fn newest(&self, lane: usize) -> Spot;

    /// Copies the message at that place, if it is there and stays whole meanwhile.
    ///
    /// # Errors
    ///
    /// [`NoPeek`]: not there yet, gone by, or contradicting itself.
    fn peek(&self, lane: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek>;
}

/// Where a message is, and how many came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Its position.
    pub position: u64,
    /// How many messages came before it.
    pub number: u64,
}

impl Spot {
    /// That of a ring whose positions count messages.
    pub(crate) fn of(position: u64) -> Self {
        Self {
            position,
            number: position,
        }
    }

    /// The one so many messages further on, where positions count messages.
    pub(crate) fn plus(self, messages: u64) -> Self {
        Self {
            position: self.position.wrapping_add(messages),
            number: self.number.wrapping_add(messages),
        }
    }
}

/// Why there is nothing to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPeek {
    /// The message has not been published yet.
    NotYet,
    /// The same, but somebody has begun to write it, and may publish it even if the ring is closed.
    Pending,
    /// Nothing was published there; this is where to go on.
    Skipped(Spot),
    /// It is gone, or may be; this is where to go on.
    Gone(Spot),
    /// The shared words contradict each other.
    Corrupt,
}

/// What both sides have.
pub trait Side {
    /// What the ring lies in.
    type Memory: Memory;

    /// The ring that this is a side of.
    fn whole(&self) -> &impl Whole;

    /// At which end it is.
    fn end(&self) -> End;

    /// Which of the places at that end it has, where they are told apart.
    fn place(&self) -> Option<usize> {
        None
    }

    /// How many messages this side has moved since it began, where no position tells.
    #[inline]
    fn moved(&self) -> Option<u64> {
        None
    }

    /// How many bytes these took, where their number does not tell.
    #[inline]
    fn moved_bytes(&self) -> Option<u64> {
        None
    }

    /// What this side sleeps on while it is refused.
    fn event(&self) -> &Event<Self::Memory>;

    /// The role of the other side, where there is one whose death shall be told.
    fn peer(&self) -> Option<&Role<Self::Memory>> {
        None
    }

    /// Messages in the ring when looked at, as far as they concern this side.
    fn len(&self) -> usize {
        self.whole().len()
    }

    /// Whether nothing was in the ring when looked at.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Called before this side begins to wait.
    fn before_wait(&mut self, wait: Wait) {
        let _ = wait;
    }

    /// Called when a wait is over, with whether it took a sleep.
    fn after_wait(&mut self, slept: bool) {
        let _ = slept;
    }

    /// Gives back what this side still holds, before its handle goes.
    fn leave(&mut self) {}
}

/// The producer's side. None of its calls waits.
pub trait SendSide: Side {
    /// Copies one message in and publishes it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was pushed then.
    fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal>;

    /// Copies as many of the messages in as there is room for, and publishes them. At least one, unless refused.
    /// `messages` holds whole messages, at least one.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was pushed then.
    fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal>;

    /// Takes the next place, to be written through [`payload`](Self::payload) and then given to either
    /// [`commit`](Self::commit) or [`abort`](Self::abort). One at a time: a place that is still taken is aborted first.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; no place is taken then.
    fn try_reserve(&mut self) -> Result<u64, Refusal>;

    /// Publishes the reserved place.
    fn commit(&mut self, place: u64);

    /// Gives the reserved place back; nothing is published.
    fn abort(&mut self, place: u64);

    /// Where the messages lie; places are its positions.
    fn payload(&self) -> &Slots<Self::Memory>;
}

/// The consumer's side. None of its calls waits.
pub trait ReceiveSide: Side {
    /// Copies one message out and commits it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was taken then, and `into` may hold anything.
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal>;

    /// Copies as many messages out as there are and as fit in, and commits them. At least one, unless refused. `into`
    /// has room for whole messages, at least one.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was taken then, and `into` may hold anything.
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal>;
}

/// The side of a consumer that can have a message to itself where it lies.
pub trait LendSide: ReceiveSide {
    /// Takes the next message where it lies, to be given to either [`release`](Self::release) or
    /// [`put_back`](Self::put_back). One at a time: one that is still taken is released first.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was taken then.
    fn try_read(&mut self) -> Result<Taken, Refusal>;

    /// Commits the message taken; its place is free for others.
    fn release(&mut self, place: u64);

    /// Puts the message taken back: the next attempt, of whoever makes it, gets it.
    fn put_back(&mut self, place: u64);

    /// Where the messages lie; places are its positions.
    fn payload(&self) -> &Slots<Self::Memory>;
}

/// A message taken where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its position in the payload.
    pub place: u64,
    /// Whether somebody had taken it before, and died or put it back.
    pub redelivered: bool,
}
