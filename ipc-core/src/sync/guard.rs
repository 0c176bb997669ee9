//! A value under a lock, and the guard of whoever has it: what a mutex and the writer of a reader-writer lock share.
//!
//! # Safety
//!
//! The value lies in the object, at a multiple of 128 bytes from its start, which is aligned so, and `data` has its size; the
//! object keeps it mapped.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use super::lock::{Leave, Lock, Refused, Taken};
use super::{Base, LockError};
use crate::event::Wait;
use crate::layout::Shared;
use crate::memory::{Area, OutOfArea};
use crate::segment::OBJECT_ALIGN;
use crate::{Mapped, Message, bytemuck};

pub(super) const FORKED: &str = "a guard taken before fork belongs to the parent process";

/// A `T` in shared memory, and the lock of whoever may change it.
pub(super) struct Protected<T> {
    pub(super) base: Base,
    pub(super) lock: Lock<Mapped>,
    data: Area<Mapped>,
    pub(super) wait: Wait,
    value: PhantomData<T>,
}

// SAFETY: other threads may do what other processes may; the value is reached by copies and `&T` of atomics.
unsafe impl<T> Send for Protected<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Protected<T> {}

impl<T> Protected<T> {
    /// The value at `at` in the object of `base`. `at` must be a multiple of 128.
    pub(super) fn new(base: Base, lock: Lock<Mapped>, at: usize) -> Result<Self, OutOfArea> {
        const {
            assert!(
                align_of::<T>() <= OBJECT_ALIGN,
                "objects are aligned to 128 bytes"
            )
        };
        assert!(at % OBJECT_ALIGN == 0);
        let data = base.object.area().part(at, size_of::<T>())?;
        Ok(Self {
            base,
            lock,
            data,
            wait: Wait::default(),
            value: PhantomData,
        })
    }

    /// What the caller is told of how the lock was taken.
    #[inline]
    pub(super) fn guard(&self, taken: Result<Taken, Refused>) -> Locked<'_, T> {
        let guard = || Guard { value: self };
        match taken {
            Ok(Taken::Clean) => Ok(guard()),
            Ok(Taken::OwnerDied) => Err(LockError::OwnerDied(guard())),
            Err(refused) => Err(LockError::of(refused)),
        }
    }

    /// A guard that a forked child inherits is its parent's, who may have let go of the lock long ago.
    #[inline]
    fn assert_here(&self) {
        assert!(self.base.is_here(), "{FORKED}");
    }

    #[inline]
    pub(super) fn get(&self) -> T
    where
        T: Message,
    {
        self.assert_here();
        let mut value = T::zeroed();
        let read = self.data.read(0, bytemuck::bytes_of_mut(&mut value));
        debug_assert!(read.is_ok(), "the area has the size of the value");
        value
    }

    #[inline]
    fn set(&self, value: &T)
    where
        T: Message,
    {
        self.assert_here();
        let written = self.data.write(0, bytemuck::bytes_of(value));
        debug_assert!(written.is_ok(), "the area has the size of the value");
    }

    pub(super) fn shared(&self) -> &T
    where
        T: Shared,
    {
        self.assert_here();
        // SAFETY: (1) aligned and mapped, as the file's head says; (2) `Shared`: every bit pattern is a value, and others
        // may change it at any time.
        unsafe { self.pointer().as_ref() }
    }

    fn pointer(&self) -> NonNull<T> {
        self.data.pointer().cast()
    }
}

/// What taking a lock gives.
pub(super) type Locked<'l, T> = Result<Guard<'l, T>, LockError<Guard<'l, T>>>;

/// The value of a [`Mutex`](super::Mutex), or of an [`RwLock`](super::RwLock) taken for writing; let go on drop.
#[must_use = "the lock is let go at once if the guard is not kept"]
pub struct Guard<'l, T> {
    /// And nothing besides, so that a guard and why there is none come in two registers: whether the last holder died, the
    /// lock tells.
    value: &'l Protected<T>,
}

