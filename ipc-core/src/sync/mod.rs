//! The classic objects, shared between processes, whose holders may die: locks, registers and counters.
//!
//! | object | is |
//! |---|---|
//! | [`Mutex`] | a value and a lock; the death of its holder is an outcome that the next one sees |
//! | [`RwLock`] | the same, with any number of readers at a time |
//! | [`Semaphore`] | a number of permits; those of the dead come back |
//! | [`Barrier`] | a round of seats that wait for each other; a death breaks the round |
//! | [`Once`] | something that one process does, and the others wait for |
//! | [`Latest`] | the newest value: readers only load, and never wait for a writer |
//! | [`Sequence`] | counters that do not disturb each other |
//!
//! Each is one object in a [segment](crate::segment), beside rings or alone:
//!
//! ```
//! use ipc_core::segment::{Place, SegmentOptions};
//! use ipc_core::sync::{Attach, Mutex, Semaphore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let segment = SegmentOptions::new()
//!     .object("total", Mutex::<u64>::spec(())?)
//!     .object("jobs", Semaphore::spec(4)?)
//!     .create(Place::Anonymous)?;
//! let total = Mutex::<u64>::in_segment(&segment, "total")?;
//! let jobs = Semaphore::in_segment(&segment, "jobs")?;
//!
//! let _job = jobs.acquire()?;
//! // If a holder died half way through a change, its total may be wrong: count anew.
//! let mut guard = total.lock().or_else(|error| error.repair(|guard| guard.set(&0)))?;
//! guard.set(&(guard.get() + 1));
//! # Ok(()) }
//! ```
//!
//! Every claim on an object names the participant that made it. Whoever waits finds out whether that one has died, and
//! clears up after it: so does anybody who opens the segment, whatever objects it uses itself.

mod barrier;
mod guard;
mod latest;
pub mod lock;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod sequence;

use std::time::{Duration, Instant};

pub use barrier::{Barrier, BarrierError, Seat, Seats};
pub use guard::Guard;
pub use latest::{ATTEMPTS, Latest, LatestError, LatestView, LatestWriter, Register};
pub use mutex::Mutex;
pub use once::{Once, OnceRun};
pub use rwlock::{ReadGuard, Readers, RwLock};
pub use semaphore::{Permit, Permits, Semaphore};
pub use sequence::{Counter, Sequence};

use crate::Mapped;
use crate::memory::{Memory, OutOfArea};
use crate::participant::ParticipantId;
use crate::segment::{
    Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};

/// The name of an object in a segment that holds nothing else.
pub const ONLY: &str = "object";

/// How all kinds in this module clear up after the dead.
pub(crate) const KINDS: &[Kind] = &[
    mutex::KIND,
    rwlock::KIND,
    semaphore::KIND,
    barrier::KIND,
    once::KIND,
    latest::KIND,
    sequence::KIND,
];

/// A kind of object, attached to its place in a segment.
pub trait Attach: Sized {
    /// What there is to choose when it is created.
    type Parameters;

    /// What such an object needs.
    ///
    /// # Errors
    ///
    /// If there can be no such object; the message says which there can be.
    fn spec(parameters: Self::Parameters) -> Result<ObjectSpec, SegmentError>;

    /// The object, if it is one of this kind and of this layout. Joins the segment.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with our joining.
    fn attach(object: Object) -> Result<Self, SegmentError>;

    /// Where it lies.
    fn object(&self) -> &Object;

    /// Creates a segment that holds this object alone.
    ///
    /// # Errors
    ///
    /// If there can be no such object, something has the name already, or there is no room for it.
    fn create(place: impl Into<Place>, parameters: Self::Parameters) -> Result<Self, SegmentError> {
        let options = SegmentOptions::new().object(ONLY, Self::spec(parameters)?);
        Self::in_segment(&options.create(place)?, ONLY)
    }

