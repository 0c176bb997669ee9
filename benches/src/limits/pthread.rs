//! The C library's mutex, robust and shared between processes. A peer, but it needs the bare memory of the limits.
//!
//! # Safety
//!
//! The mutex lies in a mapping that all processes inherit at the same address, is initialised before any of them exists, and
//! is never destroyed while one may use it.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};

use super::{LINE, Lines};

/// A mutex and, in a line of its own, the counter that it guards.
pub struct Mutex(Lines);

impl Mutex {
    /// Nothing counted yet.
    pub fn new() -> Result<Self> {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= LINE) };
        let lines = Lines::new(2 * LINE)?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: room for the attributes, which this call initialises.
        let mut code = unsafe { libc::pthread_mutexattr_init(attributes) };
        // SAFETY: initialised above.
        code |=
            unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: initialised above.
        code |=
            unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
        let mutex = Self(lines);
        // SAFETY: a line of zeros of our own, aligned and large enough; the attributes are initialised.
        code |= unsafe { libc::pthread_mutex_init(mutex.lock(), attributes) };
        ensure!(code == 0, "the C library refuses a robust shared mutex");
        Ok(mutex)
    }

    fn lock(&self) -> *mut libc::pthread_mutex_t {
        self.0.word(0).as_ptr().cast()
    }

    /// Counts one more.
    pub fn count(&self) {
        // SAFETY: initialised by `new`, in memory that lives as long as `self`.
        unsafe { libc::pthread_mutex_lock(self.lock()) };
        let count = self.0.word(LINE);
        count.store(count.load(Relaxed) + 1, Relaxed);
        // SAFETY: as above; locked by this thread.
        unsafe { libc::pthread_mutex_unlock(self.lock()) };
    }

    /// How many.
    pub fn counted(&self) -> u64 {
        self.0.word(LINE).load(Relaxed)
    }
}
