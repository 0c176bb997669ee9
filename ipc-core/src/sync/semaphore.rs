//! A number of permits, each of which names its holder; those of the dead come back.
//!
//! # Protocol
//!
//! A word for each permit: the participant that has it, or zero. To take one is to find a zero and replace it by one's own
//! number. There is no count that a death could leave wrong, and no way to give back what one does not have.
//!
//! # Orderings
//!
//! Taking is Acquire and pairs with the Release of giving back: whoever gets a permit sees what its last holder did.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Instant;

use super::{Attach, Base, LockError, VERSION, misfit, spec_of};
use crate::Mapped;
use crate::event::{Event, Wait, Waiters, wait_until};
use crate::memory::{Area, Memory, OutOfArea, Word32};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

/// How objects of this kind are told from others, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"semaphor",
    version: VERSION,
    recover,
};

/// The most permits.
const MOST: u32 = 65_536;

const FREED: usize = 0;
const HOLDERS: usize = 128;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Permits::new(area, entry.parameters[0] as usize)?.recover(dead);
    Ok(())
}

/// The permits in their area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Permits<M> {
    freed: Event<M>,
    holders: Vec<Word32<M>>,
}

impl<M: Memory> Permits<M> {
    /// So many permits in `area`.
    ///
    /// # Errors
    ///
    /// If the area is too short for them.
    pub fn new(area: &Area<M>, count: usize) -> Result<Self, OutOfArea> {
        let holder = |index| area.word32(HOLDERS + 4 * index);
        Ok(Self {
            freed: Event::new(area, FREED, Waiters::Many)?,
            holders: (0..count.min(MOST as usize))
                .map(holder)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Takes a permit, if there is one.
    pub fn try_acquire(&self, me: ParticipantId) -> Option<usize> {
        // Everybody begins somewhere else, so that not all try for the same.
        let count = self.holders.len();
        let start = usize::from(me.get()) % count.max(1);
        (start..count).chain(0..start).find(|&index| {
            let holder = &self.holders[index];
            // ORDERING: Acquire pairs with the Release in `release` and in `recover`.
            holder.load(Relaxed) == 0 && holder.exchange(0, me.get().into(), Acquire).is_ok()
        })
    }

    /// Gives the permit back.
    pub fn release(&self, me: ParticipantId, index: usize) {
        if let Some(holder) = self.holders.get(index) {
            // ORDERING: Release pairs with the Acquire in `try_acquire`. Fails only if somebody wrote rubbish; then it is not
            // ours to give back.
            if holder.exchange(me.get().into(), 0, Release).is_ok() {
                self.freed.notify(1);
            }
        }
    }

    /// Takes the permits of a participant that is proven dead. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        for holder in &self.holders {
            // ORDERING: Release pairs with the Acquire in `try_acquire`.
            let _ = holder.exchange(dead.get().into(), 0, Release);
        }
        // Also where nothing was left to free: an earlier recoverer may have died before it told anybody.
        self.freed.notify(u32::MAX);
    }

    /// Who has permits.
    pub fn holders(&self) -> BTreeSet<ParticipantId> {
        let numbers = self
            .holders
            .iter()
            .map(|holder| u64::from(holder.load(Relaxed)));
        numbers.filter_map(ParticipantId::new).collect()
    }

    /// Permits that nobody has.
    pub fn available(&self) -> usize {
        self.holders
            .iter()
            .filter(|holder| holder.load(Relaxed) == 0)
            .count()
    }
}

/// A number of permits.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, LockError, Semaphore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = Semaphore::create(Place::Anonymous, 2)?;
/// let (_first, second) = (jobs.acquire()?, jobs.acquire()?);
/// assert!(matches!(jobs.try_acquire(), Err(LockError::WouldBlock)));
///
/// // Given back when it is dropped, or when its holder dies.
/// drop(second);
/// assert_eq!(jobs.available(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    base: Base,
    permits: Permits<Mapped>,
    wait: Wait,
}

impl Attach for Semaphore {
    /// How many permits there are: 1 to 65,536.
    type Parameters = u32;

    fn spec(permits: u32) -> Result<ObjectSpec, SegmentError> {
        if !(1..=MOST).contains(&permits) {
            return Err(SegmentError::Object(format!(
                "a semaphore has 1 to {MOST} permits, not {permits}"
            )));
        }
        Ok(spec_of(
            KIND,
            HOLDERS + 4 * permits as usize,
            String::new(),
            [permits.into(), 0],
        ))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, "")?;
        let count = base.object.entry().parameters[0] as usize;
        let permits =
            Permits::new(base.object.area(), count).map_err(misfit(base.object.entry()))?;
        Ok(Self {
            base,
            permits,
            wait: Wait::default(),
        })
    }

    fn object(&self) -> &Object {
        &self.base.object
    }
}

impl Semaphore {
    /// How to wait for a permit. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Takes a permit, waiting for one. One of a holder that dies meanwhile comes back within 100 ms.
    ///
    /// # Errors
    ///
    /// [`LockError::Forked`].
    pub fn acquire(&self) -> Result<Permit<'_>, LockError> {
        self.acquire_within(None)
    }

    /// Takes a permit, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], [`LockError::Forked`].
    pub fn acquire_until(&self, deadline: Instant) -> Result<Permit<'_>, LockError> {
        self.acquire_within(Some(deadline))
    }

    /// Takes a permit, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`], [`LockError::Forked`].
    pub fn try_acquire(&self) -> Result<Permit<'_>, LockError> {
        if !self.base.is_here() {
            return Err(LockError::Forked);
        }
        match self.permits.try_acquire(self.base.me) {
            Some(index) => Ok(Permit {
                semaphore: self,
                index,
            }),
            None => Err(LockError::WouldBlock),
        }
    }

    fn acquire_within(&self, deadline: Option<Instant>) -> Result<Permit<'_>, LockError> {
        match self.try_acquire() {
            Err(LockError::WouldBlock) => {}
            done => return done,
        }
        let waited = wait_until(
            &self.permits.freed,
            self.wait,
            self.base.deadline(deadline),
            || Ok::<_, Infallible>(self.permits.try_acquire(self.base.me)),
            || {
                let others = self
                    .permits
                    .holders()
                    .into_iter()
                    .filter(|id| *id != self.base.me);
                others.for_each(|holder| self.base.recover(holder));
                Ok(())
            },
        );
        let Ok(waited) = waited;
        match waited.got {
            Some(index) => Ok(Permit {
                semaphore: self,
                index,
            }),
            None => Err(LockError::TimedOut),
        }
    }

    /// Permits that nobody had when looked at.
    pub fn available(&self) -> usize {
        self.permits.available()
    }

    /// How many permits there are.
    pub fn permits(&self) -> usize {
        self.permits.holders.len()
    }
}

/// A permit of a [`Semaphore`], given back on drop.
#[must_use = "the permit is given back at once if it is not kept"]
#[derive(Debug)]
pub struct Permit<'s> {
    semaphore: &'s Semaphore,
    index: usize,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Semaphore { base, permits, .. } = self.semaphore;
        if base.is_here() {
            permits.release(base.me, self.index);
        }
    }
}
