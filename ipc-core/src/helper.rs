//! Threads that the library has for itself: one of a kind in each process, started by whoever needs it first.
//!
//! They take no signals, whatever the process does with them: a signal that is meant for a thread which waits for it would
//! come to nothing here, or end the process. Those by which the kernel answers the thread's own accesses stay as they are.
//!
//! # In a forked child
//!
//! The threads of the parent do not exist there, and what they shared may be in any state. What the child makes anew has a
//! helper of its own.
//!
//! # Safety
//!
//! The pointer to a helper is null or comes from a leaked box.
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::fork::Process;

/// A thread, and what it shares with the others. Never freed.
#[derive(Debug)]
pub(crate) struct Helper<T> {
    process: Process,
    runs: Mutex<bool>,
    shared: T,
}

/// Where the helper of a kind is kept: that of this process, or one that it has inherited.
pub(crate) struct Place<T: 'static>(AtomicPtr<Helper<T>>);

impl<T: Default + Sync> Place<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The helper of the calling process, whose thread may not run yet.
    pub(crate) fn get(&self) -> &'static Helper<T> {
        // ORDERING: Acquire pairs with the Release of the exchange below, in `get`: the helper is complete.
        let found = self.0.load(Acquire);
        if let Some(helper) = Self::at(found).filter(|helper| helper.is_here()) {
            return helper;
        }
        // None yet, or that of a parent process, whose thread we do not have.
        let new: *mut Helper<T> = Box::leak(Box::new(Helper {
            process: Process::current(),
            runs: Mutex::default(),
            shared: T::default(),
        }));
        // ORDERING: AcqRel and Acquire pair with each other and with the Acquire above, in `get`.
        match self.0.compare_exchange(found, new, AcqRel, Acquire) {
            Ok(_) => Self::at(new).expect("not null"),
            // Another thread was first; ours is lost, once.
            Err(winner) => Self::at(winner).expect("not null"),
        }
    }

    fn at(pointer: *mut Helper<T>) -> Option<&'static Helper<T>> {
        // SAFETY: null, or leaked above and never changed but through its atomics and its mutexes.
        unsafe { pointer.as_ref() }
    }
}

impl<T: Sync> Helper<T> {
    /// Whether the calling process is the one that made it, and not a forked child.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_here()
    }

    /// Starts the thread unless it runs: the system may have had none left for whoever came first.
    ///
    /// # Errors
    ///
    /// If it still has none left.
    pub(crate) fn start(&'static self, thread: Builder, run: fn(&T)) -> io::Result<()> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if !*runs {
            let mut taken = SigSet::all();
            for own in [
                Signal::SIGBUS,
                Signal::SIGFPE,
                Signal::SIGILL,
                Signal::SIGSEGV,
                Signal::SIGSYS,
                Signal::SIGTRAP,
            ] {
                taken.remove(own);
            }
            let before = taken.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
            let started = thread.spawn(move || run(&self.shared));
            before.thread_set_mask()?;
            started?;
            *runs = true;
        }
        Ok(())
    }
}

impl<T> Deref for Helper<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}
