//! A file descriptor that becomes readable when an event is told: for `epoll`, and for everything made of it.
//!
//! One thread of the process sleeps on all events that are armed, and turns each wake-up into a write to an eventfd, or the
//! call of a [`Waker`]. Nothing is named in the file system for it, and the publisher does what it always does.
//!
//! # Protocol
//!
//! Arming is the first half of a sleep: the caller announces it, *looks again*, and waits on the descriptor only if there
//! still is nothing. The thread does the second half. No wake-up is lost for the reasons at the head of
//! [`event`](super). An armed descriptor also becomes readable without cause after [`PATIENCE`]: a peer may have died
//! instead of telling anybody, and whoever looks again finds out.
//!
//! # In a forked child
//!
//! The thread does not exist there. What was inherited does nothing; what is made anew there starts a thread of its own.
//!
//! # Safety
//!
//! The pointer to the helper of this process is null or comes from a leaked box.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::{Event, LONGEST_SLICE, Prepared};
use crate::Mapped;
use crate::fork::Process;
use crate::sys;

/// After so long an armed descriptor becomes readable even if nothing was published; after half of it, if another one does.
pub const PATIENCE: Duration = LONGEST_SLICE;

/// How long the thread sleeps while nothing is armed. Whoever arms something wakes it.
const UNARMED: Duration = Duration::from_secs(4);

/// A descriptor to poll.
pub struct Readiness {
    descriptor: Arc<OwnedFd>,
    slot: Slot,
}

/// A place with the thread; given up on drop.
pub struct Slot {
    helper: &'static Helper,
    key: u64,
}

impl Readiness {
    /// A descriptor that is not armed, and not readable.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor or no thread left.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            descriptor: Arc::new(descriptor),
            slot: Slot::new()?,
        })
    }

    /// Makes the descriptor readable at the next wake-up of `event`, once. Until then it is not. Look again after this
    /// before you wait.
    pub fn arm(&self, event: &Event<Mapped>) {
        let mut count = [0; 8];
        // Fails if it was not readable.
        let _ = rustix::io::read(&self.descriptor, &mut count);
        self.slot
            .arm(event, Target::Descriptor(self.descriptor.clone()));
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness")
            .field(&self.descriptor.as_raw_fd())
            .finish()
    }
}

impl Slot {
    /// A place with the thread, which is started if it does not run.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            helper: Helper::get()?,
            key: NEXT.fetch_add(1, Relaxed),
        })
    }

    /// Calls the waker at the next wake-up of `event`, once. Look again after this before you wait.
    pub fn arm_waker(&self, event: &Event<Mapped>, waker: Waker) {
        self.arm(event, Target::Waker(waker));
    }

    fn arm(&self, event: &Event<Mapped>, target: Target) {
        if !self.helper.process.is_here() {
            return;
        }
        let armed = Armed {
            prepared: event.prepare(),
            event: event.clone(),
            target,
            until: Instant::now() + PATIENCE,
        };
        let replaced = self.helper.armed().insert(self.key, armed);
        self.helper.look();
        // Without the lock, as in `fire_due`: it may be the last that holds a task, and with it other slots.
        drop(replaced);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.helper.process.is_here() {
            let removed = self.helper.armed().remove(&self.key);
            // Without the lock, as in `fire_due`.
            drop(removed);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.key).finish()
    }
}

struct Armed {
    event: Event<Mapped>,
    prepared: Prepared,
    target: Target,
    until: Instant,
}

enum Target {
    Descriptor(Arc<OwnedFd>),
    Waker(Waker),
}

impl Target {
    fn fire(self) {
        match self {
            // Fails only if it is readable already, for good measure.
            Self::Descriptor(descriptor) => {
                let _ = rustix::io::write(&descriptor, &1_u64.to_ne_bytes());
            }
            Self::Waker(waker) => waker.wake(),
        }
    }
}

