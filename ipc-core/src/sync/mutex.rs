//! A value and a lock, between processes: the death of the holder is an outcome that the next one sees.
//!
//! The safe ways to the value are copies, of [`Message`](crate::Message) data, and `&T`, of types made of atomics and cells:
//! other processes are asked to keep to the lock, and trusted with nothing. `&mut T` takes one unsafe call.
//!
//! # When a participant dies
//!
//! Whoever takes the lock next gets it inside [`LockError::OwnerDied`]. It repairs the value, by [`LockError::repair`], or by
//! hand and says so by [`Guard::mark_consistent`], and all is as before; if it lets go of the guard without, the mutex is
//! poisoned for good. Who cannot repair leaves it to others, by [`LockError::owned`]. A guard dropped by a panic counts as
//! a death. A stopped holder is alive, and is waited for.

use std::fmt;
use std::time::Instant;

use super::guard::{Guard, Locked, Protected};
use super::lock::{Entry as Begin, Lock, Refused, Taken};
use super::{Attach, Base, LockError, VERSION, misfit, spec_of};
use crate::Mapped;
use crate::event::Wait;
use crate::layout::Layout;
use crate::memory::{Area, OutOfArea};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

/// How mutexes are told from other objects, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"mutex\0\0\0",
    version: VERSION,
    recover,
};

/// Where the lock word and the value lie.
const LOCK: usize = 0;
const DATA: usize = 128;

fn recover(area: &Area<Mapped>, _: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Lock::new(area, LOCK)?.recover(dead);
    Ok(())
}

/// A `T` that one holder at a time may change. All zeros at first.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, LockError, Mutex};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let balance = Mutex::<[i64; 2]>::create(Place::Anonymous, ())?;
/// let mut guard = match balance.lock() {
///     Ok(guard) => guard,
///     // Its holder died between two changes: make the value whole, and say so.
///     Err(LockError::OwnerDied(mut guard)) => {
///         guard.set(&[0, 0]);
///         guard.mark_consistent();
///         guard
///     }
///     Err(error) => return Err(error.owned().into()),
/// };
/// guard.set(&[-5, 5]);
/// # Ok(()) }
/// ```
pub struct Mutex<T> {
    inner: Protected<T>,
}

impl<T: Layout> Attach for Mutex<T> {
    type Parameters = ();

    fn spec((): ()) -> Result<ObjectSpec, SegmentError> {
        let (len, schema) = (DATA + size_of::<T>(), T::schema().text());
        Ok(spec_of(KIND, len, schema, [0; 2]))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, &T::schema().text())?;
        let misfit = misfit(base.object.entry());
        let lock = Lock::new(base.object.area(), LOCK).map_err(&misfit)?;
        let inner = Protected::new(base, lock, DATA).map_err(&misfit)?;
        Ok(Self { inner })
    }

    fn object(&self) -> &Object {
        &self.inner.base.object
    }
}

impl<T: Layout> Mutex<T> {
    /// How to wait for the lock. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.inner.wait = wait;
    }

    /// Takes the lock, waiting for it. A holder that dies meanwhile is noticed within 100 ms; one that is stopped is
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, [`LockError::Poisoned`], [`LockError::Forked`].
    #[inline]
    pub fn lock(&self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_within(None)
    }

    /// Takes the lock, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_until(&self, deadline: Instant) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        self.lock_within(Some(deadline))
    }

    /// Takes the lock if nobody has it. Never waits. A holder that has died is cleared up after.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    pub fn try_lock(&self) -> Result<Guard<'_, T>, LockError<Guard<'_, T>>> {
        let Protected { base, lock, .. } = &self.inner;
        if !base.is_here() {
            return Err(LockError::Forked);
        }
        let mut taken = lock.try_lock(base.me, Begin::AtOnce);
        if let Err(Refused::Held(holder)) = taken {
            if holder != base.me {
                base.recover(holder);
                taken = lock.try_lock(base.me, Begin::AtOnce);
            }
        }
        self.inner.guard(taken)
    }

    #[inline]
    fn lock_within(&self, deadline: Option<Instant>) -> Locked<'_, T> {
        let Protected { base, lock, .. } = &self.inner;
        if !base.is_here() {
            return Err(LockError::Forked);
        }
        match lock.try_lock(base.me, Begin::AtOnce) {
            Ok(Taken::Clean) => self.inner.guard(Ok(Taken::Clean)),
            Err(Refused::Held(_)) => self.lock_slow(deadline),
            other => self.inner.guard(other),
        }
    }

    #[cold]
    fn lock_slow(&self, deadline: Option<Instant>) -> Locked<'_, T> {
        let Protected {
            base, lock, wait, ..
        } = &self.inner;
        let deadline = base.deadline(deadline);
        let recover = |holder| base.recover(holder);
        self.inner
            .guard(lock.lock(base.me, Begin::AtOnce, *wait, deadline, recover))
    }

    /// Whether it is poisoned for good.
    pub fn is_poisoned(&self) -> bool {
        self.inner.lock.is_ended()
    }

    /// Who has the lock, when looked at.
    pub fn holder(&self) -> Option<ParticipantId> {
        self.inner.lock.holder()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("lock", &self.inner.lock)
            .finish_non_exhaustive()
    }
}
