//! Arrivals: how a waiter that watches all participants learns of another one.
//!
//! A waiter that looks every few milliseconds whether somebody has died takes CPU for it, on a virtual machine more than a
//! thousandth. One that knows that it will be told of every death need not look. It keeps a [`Vigil`]: it asks the kernel to
//! tell of the end of each process that takes part, and sleeps on a count of such ends besides what it waits for. Who comes
//! later is not among those; so one word of the segment counts the arrivals, and the waiter sleeps on that as well.
//!
//! # Protocol
//!
//! ```text
//! newcomer  N1  join                                waiter  V1  note the arrivals, and the deaths that were counted
//!           N2  arrivals += 1                               V2  each row: dead, or watched? else there is no vigil
//!           N3  wake all who sleep on the arrivals          V3  look whether one who is dead holds us up
//!           N4  its first claim                             V4  sleep while both are as noted in V1
//! ```
//!
//! Whoever makes a claim has joined before V1, and then the waiter has seen its row in V2, or has counted after it, and then
//! the waiter does not sleep, or is woken. Whoever dies after it was watched changes the count of deaths: the same. Whoever
//! has died before is found in V3, if it holds up the waiter or is what it waits for; also if another one has cleared up
//! meanwhile. If it comes to hold up the waiter later, as the writer of a place in a ring does when the place before is done,
//! something must change for that, and the waiter wakes up; so where V2 has found a dead one, each wake-up is followed by a
//! look. (A lock names all who can be in the way in its one word, which V3 reads.) A newcomer that is killed before N2 has no
//! claims.
//!
//! Such a sleep lasts [`WATCHED`](crate::event::WATCHED) all the same: there are ways to be gone that are no death, as when
//! a process becomes another program, and stopped processes that have published and not told.
//!
//! There is no vigil where somebody cannot be watched: it lies in another pid namespace, there are too many, or the kernel
//! cannot wait for several words, has no thread left, or no descriptor. Nor is there one for a process that has not joined: those who
//! take turns by a lock byte need not join, and nobody would tell of them. Waiters then look around as ever.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{Life, Participants};
use crate::memory::{Memory, Vigil, Word32};

/// How often counting is tried while peers change the word. An honest one changes it when it joins.
const TRIES: usize = 1 << 12;

/// The word that counts those who have come.
#[derive(Clone, Debug)]
pub struct Arrivals<M> {
    word: Word32<M>,
}

impl<M: Memory> Arrivals<M> {
    /// Those counted in `word`.
    pub fn new(word: Word32<M>) -> Self {
        Self { word }
    }

    /// N2 and N3: whoever has joined says so before its first claim.
    pub fn announce(&self) {
        let mut count = self.word.load(Relaxed);
        for _ in 0..TRIES {
            // ORDERING: Release pairs with the Acquire in `Vigil::begin`: who sees the count sees our row.
            match self.word.exchange(count, count.wrapping_add(1), Release) {
                Ok(_) => break,
                Err(found) => count = found,
            }
        }
        self.word.wake(u32::MAX);
    }

    /// V1 and V2: a vigil over all of them. Look around once more before you sleep on it.
    pub fn vigil(&self, participants: &Participants<M>) -> Option<Vigil<M>> {
        let mut vigil = Vigil::begin(&self.word);
        for id in participants.ids() {
            match participants.life(id) {
                Life::Free => {}
                Life::Alive(who) if vigil.memory().watches(&who) => {}
                Life::Alive(_) => return None,
                Life::Dead(_) => vigil.found_dead(),
            }
        }
        Some(vigil)
    }
}