impl<T> Guard<'_, T> {
    /// Says that the value has been repaired after its last holder died. Without it the lock is poisoned on drop.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    pub fn mark_consistent(&mut self) {
        self.value.assert_here();
        self.value.lock.mark_consistent();
    }

    /// Lets go of the lock and leaves the value as it is found: whoever takes it next is told, as we were.
    fn leave_broken(self) {
        let Protected { base, lock, .. } = self.value;
        if base.is_here() {
            lock.unlock(base.me, Leave::Broken);
        }
        std::mem::forget(self);
    }

    /// Lets go of the lock where it takes more than a word: others wait for it, or the value may be half changed.
    #[cold]
    fn let_go_slow(&self) {
        let Protected { base, lock, .. } = self.value;
        let how = match lock.is_broken() {
            // Its last holder died, and we have not repaired it.
            true => Leave::Ended,
            false if std::thread::panicking() => Leave::Broken,
            false => Leave::Free,
        };
        lock.unlock_slow(base.me, how);
    }
}

impl<T: Message> Guard<'_, T> {
    /// A copy of the value.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    #[inline]
    pub fn get(&self) -> T {
        self.value.get()
    }

    /// Sets the value.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    #[inline]
    pub fn set(&mut self, value: &T) {
        self.value.set(value);
    }

    /// The value itself.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    ///
    /// # Safety
    ///
    /// No process changes the value but while it has the lock; so all of them are trusted, and none of them keeps a
    /// mapping of it that does otherwise.
    pub unsafe fn as_mut(&mut self) -> &mut T {
        self.value.assert_here();
        // SAFETY: (1) aligned and mapped, as the file's head says; (2) any bit pattern is a `Message`; (3) nobody else
        // touches it while we have the lock: the caller's contract.
        unsafe { self.value.pointer().as_mut() }
    }
}

impl<T: Shared> Deref for Guard<'_, T> {
    type Target = T;

    /// # Panics
    ///
    /// In a forked child of the process that has the lock.
    fn deref(&self) -> &T {
        self.value.shared()
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Protected { base, lock, .. } = self.value;
        if base.is_here() && (std::thread::panicking() || !lock.try_unlock(base.me)) {
            self.let_go_slow();
        }
    }
}

impl<T> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("broken", &self.value.lock.is_broken())
            .finish_non_exhaustive()
    }
}

impl<'l, T> LockError<Guard<'l, T>> {
    /// The guard after all, if it takes no more than `repair`: the last holder died, and `repair` has made the value whole
    /// again. The lock is then as if nothing had happened. An error that remains holds no guard, so that `?` works
    /// wherever it goes.
    ///
    /// ```
    /// use ipc_core::segment::Place;
    /// use ipc_core::sync::{Attach, Mutex};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let total = Mutex::<u64>::create(Place::Anonymous, ())?;
    /// let mut guard = total.lock().or_else(|error| error.repair(|guard| guard.set(&0)))?;
    /// guard.set(&(guard.get() + 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Any other reason why the lock was not to be had.
    pub fn repair(self, repair: impl FnOnce(&mut Guard<'l, T>)) -> Result<Guard<'l, T>, LockError> {
        match self {
            Self::OwnerDied(mut guard) => {
                repair(&mut guard);
                guard.mark_consistent();
                Ok(guard)
            }
            other => Err(other.owned()),
        }
    }

    /// The error without the guard, for those who cannot repair, so that `?` works wherever it goes. If the last holder
    /// died, the lock is let go as it was found: whoever takes it next is told as well, and may repair it.
    ///
    /// ```
    /// use ipc_core::segment::Place;
    /// use ipc_core::sync::{Attach, LockError, RwLock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limits = RwLock::<[u64; 2]>::create(Place::Anonymous, 64)?;
    /// limits.write().map_err(LockError::owned)?.set(&[1, 9]);
    /// assert_eq!(limits.read()?.get(), [1, 9]);
    /// # Ok(()) }
    /// ```
    pub fn owned(self) -> LockError {
        match self {
            Self::OwnerDied(guard) => {
                guard.leave_broken();
                LockError::OwnerDied(())
            }
            Self::Poisoned => LockError::Poisoned,
            Self::WouldBlock => LockError::WouldBlock,
            Self::TimedOut => LockError::TimedOut,
            Self::Forked => LockError::Forked,
        }
    }
}

/// So that `?` works in what returns a [`LockError`] itself; as [`LockError::owned`].
impl<T> From<LockError<Guard<'_, T>>> for LockError {
    fn from(error: LockError<Guard<'_, T>>) -> Self {
        error.owned()
    }
}
