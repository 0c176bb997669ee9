//! The lock under every lock: one word that names its holder.
//!
//! It knows nothing of what it protects. [`Mutex`](super::Mutex), [`RwLock`](super::RwLock), [`Once`](super::Once) and the
//! writers of [`Latest`](super::Latest) are made of it.
//!
//! # Protocol
//!
//! The word is `ENDED | DIED | GRANTED | WAITERS | next (14 bits) | holder (14 bits)`; zero is "free, and nobody wants it".
//! Every step is one compare-exchange of the whole word.
//!
//! | from | to | by |
//! |---|---|---|
//! | holder 0 | holder me | whoever takes it: a claim names its owner |
//! | holder me | holder 0, no WAITERS | the holder lets go; then it wakes one sleeper if WAITERS was set |
//! | holder me, next n | holder n, next 0, GRANTED | the holder hands over to a waiter that was passed over too long |
//! | GRANTED | not GRANTED | the holder begins to touch what the lock protects |
//! | holder h, no WAITERS | WAITERS | somebody sleeps on the word |
//! | next 0 | next me | a waiter has been passed over for [`PATIENCE`]; and back, when it gives up |
//! | holder dead | holder 0, DIED unless GRANTED | recovery |
//! | next dead | next 0 | recovery |
//! | DIED, holder me | not DIED | the holder has repaired what the dead one left |
//! | holder me | holder 0, ENDED | the holder ends the lock for good: nobody takes it again |
//!
//! # Fairness
//!
//! A free lock goes to whoever comes first, which is fastest; a waiter that has been passed over for [`PATIENCE`] writes itself
//! into `next`, and the next release goes to it. One waiter at a time can be there, and the others follow; so
//! everybody who goes on waiting gets the lock.
//!
//! `next` names a process. Only the thread that wrote it takes what is handed over; another thread of the process may not
//! write itself there while the process has the lock handed over and not yet taken, so the two are never confused.
//!
//! What is handed over is held: a process that is stopped at that moment holds the lock until it goes on, as one does that is
//! stopped with the lock in its hands. Others wait until their deadlines.
//!
//! # Orderings
//!
//! Taking is Acquire and pairs with the Release of letting go, handing over and recovery: the new holder sees what the old
//! one did. Nothing else is carried.
//!
//! # When a participant dies
//!
//! A holder: whoever waits finds its name in the word, and recovery frees the lock. DIED tells the next holder that what the
//! lock protects may be half changed. A waiter killed asleep costs one wake-up call. One killed after it was woken, before
//! it took the lock, leaves others asleep for at most a [`LONGEST_SLICE`](crate::event::LONGEST_SLICE), or until they are told of
//! its death.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::event::{Slices, Wait, Watch};
use crate::memory::{Area, Memory, OutOfArea, Word32};
use crate::participant::ParticipantId;

const ID: u32 = (1 << 14) - 1;
const NEXT: u32 = 14;
const WAITERS: u32 = 1 << 28;
const GRANTED: u32 = 1 << 29;
const DIED: u32 = 1 << 30;
const ENDED: u32 = 1 << 31;

/// How long a waiter lets others pass.
pub const PATIENCE: Duration = Duration::from_millis(1);

/// The lock word.
#[derive(Clone, Debug)]
pub struct Lock<M> {
    word: Word32<M>,
}

/// How the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// As the last holder left it.
    Clean,
    /// The last holder died while it had it, or left it so, and nobody has repaired what it protects.
    OwnerDied,
}

impl From<u32> for Taken {
    fn from(word: u32) -> Self {
        if word & DIED == 0 {
            Self::Clean
        } else {
            Self::OwnerDied
        }
    }
}

/// When the holder begins to touch what the lock protects: if it dies before, nothing is amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// With the lock.
    AtOnce,
    /// When it says so, by [`Lock::set_granted`], if ever.
    Later,
}

impl Entry {
    fn bit(self) -> u32 {
        match self {
            Self::AtOnce => 0,
            Self::Later => GRANTED,
        }
    }
}

/// Why the lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This participant has it.
    Held(ParticipantId),
    /// Somebody had it until the deadline.
    TimedOut,
    /// It has been ended for good.
    Ended,
}

/// In what state the lock is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// All is well, as far as it was.
    Free,
    /// What it protects may be half changed, as after a death.
    Broken,
    /// For good.
    Ended,
}

fn holder(word: u32) -> Option<ParticipantId> {
    ParticipantId::new(u64::from(word & ID))
}

fn next(word: u32) -> Option<ParticipantId> {
    ParticipantId::new(u64::from(word >> NEXT & ID))
}

fn is_free(word: u32) -> bool {
    word & (ID | ENDED) == 0
}

