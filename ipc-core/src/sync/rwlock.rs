//! A value that many may read, or one may change.
//!
//! # Protocol
//!
//! A [`Lock`] for the writer, and a count of readers for each participant, so that every reader has a name.
//!
//! ```text
//! reader                                  writer
//! R1  readers[me] += 1                    W1  take the lock, GRANTED: nothing is touched yet
//! R2  full fence                          W2  full fence
//! R3  lock free? then read                W3  wait until all readers are 0
//! R4  else readers[me] -= 1, tell writer  W4  not GRANTED any more: change the value
//! R5  take the lock, readers[me] += 1, let go of the lock
//! ```
//!
//! Either R3 sees the writer of W1, or W3 sees the reader of R1 (Dekker): they are never in together. A reader that finds
//! the lock taken goes through it (R5), and so has its turn among the writers, who cannot shut it out: the lock is
//! fair. Readers write no line that other participants write, but where there is a writer.
//!
//! # When a participant dies
//!
//! A reader's count goes. A writer that has begun (W4) leaves the lock marked: readers and writers are told, and a writer
//! repairs the value, as with a [`Mutex`](super::Mutex).
//!
//! Sources: the distributed lock of Hsieh and Weihl, and the "big reader" lock of Linux.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::{Duration, Instant};

use super::guard::{Guard, Locked, Protected};
use super::lock::{Entry as Begin, Leave, Lock, Refused, Taken};
use super::{Attach, Base, LockError, VERSION, misfit, spec_of};
use crate::event::{Event, Wait, Waiters, wait_until};
use crate::layout::{Layout, Shared};
use crate::memory::{Area, Memory, OutOfArea, Word32};
use crate::participant::{MAX_PARTICIPANTS, ParticipantId};
use crate::segment::{Entry, Kind, OBJECT_ALIGN, Object, ObjectSpec, SegmentError};
use crate::{Mapped, Message};

/// How objects of this kind are told from others, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"rwlock\0\0",
    version: VERSION,
    recover,
};

mod field {
    pub(super) const LOCK: usize = 0;
    /// Told when a reader leaves.
    pub(super) const LEFT: usize = 4;
    pub(super) const READERS: usize = 128;
    /// Each participant has a cache line.
    pub(super) const STRIDE: usize = 64;
}

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Readers::new(area, entry.parameters[0] as usize)?.recover(dead);
    Ok(())
}

/// The lock in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Readers<M> {
    lock: Lock<M>,
    left: Event<M>,
    counts: Vec<Word32<M>>,
}

impl<M: Memory> Readers<M> {
    /// The lock of so many participants in `area`.
    ///
    /// # Errors
    ///
    /// If the area is too short for them.
    pub fn new(area: &Area<M>, participants: usize) -> Result<Self, OutOfArea> {
        let count = |index| area.word32(field::READERS + index * field::STRIDE);
        Ok(Self {
            lock: Lock::new(area, field::LOCK)?,
            left: Event::new(area, field::LEFT, Waiters::Many)?,
            counts: (0..participants.min(MAX_PARTICIPANTS.into()))
                .map(count)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Bytes before the value.
    pub fn size(participants: usize) -> usize {
        (field::READERS + participants * field::STRIDE).next_multiple_of(OBJECT_ALIGN)
    }

    fn has(&self, id: ParticipantId) -> bool {
        usize::from(id.get()) <= self.counts.len()
    }

    fn count(&self, me: ParticipantId) -> &Word32<M> {
        &self.counts[usize::from(me.get()) - 1]
    }

    fn enter(&self, me: ParticipantId) {
        let count = self.count(me);
        let mut found = count.load(Relaxed);
        while let Err(other) = count.exchange(found, found.wrapping_add(1), Relaxed) {
            found = other;
        }
    }

    /// A reader leaves.
    pub fn leave(&self, me: ParticipantId) {
        let count = self.count(me);
        let mut found = count.load(Relaxed);
        // ORDERING: Release pairs with the Acquire in `is_drained`: the writer sees us done reading.
        while let Err(other) = count.exchange(found, found.saturating_sub(1), Release) {
            found = other;
        }
        self.left.notify(u32::MAX);
    }

    /// R1 to R3; false if somebody has the lock, or has left it broken.
    #[inline]
    pub fn try_read(&self, me: ParticipantId) -> bool {
        self.enter(me);
        // ORDERING: pairs with the fence in `write` (R2 with W2).
        self.lock.memory().fence(SeqCst);
        let free = self.lock.is_free();
        if !free {
            self.leave(me);
        }
        free
    }

    /// R1 to R5.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`].
    pub fn read(
        &self,
        me: ParticipantId,
        wait: Wait,
        deadline: Option<Duration>,
        recover: impl FnMut(ParticipantId),
    ) -> Result<Taken, Refused> {
        if self.try_read(me) {
            return Ok(Taken::Clean);
        }
        let taken = self.lock.lock(me, Begin::Later, wait, deadline, recover)?;
        if taken == Taken::Clean {
            self.enter(me);
        }
        self.lock.unlock(me, Leave::Free);
        Ok(taken)
    }

    /// W1 to W4.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`]; the readers that are there count as a holder.
    pub fn write(
        &self,
        me: ParticipantId,
        wait: Wait,
        deadline: Option<Duration>,
        mut recover: impl FnMut(ParticipantId),
    ) -> Result<Taken, Refused> {
        let taken = self
            .lock
            .lock(me, Begin::Later, wait, deadline, &mut recover)?;
        // ORDERING: pairs with the fence in `try_read` (W2 with R2).
        self.lock.memory().fence(SeqCst);
        let drained = wait_until(
            &self.left,
            wait,
            deadline,
            || Ok::<_, Infallible>(self.is_drained().then_some(())),
            || {
                self.reading().into_iter().for_each(&mut recover);
                Ok(())
            },
        );
        let Ok(drained) = drained;
        if drained.got.is_none() {
            self.lock.unlock(me, Leave::Free);
            return Err(Refused::TimedOut);
        }
        self.lock.set_granted(false);
        Ok(taken)
    }

    fn is_drained(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `leave`.
        self.counts.iter().all(|count| count.load(Acquire) == 0)
    }

    /// Who reads.
    pub fn reading(&self) -> BTreeSet<ParticipantId> {
        let busy = self
            .counts
            .iter()
            .zip(1..)
            .filter(|(count, _)| count.load(Relaxed) != 0);
        busy.filter_map(|(_, number)| ParticipantId::new(number))
            .collect()
    }

    /// Undoes what a participant that is proven dead held. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        if self.has(dead) {
            // ORDERING: Release pairs with the Acquire in `is_drained`.
            self.count(dead).store(0, Release);
            self.left.notify(u32::MAX);
        }
        self.lock.recover(dead);
    }
}

/// A `T` that many may read, or one may change. All zeros at first.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, LockError, RwLock};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let range = RwLock::<[u32; 2]>::create(Place::Anonymous, 64)?;
/// range.write().map_err(LockError::owned)?.set(&[10, 20]);
///
/// let (one, another) = (range.read()?, range.read()?);
/// assert_eq!(one.get(), another.get());
/// # Ok(()) }
/// ```
pub struct RwLock<T> {
    inner: Protected<T>,
    readers: Readers<Mapped>,
}

impl<T: Layout> Attach for RwLock<T> {
    /// How many processes can be attached: as many as the segment has places for, 64 if not set there.
    type Parameters = u16;

