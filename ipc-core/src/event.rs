//! An event: one word on which processes sleep until another process has published something.
//!
//! What is waited for lies elsewhere, in the positions or slots of a ring. The event only carries the promise that
//! whoever has found nothing and sleeps is woken by whoever publishes something. It does not count, and wakes nobody in
//! any order.
//!
//! # Protocol
//!
//! The word is `stamp << 3 | STREAMING | FRESH | SLEEPER`; zero is "nobody sleeps". The stamp differs after every wake-up.
//!
//! ```text
//! sleeper                                     publisher
//! S1  word := word | SLEEPER | FRESH          P1  publish (a store elsewhere)
//! S2  full fence                              P2  full fence
//! S3  look again: published? then leave       P3  word & SLEEPER = 0? then return
//! S4  futex_wait while word is as in S1       P4  word := next stamp, without FRESH
//!                                             P5  woken := futex_wake(count)
//!                                             P6  woken < count, and word as P4 left it? then clear SLEEPER
//! ```
//!
//! P4 and P6 do nothing, and the publisher is done, if SLEEPER is gone meanwhile. Where only one thread at a time ever
//! waits, P4 clears SLEEPER itself and P6 is left out: that saves the wake-up call that finds nobody.
//!
//! # No wake-up is lost
//!
//! *SLEEPER is clear* implies *nobody sleeps, and nobody who has announced it is yet to fall asleep*. P6 clears it only if
//! nobody has announced a sleep since P4, since that would have set FRESH. Whoever announced one before P4 either had
//! fallen asleep before P5, which found everybody who had (it woke fewer than it might), or finds in S4 that the word
//! differs from the one in S1, and does not sleep. Where P4 clears it, the one who may wait is woken by P5 or does not
//! fall asleep, for the same reasons.
//!
//! Take a publication P1 and a sleeper that does not see it in S3. The fences order S1 before S3 and P1 before P3, so
//! either S3 sees P1, or P3 sees what S1 wrote or something later (Dekker). In the second case either SLEEPER is still set,
//! and the publisher's own P4 and P5 wake a sleeper for this publication, or it has been cleared since S1, and then
//! the sleeper is awake, or will not fall asleep, and looks again. Two publications thus wake two sleepers.
//!
//! # Streaming
//!
//! P2 is dear: it exposes the cache miss of the store in P1, more than doubling the cost of a small message. A waiter
//! that has not slept for a while sets STREAMING, which promises that nobody sleeps; a publisher whose process takes part
//! in `membarrier` then skips P2 and P3: one load and a branch. Whoever is to sleep withdraws the promise first, before S1:
//!
//! ```text
//! W1  word := word - STREAMING | FRESH        FRESH without SLEEPER: withdrawn, but not yet for everybody
//! W2  membarrier                              every running thread of every registered process passes a fence
//! ```
//!
//! After W2, a publisher either loads what W1 has left, and goes through P2, or its P1 is visible to S3: its load comes
//! after P1 in the machine code, since a compiler fence stands between them. Where several wait, another one may come
//! between W1 and W2, and must not sleep either: whoever finds FRESH without SLEEPER begins with W2 himself, and FRESH
//! stands so until somebody who has done so announces his sleep. From there only a new stamp leads back to FRESH without
//! SLEEPER, so that nobody takes a later withdrawal for the one he has seen.
//!
//! A publisher whose process could not register always fences; a waiter that cannot call `membarrier` never sets
//! STREAMING. STREAMING and SLEEPER are never set together: the one is set only while the other is not.
//!
//! # When a participant dies
//!
//! A sleeper that is killed leaves SLEEPER behind: the next publisher makes one wake-up call that finds nobody, and
//! clears it. A publisher killed between P1 and P5 leaves a sleeper asleep: each sleep is bounded by [`LONGEST_SLICE`],
//! after which the sleeper looks again, or ends with the death of anybody who takes part
//! ([`Arrivals`](crate::participant::Arrivals)). A waiter killed while STREAMING leaves that bit, and one killed while it withdraws
//! the promise leaves FRESH without SLEEPER: the next one who is to sleep goes on from there.
//!
//! Sources: the event count of Vyukov and of folly; the asymmetric fence of membarrier(2). Ours are FRESH, which lets a
//! bit stand for any number of sleepers, dead ones among them, and the stamp.

mod budget;
mod ready;
mod slices;
mod wait;
mod watch;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

pub use ready::{PATIENCE, Readiness, Slot};
pub use slices::{LONGEST_SLICE, SLICE, Slices, WATCHED};
pub use wait::{Wait, Waited, wait_any, wait_until};