impl<M: Memory> Lock<M> {
    /// The lock whose word is at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 4, or the word does not lie in the area.
    pub fn new(area: &Area<M>, at: usize) -> Result<Self, OutOfArea> {
        Ok(Self {
            word: area.word32(at)?,
        })
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`Refused::Held`] by whom, and [`Refused::Ended`].
    #[inline]
    pub fn try_lock(&self, me: ParticipantId, entry: Entry) -> Result<Taken, Refused> {
        // ORDERING: Acquire pairs with the Release in `try_unlock`, in `unlock_slow` and in `recover`.
        match self
            .word
            .exchange(0, u32::from(me.get()) | entry.bit(), Acquire)
        {
            Ok(_) => Ok(Taken::Clean),
            Err(word) => self.try_lock_slow(me, word, entry.bit()),
        }
    }

    #[cold]
    fn try_lock_slow(&self, me: ParticipantId, mut word: u32, with: u32) -> Result<Taken, Refused> {
        loop {
            if word & ENDED != 0 {
                // ORDERING: the Acquire fence pairs with the Release in `unlock_slow`, which ended it.
                self.word.memory().fence(Acquire);
                return Err(Refused::Ended);
            }
            if let Some(holder) = holder(word) {
                return Err(Refused::Held(holder));
            }
            // Rubbish where the holder's number should be counts as nobody.
            let taken = word & !ID | u32::from(me.get()) | with;
            // ORDERING: as in `try_lock`.
            match self.word.exchange(word, taken, Acquire) {
                Ok(_) => return Ok(Taken::from(word)),
                Err(found) => word = found,
            }
        }
    }

    /// Takes the lock, waiting for it until `deadline`. `recover` clears up after a participant if it has died.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`] at the deadline, and [`Refused::Ended`].
    #[inline]
    pub fn lock(
        &self,
        me: ParticipantId,
        entry: Entry,
        wait: Wait,
        deadline: Option<Duration>,
        recover: impl FnMut(ParticipantId),
    ) -> Result<Taken, Refused> {
        match self.try_lock(me, entry) {
            Err(Refused::Held(_)) => self.lock_slow(me, entry, wait, deadline, recover),
            done => done,
        }
    }

