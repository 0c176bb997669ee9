//! The vigils of one wait: over everybody whose death could leave it asleep.

use std::time::Duration;

use crate::memory::{Memory, Vigil, Word32};
use crate::sys;

/// More memories than this are not watched: there is an end to the words that the kernel waits for at once.
const MOST: usize = 16;

/// Vigils over all memories of a wait, or none.
#[derive(Clone, Debug)]
pub(crate) struct Watch<M> {
    vigils: Vec<Vigil<M>>,
}

impl<M: Memory> Watch<M> {
    /// Nobody is watched.
    pub(crate) fn new() -> Self {
        Self { vigils: Vec::new() }
    }

    /// Goes on with a watch that is not over, or begins anew if `asks` says so; whether anybody is watched then. Look around
    /// after this.
    pub(crate) fn go_on<'m>(
        &mut self,
        asks: impl FnOnce() -> bool,
        memories: impl ExactSizeIterator<Item = &'m M>,
    ) -> bool
    where
        M: 'm,
    {
        if self.is_kept() && !self.is_over() {
            return true;
        }
        self.vigils.clear();
        asks() && self.keep(memories)
    }

    /// Watches over all who take part in these memories; whether that can be. Each stands for a word that is slept on
    /// besides. Look around after this, and before you rely on it.
    pub(crate) fn keep<'m>(&mut self, memories: impl ExactSizeIterator<Item = &'m M>) -> bool
    where
        M: 'm,
    {
        self.vigils.clear();
        if memories.len() + MOST + 1 > sys::futex::MOST {
            return false;
        }
        for memory in memories {
            if self
                .vigils
                .iter()
                .any(|vigil| vigil.memory().is_same(memory))
            {
                continue;
            }
            let vigil = memory.vigil().filter(|_| self.vigils.len() < MOST);
            let Some(vigil) = vigil else {
                self.vigils.clear();
                return false;
            };
            self.vigils.push(vigil);
        }
        true
    }

    /// Whether anybody is watched at all.
    pub(crate) fn is_kept(&self) -> bool {
        !self.vigils.is_empty()
    }

    /// Whether somebody has died, or another one has come, since it was kept. Not if it was not.
    pub(crate) fn is_over(&self) -> bool {
        self.vigils.iter().any(Vigil::is_over)
    }

    /// Sleeps while the word is as given and the watch is not over, at most for `timeout`.
    pub(crate) fn sleep(&self, word: &Word32<M>, expected: u32, timeout: Duration) {
        if !self.is_kept() {
            return word.sleep(expected, timeout);
        }
        let words = [(word, expected)].into_iter().chain(self.words());
        Word32::sleep_any(words, self.deaths(), timeout);
    }

    /// One for each memory.
    pub(crate) fn vigils(&self) -> &[Vigil<M>] {
        &self.vigils
    }

    /// Whether somebody was dead already when it was begun: look around after each wake-up.
    pub(crate) fn has_dead(&self) -> bool {
        self.vigils.iter().any(Vigil::has_dead)
    }

    /// What to sleep on besides what is waited for.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&Word32<M>, u32)> {
        self.vigils.iter().map(Vigil::word)
    }

    /// How many deaths there had been, if anybody is watched.
    pub(crate) fn deaths(&self) -> Option<u32> {
        self.vigils.first().map(Vigil::deaths)
    }
}