pub(crate) use watch::Watch;

use crate::memory::{Area, Memory, OutOfArea, Word32};

/// Somebody sleeps, or is about to.
const SLEEPER: u32 = 1;
/// Somebody has announced a sleep since the last wake-up; without `SLEEPER`, a promise is being withdrawn.
const FRESH: u32 = 2;
/// Waiters poll and do not sleep.
const STREAMING: u32 = 4;
const STAMP: u32 = !7;

/// One word to sleep on. Does not say what happened: look at what was published.
#[derive(Clone, Debug)]
pub struct Event<M> {
    word: Word32<M>,
    waiters: Waiters,
    /// Whether `STREAMING` spares this process the fence: it takes part in `membarrier`.
    registered: bool,
}

/// How many threads may wait on one event at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiters {
    /// One: the only consumer of a ring, say.
    One,
    /// Any number.
    Many,
}

impl<M: Memory> Event<M> {
    /// The event whose word is at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 4, or the word does not lie in the area.
    pub fn new(area: &Area<M>, at: usize, waiters: Waiters) -> Result<Self, OutOfArea> {
        let registered = area.memory().takes_part_in_fences();
        Ok(Self {
            word: area.word32(at)?,
            waiters,
            registered,
        })
    }

    /// The memory, for time.
    pub fn memory(&self) -> &M {
        self.word.memory()
    }

    /// Tells up to `count` waiters that something was published just before. Makes no system call when nobody sleeps.
    #[inline]
    pub fn notify(&self, count: u32) {
        self.notify_by(|| count);
    }

    /// As [`notify`](Self::notify), where it takes a look to know how many may go on. It is taken only if somebody
    /// sleeps, and after the fence, so it sees whatever a sleeper that was refused has seen.
    #[inline]
    pub fn notify_by(&self, count: impl FnOnce() -> u32) {
        // ORDERING: keeps the load below behind the publication in the machine code. Stands against `withdraw`,
        // which supplies the rest of the fence.
        self.word.memory().fence_if_asked();
        // ORDERING: Relaxed; the file's head argues for it, under "Streaming".
        if self.registered && self.word.load(Relaxed) & STREAMING != 0 {
            return;
        }
        // ORDERING: pairs with the fence in `prepare` (P2 with S2).
        self.word.memory().fence(SeqCst);
        if self.word.load(Relaxed) & SLEEPER != 0 {
            self.wake(count());
        }
    }

    /// P4 to P6.
    #[cold]
    fn wake(&self, count: u32) {
        let (clears, count) = match self.waiters {
            // The one waiter may be two for a moment, as when a descriptor to poll is dropped: wake both.
            Waiters::One => (SLEEPER | FRESH, u32::MAX),
            Waiters::Many => (FRESH, count),
        };
        let clock = self.word.memory().clock();
        let mut word = self.word.load(Relaxed);
        let stamped = loop {
            if word & SLEEPER == 0 {
                return;
            }
            let stamped = next_stamp(word, clock) | word & !STAMP & !clears;
            // ORDERING: Release pairs with the Acquire in `prepare`: a sleeper that finds the new word sees what we
            // published.
            match self.word.exchange(word, stamped, Release) {
                Ok(_) => break stamped,
                Err(found) => word = found,
            }
        };
        if self.word.wake(count) < count && stamped & SLEEPER != 0 {
            // Losing is fine: somebody has announced a sleep, or has stamped the word and clears the bit himself.
            let _ = self.word.exchange(stamped, stamped & !SLEEPER, Relaxed);
        }
    }

    /// S1 and S2, behind W1 and W2 where somebody streams: announces a sleep. Look again after it, then
    /// [`sleep`](Self::sleep).
    pub fn prepare(&self) -> Prepared {
        // ORDERING: Acquire, here and below, pairs with the Release in `wake`: who finds a stamp sees what was published.
        let mut word = self.word.load(Acquire);
        let announced = loop {
            if word & SLEEPER == 0 && word & (STREAMING | FRESH) != 0 {
                match self.withdraw(word) {
                    Ok(withdrawn) => word = withdrawn,
                    Err(found) => {
                        word = found;
                        continue;
                    }
                }
            }
            let announced = word | SLEEPER | FRESH;
            if announced == word {
                break word;
            }
            // ORDERING: Acquire as above. Release pairs with both Acquires here: who finds SLEEPER and leaves out W2 has what
            // the W2 of whoever announced it has brought.
            match self.word.exchange(word, announced, AcqRel) {
                Ok(_) => break announced,
                Err(found) => word = found,
            }
        };
        // ORDERING: pairs with the fence in `notify_by` (S2 with P2).
        self.word.memory().fence(SeqCst);
        Prepared(announced)
    }