/// The thread and what it shares with the others. There is one in each process, and it is never freed.
struct Helper {
    process: Process,
    /// Changes when there is something new to wait for.
    news: AtomicU32,
    armed: Mutex<BTreeMap<u64, Armed>>,
    /// Whether the thread runs.
    runs: Mutex<bool>,
}

impl Helper {
    /// The helper of this process.
    fn get() -> io::Result<&'static Self> {
        static HELPER: AtomicPtr<Helper> = AtomicPtr::new(std::ptr::null_mut());
        // ORDERING: Acquire pairs with the Release of the exchange below, in `get`: the helper is complete.
        let found = HELPER.load(Acquire);
        if let Some(helper) = Self::at(found).filter(|helper| helper.process.is_here()) {
            return helper.start();
        }
        // None yet, or that of a parent process, whose thread we do not have.
        let new: &'static mut Self = Box::leak(Box::new(Self {
            process: Process::current(),
            news: AtomicU32::new(0),
            armed: Mutex::default(),
            runs: Mutex::default(),
        }));
        let new: *mut Self = new;
        // ORDERING: AcqRel and Acquire pair with each other and with the Acquire above, in `get`.
        match HELPER.compare_exchange(found, new, AcqRel, Acquire) {
            Ok(_) => Self::at(new).expect("not null").start(),
            // Another thread was first; ours is lost, once.
            Err(winner) => Self::at(winner).expect("not null").start(),
        }
    }

    /// Starts the thread unless it runs: the system may have had none left for whoever came first.
    fn start(&'static self) -> io::Result<&'static Self> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if !*runs {
            let thread = std::thread::Builder::new().name("ipc-ready".into());
            thread.spawn(|| self.run())?;
            *runs = true;
        }
        Ok(self)
    }

    fn at(pointer: *mut Self) -> Option<&'static Self> {
        // SAFETY: null, or leaked above and never changed but through its atomics and its mutex.
        unsafe { pointer.as_ref() }
    }

    fn armed(&self) -> MutexGuard<'_, BTreeMap<u64, Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the thread look at what is armed.
    fn look(&self) {
        // ORDERING: the Release in AcqRel pairs with the Acquire in `run`: what was armed before is seen there.
        self.news.fetch_add(1, AcqRel);
        sys::futex::wake(&self.news, 1);
    }

    fn run(&self) {
        loop {
            // ORDERING: Acquire pairs with the AcqRel in `look`.
            let news = self.news.load(Acquire);
            let (waiting, left) = self.fire_due();
            let words = waiting
                .iter()
                .map(|(event, prepared)| (event.word_address(), prepared.0));
            let words: Vec<_> = std::iter::once((&raw const self.news, news))
                .chain(words)
                .collect();
            sys::futex::wait_any(words.into_iter(), left);
        }
    }

    /// Fires what is due; what is left to wait for, and for how long.
    fn fire_due(&self) -> (Vec<(Event<Mapped>, Prepared)>, Duration) {
        let mut armed = self.armed();
        let now = Instant::now();
        // With the first whose time is over go all whose time is nearly over: a loop over several wakes once for all.
        let is_over = armed.values().any(|armed| armed.until <= now);
        let over = if is_over { now + PATIENCE / 2 } else { now };
        let is_due = |armed: &Armed| armed.event.has_changed(armed.prepared) || armed.until <= over;
        let due: Vec<u64> = armed
            .iter()
            .filter(|(_, armed)| is_due(armed))
            .map(|(key, _)| *key)
            .collect();
        let fired: Vec<_> = due.iter().filter_map(|key| armed.remove(key)).collect();
        let waiting: Vec<_> = armed
            .values()
            .map(|armed| (armed.event.clone(), armed.prepared))
            .collect();
        let until = armed.values().map(|armed| armed.until).min();
        drop(armed);
        // Without the lock: a waker may do anything. One that panics must not take the thread from all others.
        for armed in fired {
            let _ = catch_unwind(AssertUnwindSafe(|| armed.target.fire()));
        }
        let left = until.map_or(UNARMED, |until| until.saturating_duration_since(now));
        (waiting, left)
    }
}