    fn spec(participants: u16) -> Result<ObjectSpec, SegmentError> {
        let len = Readers::<Mapped>::size(participants.into()) + size_of::<T>();
        let (schema, parameters) = (T::schema().text(), [participants.into(), 0]);
        Ok(spec_of(KIND, len, schema, parameters))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, &T::schema().text())?;
        let misfit = misfit(base.object.entry());
        let participants = base.object.entry().parameters[0].min(MAX_PARTICIPANTS.into()) as usize;
        let readers = Readers::new(base.object.area(), participants).map_err(&misfit)?;
        if !readers.has(base.me) {
            return Err(SegmentError::Object(format!(
                "{} finds no place in the lock {:?}, which was made for {participants} processes; create it for as \
                 many as the segment has places",
                base.me,
                base.object.entry().name
            )));
        }
        let at = Readers::<Mapped>::size(participants);
        let inner = Protected::new(base, readers.lock.clone(), at).map_err(&misfit)?;
        Ok(Self { inner, readers })
    }

    fn object(&self) -> &Object {
        &self.inner.base.object
    }
}

impl<T: Layout> RwLock<T> {
    /// How to wait for the lock. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.inner.wait = wait;
    }

    /// Takes the lock for reading, waiting for it. Any number of readers have it at a time.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] if a writer died and none has repaired the value: take it for writing.
    pub fn read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        self.read_within(None)
    }

    /// Takes the lock for reading, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`LockError::TimedOut`].
    pub fn read_until(&self, deadline: Instant) -> Result<ReadGuard<'_, T>, LockError> {
        self.read_within(Some(deadline))
    }

    fn read_within(&self, deadline: Option<Instant>) -> Result<ReadGuard<'_, T>, LockError> {
        let Protected { base, wait, .. } = &self.inner;
        if !base.is_here() {
            return Err(LockError::Forked);
        }
        let deadline = base.deadline(deadline);
        let recover = |holder| base.recover(holder);
        match self.readers.read(base.me, *wait, deadline, recover) {
            Ok(Taken::Clean) => Ok(ReadGuard { lock: self }),
            Ok(Taken::OwnerDied) => Err(LockError::OwnerDied(())),
            Err(refused) => Err(LockError::of(refused)),
        }
    }

    /// Takes the lock for writing, waiting for it.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn write(&self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.write_within(None)
    }

    /// Takes the lock for writing, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`LockError::TimedOut`].
    pub fn write_until(&self, deadline: Instant) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.write_within(Some(deadline))
    }

    fn write_within(&self, deadline: Option<Instant>) -> Locked<'_, T> {
        let Protected { base, wait, .. } = &self.inner;
        if !base.is_here() {
            return Err(LockError::Forked);
        }
        let deadline = base.deadline(deadline);
        let recover = |holder| base.recover(holder);
        self.inner
            .guard(self.readers.write(base.me, *wait, deadline, recover))
    }

    /// Who reads, when looked at.
    pub fn reading(&self) -> BTreeSet<ParticipantId> {
        self.readers.reading()
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("reading", &self.readers.reading())
            .finish_non_exhaustive()
    }
}

/// An [`RwLock`] taken for reading, let go on drop.
#[must_use = "the lock is let go at once if the guard is not kept"]
#[derive(Debug)]
pub struct ReadGuard<'l, T> {
    lock: &'l RwLock<T>,
}

impl<T: Message> ReadGuard<'_, T> {
    /// A copy of the value.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    pub fn get(&self) -> T {
        self.lock.inner.get()
    }
}

impl<T: Shared> Deref for ReadGuard<'_, T> {
    type Target = T;

    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    fn deref(&self) -> &T {
        self.lock.inner.shared()
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        let RwLock { inner, readers } = self.lock;
        if inner.base.is_here() {
            readers.leave(inner.base.me);
        }
    }
}
