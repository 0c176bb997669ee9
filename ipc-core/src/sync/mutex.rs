//! A value and a lock, between processes: the death of the holder is an outcome that the next one sees.
//!
//! The safe ways to the value are copies, of [`Message`] data, and `&T`, of types made of atomics and cells: other
//! processes are asked to keep to the lock, and trusted with nothing. `&mut T` takes one unsafe call.
//!
//! # When a participant dies
//!
//! Whoever takes the lock next gets it inside [`LockError::OwnerDied`]. It repairs the value, says so by
//! [`MutexGuard::mark_consistent`], and all is as before; if it lets go without, the mutex is poisoned for good. A guard dropped
//! by a panic counts as a death. A stopped holder is alive, and is waited for.
//!
//! # Safety
//!
//! The value lies in the object, [`DATA`] bytes from its start, which is aligned to 128 bytes; the object keeps it mapped.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::Instant;

use super::lock::{Entry as Begin, Leave, Lock, Refused, Taken};
use super::{Attach, Base, LockError, misfit, spec_of};
use crate::event::Wait;
use crate::layout::{Layout, Shared};
use crate::memory::{Area, OutOfArea};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, OBJECT_ALIGN, Object, ObjectSpec, SegmentError};
use crate::{Mapped, Message, bytemuck};

/// How mutexes are told from other objects, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"mutex\0\0\0",
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
pub struct Mutex<T> {
    base: Base,
    lock: Lock<Mapped>,
    data: Area<Mapped>,
    wait: Wait,
    value: PhantomData<T>,
}

// SAFETY: other threads may do what other processes may; the value is reached by copies and `&T` of atomics.
unsafe impl<T> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mutex<T> {}

impl<T: Layout> Attach for Mutex<T> {
    type Parameters = ();

    fn spec((): ()) -> Result<ObjectSpec, SegmentError> {
        const {
            assert!(
                align_of::<T>() <= OBJECT_ALIGN,
                "objects are aligned to 128 bytes"
            )
        };
        Ok(spec_of(
            KIND,
            DATA + size_of::<T>(),
            T::schema().text(),
            [0; 2],
        ))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, &T::schema().text())?;
        let (area, misfit) = (base.object.area(), misfit(base.object.entry()));
        let lock = Lock::new(area, LOCK).map_err(&misfit)?;
        let data = area.part(DATA, size_of::<T>()).map_err(&misfit)?;
        Ok(Self {
            base,
            lock,
            data,
            wait: Wait::default(),
            value: PhantomData,
        })
    }

    fn object(&self) -> &Object {
        &self.base.object
    }
}

/// What [`Mutex::lock`] returns.
type Locked<'m, T> = Result<MutexGuard<'m, T>, LockError<MutexGuard<'m, T>>>;

impl<T: Layout> Mutex<T> {
    /// How to wait for the lock. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Takes the lock, waiting for it. A holder that dies meanwhile is noticed within 100 ms; one that is stopped is
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, [`LockError::Poisoned`], [`LockError::Forked`].
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        self.lock_within(None)
    }

    /// Takes the lock, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::TimedOut`].
    pub fn lock_until(&self, deadline: Instant) -> Locked<'_, T> {
        self.lock_within(Some(deadline))
    }

    /// Takes the lock if nobody has it. Never waits. A holder that has died is cleared up after.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::WouldBlock`].
    pub fn try_lock(&self) -> Locked<'_, T> {
        if !self.base.is_here() {
            return Err(LockError::Forked);
        }
        let mut taken = self.lock.try_lock(self.base.me, Begin::AtOnce);
        if let Err(Refused::Held(holder)) = taken {
            if holder != self.base.me {
                self.base.recover(holder);
                taken = self.lock.try_lock(self.base.me, Begin::AtOnce);
            }
        }
        self.guard(taken)
    }

    #[inline]
    fn lock_within(&self, deadline: Option<Instant>) -> Locked<'_, T> {
        if !self.base.is_here() {
            return Err(LockError::Forked);
        }
        match self.lock.try_lock(self.base.me, Begin::AtOnce) {
            Ok(Taken::Clean) => Ok(MutexGuard {
                mutex: self,
                broken: false,
            }),
            Err(Refused::Held(_)) => self.lock_slow(deadline),
            other => self.guard(other),
        }
    }

    #[cold]
    fn lock_slow(&self, deadline: Option<Instant>) -> Locked<'_, T> {
        let deadline = self.base.deadline(deadline);
        let recover = |holder| self.base.recover(holder);
        self.guard(
            self.lock
                .lock(self.base.me, Begin::AtOnce, self.wait, deadline, recover),
        )
    }

    fn guard(&self, taken: Result<Taken, Refused>) -> Locked<'_, T> {
        let guard = |broken| MutexGuard {
            mutex: self,
            broken,
        };
        match taken {
            Ok(Taken::Clean) => Ok(guard(false)),
            Ok(Taken::OwnerDied) => Err(LockError::OwnerDied(guard(true))),
            Err(refused) => Err(LockError::of(refused)),
        }
    }

    /// Whether it is poisoned for good.
    pub fn is_poisoned(&self) -> bool {
        self.lock.is_ended()
    }

    /// Who has the lock, when looked at.
    pub fn holder(&self) -> Option<ParticipantId> {
        self.lock.holder()
    }

    fn pointer(&self) -> NonNull<T> {
        self.data.pointer().cast()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// The lock of a [`Mutex`], let go on drop.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct MutexGuard<'m, T> {
    mutex: &'m Mutex<T>,
    broken: bool,
}

impl<T> MutexGuard<'_, T> {
    /// Says that the value has been repaired after its last holder died. Without it the mutex is poisoned on drop.
    pub fn mark_consistent(&mut self) {
        if self.broken {
            self.broken = false;
            self.mutex.lock.mark_consistent();
        }
    }
}

impl<T: Message> MutexGuard<'_, T> {
    /// A copy of the value.
    #[inline]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        let read = self.mutex.data.read(0, bytemuck::bytes_of_mut(&mut value));
        debug_assert!(read.is_ok(), "the area has the size of the value");
        value
    }

    /// Sets the value.
    #[inline]
    pub fn set(&mut self, value: &T) {
        let written = self.mutex.data.write(0, bytemuck::bytes_of(value));
        debug_assert!(written.is_ok(), "the area has the size of the value");
    }

    /// The value itself.
    ///
    /// # Safety
    ///
    /// No process changes the value but while it has the lock; so all of them are trusted, and none of them keeps a
    /// mapping of it that does otherwise.
    pub unsafe fn as_mut(&mut self) -> &mut T {
        // SAFETY: (1) aligned and mapped, as the file's head says; (2) any bit pattern is a `Message`; (3) nobody else
        // touches it while we have the lock: the caller's contract.
        unsafe { self.mutex.pointer().as_mut() }
    }
}

impl<T: Shared> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: (1) aligned and mapped, as the file's head says; (2) `Shared`: every bit pattern is a value, and others
        // may change it at any time.
        unsafe { self.mutex.pointer().as_ref() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.mutex.base.is_here() {
            return;
        }
        let how = match self.broken {
            true => Leave::Ended,
            false if std::thread::panicking() => Leave::Broken,
            false => Leave::Free,
        };
        self.mutex.lock.unlock(self.mutex.base.me, how);
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