    #[cold]
    fn lock_slow(
        &self,
        me: ParticipantId,
        entry: Entry,
        wait: Wait,
        deadline: Option<Duration>,
        mut recover: impl FnMut(ParticipantId),
    ) -> Result<Taken, Refused> {
        let memory = self.word.memory().clone();
        let start = memory.now();
        let (budget, mut slices, mut watch) = (wait.budget(), Slices::new(start), Watch::new());
        // Whether this thread has written us into `next`; and WAITERS once it has slept, since others may sleep as well
        // and whoever woke it has cleared the bit.
        let (mut claimed, mut slept) = (false, 0);
        loop {
            let word = self.word.load(Relaxed);
            if claimed && next(word) != Some(me) && word & ENDED == 0 {
                if holder(word) == Some(me) {
                    return Ok(self.accept(entry));
                }
                claimed = false;
            }
            if is_free(word) || word & ENDED != 0 {
                match self.try_lock_slow(me, word, slept | entry.bit()) {
                    Err(Refused::Held(_)) => continue,
                    done => {
                        if claimed {
                            self.withdraw(me);
                        }
                        return done;
                    }
                }
            }
            let now = memory.now();
            let over = deadline.is_some_and(|deadline| now >= deadline);
            if slices.left(now).is_zero() || !over && watch.is_over() {
                let asks = || slept != 0 && !over && slices.asks_for_a_vigil(now);
                let watched = watch.go_on(asks, [&memory].into_iter());
                slices.looked(now, watched);
                // Read behind the vigil: whoever died before that and is in our way is named here, and in no other place.
                let word = self.word.load(Relaxed);
                holder(word).into_iter().for_each(&mut recover);
                next(word).into_iter().for_each(&mut recover);
                continue;
            }
            if over {
                if claimed && !self.withdraw(me) {
                    continue;
                }
                // A wake-up may have been meant for us: let the holder know that others sleep.
                if slept != 0 {
                    let _ = self.word.exchange(word, word | WAITERS, Relaxed);
                }
                return Err(Refused::TimedOut);
            }
            if now.saturating_sub(start) < budget {
                for _ in 0..32 {
                    if is_free(self.word.load(Relaxed)) {
                        break;
                    }
                    memory.pause();
                }
                continue;
            }
            let handed_to_us = word & GRANTED != 0 && holder(word) == Some(me);
            let waited = now.saturating_sub(start);
            let impatient = waited >= PATIENCE;
            let claims = impatient && !claimed && next(word).is_none() && !handed_to_us;
            let mut announced = word | WAITERS;
            if claims {
                announced = announced & !(ID << NEXT) | u32::from(me.get()) << NEXT;
            }
            if announced == word || self.word.exchange(word, announced, Relaxed).is_ok() {
                claimed |= claims;
                let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(now));
                // Whoever is not in `next` may have to come there by itself: soon if it has not waited for long.
                let nap = if claimed {
                    Duration::MAX
                } else {
                    waited.max(4 * PATIENCE)
                };
                let nap = left.min(nap).min(slices.left(now));
                watch.sleep(&self.word, announced, nap);
                slept = WAITERS;
            }
        }
    }

    /// Takes what has been handed over to us.
    fn accept(&self, entry: Entry) -> Taken {
        // ORDERING: Acquire pairs with the Release in `unlock_slow`, which handed it over.
        let word = self.word.load(Acquire);
        if entry == Entry::AtOnce {
            self.set_granted(false);
        }
        Taken::from(word)
    }

    /// Takes our name back out of `next`. False if the lock has been handed over to us meanwhile.
    fn withdraw(&self, me: ParticipantId) -> bool {
        loop {
            let word = self.word.load(Relaxed);
            if next(word) != Some(me) {
                return false;
            }
            if self
                .word
                .exchange(word, word & !(ID << NEXT), Relaxed)
                .is_ok()
            {
                return true;
            }
        }
    }

    /// Marks that the holder has not begun to touch what the lock protects, or that it has begun now.
    pub fn set_granted(&self, granted: bool) {
        self.change(|word| {
            if granted {
                word | GRANTED
            } else {
                word & !GRANTED
            }
        });
    }

    /// Marks what the lock protects as repaired.
    pub fn mark_consistent(&self) {
        self.change(|word| word & !DIED);
    }

    fn change(&self, with: impl Fn(u32) -> u32) {
        let mut word = self.word.load(Relaxed);
        while with(word) != word {
            // ORDERING: AcqRel pairs with nothing: it keeps the change in its place among the holder's own accesses to what
            // the lock protects, since death may come between any two of them.
            match self.word.exchange(word, with(word), AcqRel) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }

    /// Lets go of the lock.
    #[inline]
    pub fn unlock(&self, me: ParticipantId, how: Leave) {
        if how != Leave::Free || !self.try_unlock(me) {
            self.unlock_slow(me, how);
        }
    }

    /// Lets go of the lock if all is well with what it protects, and nobody waits for it.
    #[inline]
    pub(super) fn try_unlock(&self, me: ParticipantId) -> bool {
        // ORDERING: Release pairs with the Acquire in `try_lock` and in `try_lock_slow`.
        self.word.exchange(me.get().into(), 0, Release).is_ok()
    }

    #[cold]
    pub(super) fn unlock_slow(&self, me: ParticipantId, how: Leave) {
        let mut word = self.word.load(Relaxed);
        // Else somebody wrote rubbish: it is not ours to let go.
        while holder(word) == Some(me) {
            let free = word & !(ID | GRANTED | WAITERS);
            let (after, wakes) = match (how, next(word)) {
                (Leave::Ended, _) => (free & !(ID << NEXT) | ENDED, u32::MAX),
                (_, Some(next)) => {
                    let handed = word & !(ID << NEXT | ID) | GRANTED | u32::from(next.get());
                    // Whom it is for, sleeps on the same word as the others.
                    (handed, u32::MAX)
                }
                (_, None) => (free, 1),
            };
            let after = if how == Leave::Broken {
                after | DIED
            } else {
                after
            };
            // ORDERING: Release pairs with the Acquire in `try_lock_slow`, in `accept`, in `is_free` and in `is_ended`.
            match self.word.exchange(word, after, Release) {
                Ok(_) => {
                    if word & WAITERS != 0 {
                        self.word.wake(wakes);
                    }
                    return;
                }
                Err(found) => word = found,
            }
        }
    }

    /// Clears the lock of a participant that is proven dead. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        let mut word = self.word.load(Relaxed);
        loop {
            let mut after = word;
            if next(word) == Some(dead) {
                after &= !(ID << NEXT);
            }
            if holder(word) == Some(dead) {
                after &= !(ID | GRANTED | WAITERS);
                if word & GRANTED == 0 {
                    after |= DIED;
                }
            }
            if after == word {
                return;
            }
            // ORDERING: Release pairs with the Acquire in `try_lock_slow` and in `is_free`; what the dead one did has come to us
            // through the kernel.
            match self.word.exchange(word, after, Release) {
                Ok(_) => {
                    if word & WAITERS != 0 {
                        self.word.wake(u32::MAX);
                    }
                    return;
                }
                Err(found) => word = found,
            }
        }
    }

    /// The memory, for fences and time.
    pub fn memory(&self) -> &M {
        self.word.memory()
    }

    /// Who has the lock.
    pub fn holder(&self) -> Option<ParticipantId> {
        holder(self.word.load(Relaxed))
    }

    /// Whether nobody has the lock and all is well with what it protects; then all that was done under it is visible.
    #[inline]
    pub fn is_free(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `try_unlock`, in `unlock_slow` and in `recover`.
        self.word.load(Acquire) & (ID | DIED | ENDED) == 0
    }

    /// Whether it has been ended; then all that was done before is visible.
    #[inline]
    pub fn is_ended(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `unlock_slow`.
        self.word.load(Acquire) & ENDED != 0
    }

    /// Whether a holder died, or left it broken, and nobody has repaired it.
    pub fn is_broken(&self) -> bool {
        self.word.load(Relaxed) & DIED != 0
    }
}