    /// S4: sleeps unless something was published since `prepare`, at most for `timeout` and for
    /// [`LONGEST_SLICE`].
    pub fn sleep(&self, prepared: Prepared, timeout: Duration) {
        let asleep = self.word.memory().clock();
        self.word.sleep(prepared.0, timeout.min(LONGEST_SLICE));
        self.learn_from(prepared, asleep);
    }

    /// S4 on several events: sleeps unless something was published on one of them since its `prepare`, or the watch is over;
    /// at most for `timeout`, which the caller's [`Slices`] bound.
    pub(crate) fn sleep_any(announced: &[(&Self, Prepared)], watch: &Watch<M>, timeout: Duration) {
        let words = announced
            .iter()
            .map(|(event, prepared)| (&event.word, prepared.0))
            .chain(watch.words());
        let asleep = announced
            .first()
            .map_or(0, |(event, _)| event.memory().clock());
        Word32::sleep_any(words, watch.deaths(), timeout);
        for (event, prepared) in announced {
            event.learn_from(*prepared, asleep);
        }
    }

    /// Learns what a wake-up costs, if one has ended a sleep that began at `asleep`.
    fn learn_from(&self, prepared: Prepared, asleep: u32) {
        let word = self.word.load(Relaxed);
        let micros = |later: u32, earlier: u32| (later << 3).wrapping_sub(earlier << 3) >> 3;
        let slept = micros(word >> 3, asleep);
        if (word ^ prepared.0) & STAMP != 0 && slept > 0 && slept < 1 << 28 {
            budget::learn(micros(self.word.memory().clock(), word >> 3));
        }
    }

    /// Whether a sleep announced so would not be one: somebody has woken the sleepers since.
    fn has_changed(&self, prepared: Prepared) -> bool {
        // ORDERING: Acquire pairs with the Release in `wake`.
        (self.word.load(Acquire) ^ prepared.0) & STAMP != 0
    }

    /// Promises that nobody sleeps before somebody's next `prepare`, which spares publishers their fence. Does nothing while
    /// somebody sleeps, or where the promise could never be withdrawn. Whether the promise was made, and had not been.
    pub fn start_streaming(&self) -> bool {
        if !self.registered {
            return false;
        }
        let mut word = self.word.load(Relaxed);
        while word & (STREAMING | SLEEPER | FRESH) == 0 {
            match self.word.exchange(word, word | STREAMING, Relaxed) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    /// W1 and W2: withdraws the promise that `word` holds, or goes on with a withdrawal that it holds. What the word is
    /// then, or what it was meanwhile.
    #[cold]
    fn withdraw(&self, word: u32) -> Result<u32, u32> {
        let withdrawn = word & !STREAMING | FRESH;
        if withdrawn != word {
            // ORDERING: Relaxed; the fence behind it orders it before what the caller looks at.
            self.word.exchange(word, withdrawn, Relaxed)?;
        }
        // ORDERING: stands for the fence of every publisher that has loaded STREAMING (see the head of this file).
        // It fails only for one who cannot call it, after one who could; his sleep may then last until he looks again.
        self.word.memory().fence_everyone();
        Ok(withdrawn)
    }
}

impl Event<crate::Mapped> {
    fn word_address(&self) -> *const std::sync::atomic::AtomicU32 {
        self.word.address()
    }
}

/// The word under which a sleep was announced.
#[derive(Clone, Copy, Debug)]
pub struct Prepared(u32);

/// A stamp that differs from the one in `word`: the time, or, where that has not gone on, one more than it was.
fn next_stamp(word: u32, clock: u32) -> u32 {
    let (old, new) = (word & STAMP, clock << 3);
    let ahead = new.wrapping_sub(old);
    if ahead != 0 && ahead < 1 << 31 {
        new
    } else {
        old.wrapping_add(1 << 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_always_differs() {
        // Would catch a sleeper that takes a wake-up for none, because the word is what it was.
        for (word, clock, expected) in [
            (0, 0, 1 << 3),
            (0, 5, 5 << 3),
            (5 << 3 | SLEEPER, 5, 6 << 3),
            (6 << 3 | SLEEPER, 5, 7 << 3),
            (STAMP, u32::MAX, 0),
            (STAMP, 1, 1 << 3),
        ] {
            assert_eq!(next_stamp(word, clock), expected, "{word:#x} {clock}");
        }
    }
}
