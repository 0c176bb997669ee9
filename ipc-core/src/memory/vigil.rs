//! What a waiter sleeps on besides what it waits for, so that it need not wake up to look whether somebody has died.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{Memory, Word32};

/// Says that everybody who takes part in a memory is watched: until somebody has died or another one has come.
///
/// [`Memory::vigil`] gives one where that can be said. A sleep on [`word`](Self::word) and on the count of
/// [`Memory::deaths`], besides other words, ends when the vigil is over.
#[derive(Clone, Debug)]
pub struct Vigil<M> {
    arrivals: Word32<M>,
    arrived: u32,
    deaths: u32,
    has_dead: bool,
}

impl<M: Memory> Vigil<M> {
    /// One that begins before anybody is looked at. `arrivals` changes whenever another one has come.
    pub fn begin(arrivals: &Word32<M>) -> Self {
        Self {
            // ORDERING: Acquire pairs with the Release in `Arrivals::announce`: who is counted is seen in the table.
            arrived: arrivals.load(Acquire),
            deaths: arrivals.memory().deaths(),
            arrivals: arrivals.clone(),
            has_dead: false,
        }
    }

    /// Notes that somebody was dead already, whom nobody has cleared up after.
    pub fn found_dead(&mut self) {
        self.has_dead = true;
    }

    /// Whether somebody was dead already. Nobody tells of it again: look around whenever you have woken up, since what the
    /// dead one holds may have come to hold you up.
    pub fn has_dead(&self) -> bool {
        self.has_dead
    }

    /// Whether somebody has died, or another one has come, since it began.
    pub fn is_over(&self) -> bool {
        self.arrivals.load(Relaxed) != self.arrived || self.memory().deaths() != self.deaths
    }

    /// Whose participants are watched.
    pub fn memory(&self) -> &M {
        self.arrivals.memory()
    }

    /// The word of the memory that changes, and what it was.
    pub fn word(&self) -> (&Word32<M>, u32) {
        (&self.arrivals, self.arrived)
    }

    /// How many deaths there had been.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }
}
