//! What a ring answers when it cannot do what was asked, the same for all kinds.

use std::fmt;

use ipc_core::participant::ParticipantId;
use ipc_core::segment::SegmentError;

/// Why nothing was pushed. Where a value was given, it comes back.
#[derive(PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError<T> {
    /// There is no free place.
    #[error("the ring is full")]
    Full(T),
    /// Still no free place at the deadline.
    #[error("the ring was still full at the deadline")]
    TimedOut(T),
    /// Somebody closed the ring: nothing more goes in.
    #[error("the ring is closed")]
    Closed(T),
    /// It can never fit.
    #[error(
        "a record of {len} bytes is too long: this ring takes records of up to {max} bytes, half its capacity"
    )]
    TooLong {
        /// What was not pushed.
        value: T,
        /// Its length in bytes.
        len: usize,
        /// The longest that fits, in bytes.
        max: usize,
    },
    /// The ring is full, and its consumer has died since the last call. Told once for each death: call again to wait for
    /// a new consumer.
    #[error("the ring is full and its consumer has died")]
    PeerDead(T),
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked(T),
    /// The shared positions contradict each other: somebody wrote rubbish into them.
    #[error("the ring is damaged: its positions contradict each other")]
    Corrupt(T),
}

impl<T> PushError<T> {
    /// The value that was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value)
            | Self::TimedOut(value)
            | Self::Closed(value)
            | Self::TooLong { value, .. }
            | Self::PeerDead(value)
            | Self::Forked(value)
            | Self::Corrupt(value) => value,
        }
    }

    /// The same reason with another value.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> PushError<U> {
        match self {
            Self::Full(value) => PushError::Full(with(value)),
            Self::TimedOut(value) => PushError::TimedOut(with(value)),
            Self::Closed(value) => PushError::Closed(with(value)),
            Self::TooLong { value, len, max } => PushError::TooLong {
                value: with(value),
                len,
                max,
            },
            Self::PeerDead(value) => PushError::PeerDead(with(value)),
            Self::Forked(value) => PushError::Forked(with(value)),
            Self::Corrupt(value) => PushError::Corrupt(with(value)),
        }
    }
}

/// Says why, and leaves the value out: so `?` works whatever the message is.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::TimedOut(_) => "TimedOut(..)",
            Self::Closed(_) => "Closed(..)",
            Self::TooLong { .. } => "TooLong { .. }",
            Self::PeerDead(_) => "PeerDead(..)",
            Self::Forked(_) => "Forked(..)",
            Self::Corrupt(_) => "Corrupt(..)",
        })
    }
}

/// Why nothing was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PopError {
    /// There is nothing in it.
    #[error("the ring is empty")]
    Empty,
    /// The oldest message is still in the hands of this producer. There may be others behind it, but they are not to
    /// overtake. Waiting calls go on waiting, and find out whether the producer has died.
    #[error("the next message is still being written by {0}")]
    Pending(ParticipantId),
    /// Still nothing to take at the deadline.
    #[error("there was still no message at the deadline")]
    TimedOut,
    /// This many messages were overwritten before this reader came to them. The next call goes on with the oldest that
    /// is left.
    #[error("the reader was too slow and has missed {0} messages")]
    Lagged(u64),
    /// The next record does not fit the buffer; it is still in the ring.
    #[error("the next record has {len} bytes, more than the buffer; it is still in the ring")]
    TooSmall {
        /// Its length in bytes.
        len: usize,
    },
    /// Somebody closed the ring, and everything that was in it has been taken.
    #[error("the ring is closed and empty")]
    Closed,
    /// The ring is empty, and its producer has died since the last call. Told once for each death: call again to wait
    /// for a new producer.
    #[error("the ring is empty and its producer has died")]
    PeerDead,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
    /// The shared positions contradict each other: somebody wrote rubbish into them.
    #[error("the ring is damaged: its positions contradict each other")]
    Corrupt,
}

/// Why a role was not given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another handle has the role, in a process that lives.
    #[error("the ring has a {role} already: {holder}; there can be one at a time")]
    Taken {
        /// Which role.
        role: &'static str,
        /// Who has it.
        holder: String,
    },
    /// Every lane has a producer, in a process that lives.
    #[error(
        "all {lanes} lanes have a producer that lives; end one of them, or create the ring anew with more lanes"
    )]
    NoLane {
        /// How many there are.
        lanes: usize,
    },
    /// The process cannot take part in the segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}
