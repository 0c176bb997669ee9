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
//! instead of telling anybody, and whoever looks again finds out. Armed once more after that, it is idle, and all who take
//! part are [watched](crate::memory::Vigil) if they can be: then it becomes readable when one dies, and without cause
//! after [`WATCHED`] only.
//!
//! A wake-up that was meant for one of several has come to this thread, whoever is busy behind the descriptor, and another
//! process may sleep on beside what was published. So it is passed on if the descriptor has not been armed again after
//! [`PATIENCE`], or is gone.
//!
//! # In a forked child
//!
//! The thread does not exist there. What was inherited does nothing; what is made anew there starts a thread of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::{Event, LONGEST_SLICE, Prepared, WATCHED, Waiters, Watch};
use crate::Mapped;
use crate::helper::{Helper, Place};
use crate::memory::{Memory as _, Vigil};
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
    helper: &'static Helper<Shared>,
    key: u64,
    /// How many armings in a row have ended without cause, since the last that was watched.
    idle: Arc<AtomicU32>,
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
        static HELPER: Place<Shared> = Place::new();
        let helper = HELPER.get();
        helper.start(Builder::new().name("ipc-ready".into()), Shared::run)?;
        Ok(Self {
            helper,
            key: NEXT.fetch_add(1, Relaxed),
            idle: Arc::default(),
        })
    }

    /// Calls the waker at the next wake-up of `event`, once. Look again after this before you wait.
    pub fn arm_waker(&self, event: &Event<Mapped>, waker: Waker) {
        self.arm(event, Target::Waker(waker));
    }

    fn arm(&self, event: &Event<Mapped>, target: Target) {
        if !self.helper.is_here() {
            return;
        }
        /// So many without a vigil are a second.
        const ROUND: u32 = (WATCHED.as_millis() / PATIENCE.as_millis()) as u32;
        let mut watch = Watch::new();
        let asks = self.idle.load(Relaxed) % ROUND == 1;
        let watched = asks && watch.keep([event.memory()].into_iter());
        if watched {
            self.idle.store(0, Relaxed);
        }
        let armed = Armed {
            prepared: event.prepare(),
            event: event.clone(),
            watch,
            target: Some(target),
            idle: self.idle.clone(),
            until: Instant::now() + if watched { WATCHED } else { PATIENCE },
        };
        let mut slots = self.helper.slots();
        let replaced = slots.armed.insert(self.key, armed);
        let owed = slots.owed.remove(&self.key);
        drop(slots);
        let other = owed.filter(|(other, _)| other.word_address() != event.word_address());
        if let Some((other, _)) = other {
            other.notify(1);
        }
        self.helper.look();
        // Without the lock, as in `fire_due`: it may be the last that holds a task, and with it other slots.
        drop(replaced);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.helper.is_here() {
            let mut slots = self.helper.slots();
            let armed = slots.armed.get_mut(&self.key);
            let target = armed.and_then(|armed| armed.target.take());
            let owed = slots.owed.remove(&self.key);
            drop(slots);
            if let Some((event, _)) = owed {
                event.notify(1);
            }
            if target.is_some() {
                // The thread sleeps on its event, and may just have been woken for it.
                self.helper.look();
            }
            // Without the lock, as in `fire_due`.
            drop(target);
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
    watch: Watch<Mapped>,
    /// None once the slot is gone: what was meant for it is for another then.
    target: Option<Target>,
    idle: Arc<AtomicU32>,
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

/// What the thread shares with the others.
#[derive(Default)]
struct Shared {
    /// Changes when there is something new to wait for.
    news: AtomicU32,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    armed: BTreeMap<u64, Armed>,
    /// Wake-ups that were for one of several, of slots that have not been armed since, and when to pass them on.
    owed: BTreeMap<u64, (Event<Mapped>, Instant)>,
}

/// What the thread sleeps on.
#[derive(Default)]
struct Waiting {
    events: Vec<(Event<Mapped>, Prepared)>,
    /// Of each segment that is watched, one.
    vigils: Vec<Vigil<Mapped>>,
    until: Option<Instant>,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut waiting = self.fire_due();
            let mut left = waiting.until.map_or(UNARMED, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if 2 + waiting.events.len() + waiting.vigils.len() > sys::futex::MOST {
                // Too much to sleep on. Whether a watch is over is looked at each time around, so come around in time.
                waiting.vigils.clear();
                left = left.min(PATIENCE);
            }
            let news = (&raw const self.news, news);
            let vigils = &waiting.vigils;
            let deaths = vigils
                .first()
                .map(|vigil| (crate::peers::deaths_word(), vigil.deaths()));
            let events = waiting
                .events
                .iter()
                .map(|(event, prepared)| (event.word_address(), prepared.0));
            let arrivals = vigils.iter().map(|vigil| {
                let (word, count) = vigil.word();
                (word.address(), count)
            });
            let words = [news]
                .into_iter()
                .chain(deaths)
                .chain(events)
                .chain(arrivals);
            sys::futex::wait_any(words, left);
        }
    }

    /// Fires what is due, and passes on what is owed; what is left to wait for.
    fn fire_due(&self) -> Waiting {
        let mut slots = self.slots();
        let Slots { armed, owed } = &mut *slots;
        let now = Instant::now();
        // With the first whose time is over go all whose time is nearly over: a loop over several wakes once for all.
        let is_over = armed.values().any(|armed| armed.until <= now);
        let over = if is_over { now + PATIENCE / 2 } else { now };
        let (mut due, mut waiting) = (Vec::new(), Waiting::default());
        let mut passed_on = Vec::new();
        for (key, armed) in armed.iter() {
            let told = armed.event.has_changed(armed.prepared);
            if armed.target.is_none() {
                let swallowed = told && armed.event.waiters == Waiters::Many;
                passed_on.extend(swallowed.then(|| armed.event.clone()));
                due.push(*key);
                continue;
            }
            if told || armed.until <= over || armed.watch.is_over() {
                let idle = match armed.idle.load(Relaxed) {
                    _ if told => 0,
                    // Not asked for again at once: a peer may end it as often as it likes.
                    _ if armed.watch.is_over() => 2,
                    idle => idle.wrapping_add(1),
                };
                armed.idle.store(idle, Relaxed);
                if told && armed.event.waiters == Waiters::Many {
                    owed.insert(*key, (armed.event.clone(), now + PATIENCE));
                }
                due.push(*key);
                continue;
            }
            waiting.events.push((armed.event.clone(), armed.prepared));
            for vigil in armed.watch.vigils() {
                let is_same = |known: &Vigil<Mapped>| known.memory().is_same(vigil.memory());
                if !waiting.vigils.iter().any(is_same) {
                    waiting.vigils.push(vigil.clone());
                }
            }
        }
        owed.retain(|_, (event, when)| {
            let is_due = *when <= now;
            passed_on.extend(is_due.then(|| event.clone()));
            !is_due
        });
        let fired: Vec<_> = due.iter().filter_map(|key| armed.remove(key)).collect();
        let ends = armed.values().map(|armed| armed.until);
        waiting.until = ends.chain(owed.values().map(|(_, when)| *when)).min();
        drop(slots);
        for event in passed_on {
            event.notify(1);
        }
        // Without the lock: a waker may do anything. One that panics must not take the thread from all others.
        for armed in fired {
            let _ = catch_unwind(AssertUnwindSafe(|| armed.target.map(Target::fire)));
        }
        waiting
    }
}
