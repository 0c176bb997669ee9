//! What a journal answers when it cannot do what was asked.

use std::io;

use ipc_core::memory::OutOfArea;
use ipc_core::participant::ParticipantId;
use ipc_core::segment::SegmentError;

/// Why a journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The segment cannot be used.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// There is no room for the record.
    #[error(
        "the journal is full: trim what is no longer needed, or create one with a larger capacity"
    )]
    Full,
    /// It can never fit.
    #[error(
        "a record of {len} bytes is too long: this journal takes records of up to {max} bytes, which take half its capacity"
    )]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The longest that fits, in bytes.
        max: usize,
    },
    /// The record at the position is still being written. Whoever waits finds out whether its appender lives.
    #[error("the next record is still being written by {0}")]
    Pending(ParticipantId),
    /// The position was trimmed.
    #[error("everything before position {start} was trimmed: go on from there")]
    Trimmed {
        /// The oldest position that can be read.
        start: u64,
    },
    /// The position lies behind the end: it is of another journal, or was cut off with a torn tail.
    #[error(
        "the journal ends at position {end}: what was behind it was not synced before the machine went down, or was never in this journal"
    )]
    Beyond {
        /// Where the next record will begin.
        end: u64,
    },
    /// Writing to disk failed, now or earlier: nobody knows what the disk holds.
    #[error("the journal could not be written to disk{}; nothing more can be promised: mend the disk, then open the journal on a machine started afresh, which keeps what is whole", because(.0))]
    Failed(Option<io::Error>),
    /// Neither copy of the mark is whole.
    #[error(
        "both copies of the mark of where the journal begins are damaged: restore the file from a backup"
    )]
    Damaged,
    /// Not done by the deadline.
    #[error(
        "not done by the deadline: another process is stopped in mid-append or mid-sync, or the disk is stuck"
    )]
    TimedOut,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
    /// No whole record begins there: the position is none that the journal gave, or somebody wrote rubbish.
    #[error(
        "no whole record begins at position {0}: it is not a position that this journal gave, or the file is damaged"
    )]
    Corrupt(u64),
}

fn because(error: &Option<io::Error>) -> String {
    error
        .as_ref()
        .map_or_else(|| " earlier".to_owned(), |error| format!(" ({error})"))
}

impl From<OutOfArea> for JournalError {
    fn from(refusal: OutOfArea) -> Self {
        SegmentError::Damaged(format!("the journal does not fit its object: {refusal}")).into()
    }
}
