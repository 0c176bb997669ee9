//! Ids: unique 64-bit numbers for any number of processes, without a server.
//!
//! The classic `glob_id` program keeps a counter in a mapped file; it races, and it forgets in a power cut. This one does
//! neither. Ids are drawn in two ways, which can be mixed:
//!
//! | call | order | gaps |
//! |---|---|---|
//! | [`Ids::next`], [`Ids::take`] | sequential over all processes | only an id whose drawer died holding it |
//! | [`Lease::next`] | sequential within a block of 4,096 | what is left of a block is given out later; at most a block for each process killed while it draws one |
//!
//! In a file, no id is ever given twice, through any kill and any power cut: a mark on disk runs ahead of what is given
//! out, by a million ids and more, and after a power cut drawing goes on at the mark. What cannot be noticed is a snapshot
//! of the whole machine that is started again. Ids in a memfd or in anonymous memory end with it.
//!
//! The first id is 1. A file that was adopted as the successor of a lost one (see [`Ids::adopt`]) draws from a new
//! epoch, 2^48 further on.
//!
//! ```
//! use ipc_core::ids::Ids;
//! use ipc_core::segment::Place;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ids = Ids::create(Place::Anonymous)?;
//! assert_eq!(ids.next()?, 1);
//! let mut lease = ids.lease()?;
//! assert_eq!(lease.next()?, 2);
//! # Ok(()) }
//! ```

pub mod protocol;

use std::io;
use std::ops::Range;
use std::time::SystemTime;

pub use protocol::{BLOCK, EPOCH, Statistics};
use protocol::{Counter, Refusal};

use crate::Mapped;
use crate::fork::Process;
use crate::participant::ParticipantId;
use crate::segment::{
    Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};
use crate::{memory::Area, memory::OutOfArea};

/// The name of the counter in a segment that holds nothing else.
pub const ONLY: &str = "ids";

/// How counters are told from other objects. Nothing needs clearing up: what the dead leased stays for their successors.
pub const KIND: Kind = Kind {
    tag: *b"ids\0\0\0\0\0",
    version: VERSION,
    recover,
};

/// The version of the kind.
pub const VERSION: u32 = 1;

/// Lease rows, and places for attached processes.
const ROWS: u16 = 64;

fn recover(_: &Area<Mapped>, _: &Entry, _: ParticipantId) -> Result<(), OutOfArea> {
    Ok(())
}

/// Why no id was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// The segment cannot be used.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The mark could not be written: no id above it can be given, now or ever, since nobody knows what the disk holds.
    #[error("the mark of the given ids could not be written to disk{}; no more ids can be promised: mend the disk, then open the file anew on a machine started afresh, or adopt a copy of it", because(.0))]
    Failed(Option<io::Error>),
    /// Neither copy of the mark is whole.
    #[error(
        "both copies of the mark are damaged: which ids were given is not known, and none will be; restore the file and adopt it"
    )]
    Damaged,
    /// The epoch has no more ids, or more were asked for than are given at once.
    #[error("the 2^48 ids of this epoch are used up, or more than 2^32 were asked for at once")]
    Exhausted,
    /// Somebody else has been writing the mark for a minute.
    #[error(
        "another process has been writing the mark for a minute; is it stopped, or the disk stuck?"
    )]
    TimedOut,
    /// This attachment has its lease already.
    #[error("this attachment has a lease already: use it, or open the file again for another one")]
    LeaseTaken,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
}

fn because(error: &Option<io::Error>) -> String {
    error
        .as_ref()
        .map_or_else(|| " earlier".to_owned(), |error| format!(" ({error})"))
}

impl From<Refusal> for IdsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(error) => Self::Failed(error),
            Refusal::Damaged => Self::Damaged,
            Refusal::Exhausted => Self::Exhausted,
            Refusal::TimedOut => Self::TimedOut,
            Refusal::Forked => Self::Forked,
        }
    }
}

/// An attached counter. May be shared between threads.
#[derive(Clone, Debug)]
pub struct Ids {
    object: Object,
    counter: Counter<Mapped>,
    me: ParticipantId,
    process: Process,
}

impl Ids {
    /// What an object for a counter needs. `durable` if it lies in a file that is to outlive the machine's run.
    /// `participants` is that of the segment.
    pub fn spec(durable: bool, participants: u16) -> ObjectSpec {
        ObjectSpec {
            kind: KIND.tag,
            version: VERSION,
            len: Counter::<Mapped>::size(participants),
            schema: String::new(),
            parameters: [u64::from(durable), u64::from(participants)],
        }
    }

    /// Creates a counter in a segment of its own. It is durable if it has a name or a path.
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, IdsError> {
        let place = place.into();
        let options = Self::options(&place);
        Self::in_segment(&options.create(place)?, ONLY)
    }