    /// Opens a segment that holds this object alone.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`]; and if what it holds is no such object, of this layout: the message says what differs.
    fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// Opens a segment that holds this object alone, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) for one that exists, and as [`create`](Self::create) for one that does not.
    fn open_or_create(
        place: impl Into<Place>,
        parameters: Self::Parameters,
    ) -> Result<Self, SegmentError> {
        let options = SegmentOptions::new().object(ONLY, Self::spec(parameters)?);
        Self::in_segment(&options.open_or_create(place)?, ONLY)
    }

    /// The object of that name in a segment.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or it is of another kind, version or layout: the message says what differs.
    fn in_segment(segment: &Segment, name: &str) -> Result<Self, SegmentError> {
        Self::attach(segment.object(name)?)
    }

    /// The object for the calling process, a forked child of the one that attached it.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    fn rejoin(&self) -> Result<Self, SegmentError> {
        Self::in_segment(&self.segment().rejoin()?, &self.object().entry().name)
    }

    /// The segment that it lies in.
    fn segment(&self) -> &Segment {
        self.object().segment()
    }
}

/// Why something was not to be had. `G` is what one gets nevertheless when its last holder died.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError<G = ()> {
    /// The last holder died, or panicked, while it had the lock: here it is, and what it protects may be half changed.
    /// [Repair](LockError::repair) that, or leave it to [others](LockError::owned): a guard that is just dropped poisons the
    /// lock for good.
    #[error("the last holder of the lock died: what it protects may be half changed")]
    OwnerDied(G),
    /// A holder died, and the next one let the lock go without having repaired what it protects.
    #[error(
        "a holder of the lock died, and nobody repaired what it protects: create the object anew"
    )]
    Poisoned,
    /// Somebody has it. Only attempts that do not wait say so.
    #[error("somebody has the lock")]
    WouldBlock,
    /// Somebody had it until the deadline.
    #[error("somebody had the lock until the deadline")]
    TimedOut,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
}

impl<G> LockError<G> {
    fn of(refused: lock::Refused) -> Self {
        match refused {
            lock::Refused::Held(_) => Self::WouldBlock,
            lock::Refused::TimedOut => Self::TimedOut,
            lock::Refused::Ended => Self::Poisoned,
        }
    }
}

/// A deadline in the time of the memory.
fn in_memory_time(memory: &Mapped, deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline?.saturating_duration_since(Instant::now());
    memory.now().checked_add(left)
}

/// What every object has: its place, and our number there.
#[derive(Clone, Debug)]
struct Base {
    object: Object,
    me: ParticipantId,
    process: crate::fork::Process,
}

impl Base {
    /// Checks the object and joins its segment.
    fn new(object: Object, kind: Kind, schema: &str) -> Result<Self, SegmentError> {
        object.expect(kind.tag, VERSION, schema)?;
        let me = object.segment().participant()?;
        let process = crate::fork::Process::current();
        Ok(Self {
            object,
            me,
            process,
        })
    }

    #[inline]
    fn is_here(&self) -> bool {
        self.process.is_here()
    }

    fn recover(&self, dead: ParticipantId) {
        self.object.segment().recover(dead);
    }

    fn deadline(&self, deadline: Option<Instant>) -> Option<Duration> {
        in_memory_time(self.object.area().memory(), deadline)
    }
}

/// The version of what `docs/layout.md` draws for these kinds.
const VERSION: u32 = 1;

/// The object is shorter than its kind and parameters say.
fn misfit(entry: &Entry) -> impl Fn(OutOfArea) -> SegmentError + use<> {
    let name = entry.name.clone();
    move |error| SegmentError::Damaged(format!("the object {name:?}: {error}"))
}

/// An object of a kind without parameters.
fn spec_of(kind: Kind, len: usize, schema: String, parameters: [u64; 2]) -> ObjectSpec {
    ObjectSpec {
        kind: kind.tag,
        version: VERSION,
        len,
        schema,
        parameters,
    }
}