    /// Opens a counter that exists.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`]; [`SegmentError::Copied`] if the file is a copy of another one, which may still be in use.
    pub fn open(place: impl Into<Place>) -> Result<Self, IdsError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// Opens a counter, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>) -> Result<Self, IdsError> {
        let place = place.into();
        let options = Self::options(&place);
        Self::in_segment(&options.open_or_create(place)?, ONLY)
    }

    /// Opens a copy or a restored backup as the successor of the original, which must not be used any more. It draws from
    /// a new epoch, so that no id comes twice even though the copy does not know the last ones of the original.
    ///
    /// One backup has one successor: it can be noticed that a file is a copy, but not that another copy of the same backup was
    /// adopted before, and both would draw from the same epoch. Make the next backup from what was adopted.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn adopt(place: impl Into<Place>) -> Result<Self, IdsError> {
        Self::in_segment(&Segment::adopt(place)?, ONLY)
    }

    fn options(place: &Place) -> SegmentOptions {
        let durable = matches!(place, Place::Name(_) | Place::Path(_));
        SegmentOptions::new()
            .participants(ROWS)
            .object(ONLY, Self::spec(durable, ROWS))
    }

    /// The counter of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none, if it is damaged, or if all places for attached processes are taken.
    pub fn in_segment(segment: &Segment, name: &str) -> Result<Self, IdsError> {
        segment.learn(&[KIND]);
        let object = segment.object(name)?;
        object.expect(KIND.tag, VERSION, "")?;
        let entry = object.entry();
        let [durable, rows] = entry.parameters;
        let counter = u16::try_from(rows).ok().and_then(|rows| {
            let lock = entry.offset / 64;
            Counter::new(object.area(), rows, lock, durable != 0).ok()
        });
        let damaged =
            || SegmentError::Damaged(format!("the counter {name:?} does not fit its object"));
        let counter = counter.ok_or_else(damaged)?;
        if !counter.is_of_this_run() {
            // Whoever gave the file its name may have been killed before that was on disk.
            segment.sync_name()?;
        }
        let me = segment.participant()?;
        counter.attach(me, u64::from(segment.header().adoptions))?;
        Ok(Self {
            object,
            counter,
            me,
            process: Process::current(),
        })
    }

    /// The counter for the calling process, a forked child of the one that opened it.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    pub fn rejoin(&self) -> Result<Self, IdsError> {
        let segment = self.object.segment().rejoin()?;
        Self::in_segment(&segment, &self.object.entry().name)
    }

    /// Draws the next id. A killed caller takes at most this one with it.
    ///
    /// # Errors
    ///
    /// Waits for the disk once in a million ids, and about once in a second where they are drawn faster; an error of the
    /// disk is for good.
    #[inline]
    pub fn next(&self) -> Result<u64, IdsError> {
        self.here()?;
        Ok(self.counter.draw(1)? + 1)
    }

    /// Draws a range of ids that follow each other, at most 2^32 of them. Waits for the disk as [`next`](Self::next) does, the
    /// more often the larger the ranges are.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next); [`IdsError::Exhausted`] if that is too many.
    pub fn take(&self, count: u64) -> Result<Range<u64>, IdsError> {
        self.here()?;
        let first = self.counter.draw_many(count)? + 1;
        Ok(first..first + count)
    }

    /// Takes the lease of this attachment, to draw at the speed of a local counter. There is one at a time; a thread that
    /// wants its own opens the file again.
    ///
    /// # Errors
    ///
    /// [`IdsError::LeaseTaken`].
    pub fn lease(&self) -> Result<Lease, IdsError> {
        self.here()?;
        let lease = self.counter.lease(self.me, self.object.clone());
        Ok(Lease(lease.ok_or(IdsError::LeaseTaken)?))
    }

    /// What is known about the ids.
    pub fn statistics(&self) -> Statistics {
        self.counter.statistics()
    }

    /// Notes the present time as that of the last change. Best effort: not part of what is durable.
    pub fn touch(&self) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.counter
            .touch(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The segment that the counter lies in.
    pub fn segment(&self) -> &Segment {
        self.object.segment()
    }

    #[inline]
    fn here(&self) -> Result<(), IdsError> {
        if self.process.is_here() {
            Ok(())
        } else {
            Err(IdsError::Forked)
        }
    }
}

/// Ids at the speed of a local counter. What is left of the block when it is dropped is given out later.
#[derive(Debug)]
pub struct Lease(
    /// With the attachment: without it our row would be given back, and our block be taken for one that was left behind.
    protocol::Lease<Mapped, Object>,
);

impl Lease {
    /// Gives the next id: one store of this process's own, but for one draw in 4,096 ids.
    ///
    /// # Errors
    ///
    /// As [`Ids::next`].
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<u64, IdsError> {
        Ok(self.0.give()? + 1)
    }
}
