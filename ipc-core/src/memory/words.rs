//! Single words, which processes can sleep on if they have 32 bits.
//!
//! # Safety
//!
//! The one invariant of this file: `at` was checked, when the view was made, to lie with its word inside the memory and to be
//! a multiple of its size.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Area, Memory, OutOfArea};

impl<M: Memory> Area<M> {
    /// The 32-bit word at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 4, or the word does not lie in the area.
    pub fn word32(&self, at: usize) -> Result<Word32<M>, OutOfArea> {
        Ok(Word32 {
            at: self.check(at, 4, 4)?,
            memory: self.memory.clone(),
        })
    }

    /// The 64-bit word at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 8, or the word does not lie in the area.
    pub fn word64(&self, at: usize) -> Result<Word64<M>, OutOfArea> {
        Ok(Word64 {
            at: self.check(at, 8, 8)?,
            memory: self.memory.clone(),
        })
    }
}

/// A shared 32-bit word, which processes can also sleep on.
#[derive(Clone, Debug)]
pub struct Word32<M> {
    memory: M,
    pub(crate) at: usize,
}

impl<M: Memory> Word32<M> {
    /// Loads.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn load(&self, order: Ordering) -> u32 {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.load32(self.at, order) }
    }

    /// Stores.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn store(&self, value: u32, order: Ordering) {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.store32(self.at, value, order) }
    }

    /// Replaces `old` by `new`; on failure gives what was there. A failure orders nothing.
    ///
    /// # Errors
    ///
    /// What was there, if it was not `old`: nothing was stored then.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn exchange(&self, old: u32, new: u32, order: Ordering) -> Result<u32, u32> {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.exchange32(self.at, old, new, order) }
    }

    /// Sleeps while the word is `expected`, at most for `timeout`. May wake for no reason.
    #[inline]
    pub fn sleep(&self, expected: u32, timeout: Duration) {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.sleep(self.at, expected, timeout) }
    }

    /// Sleeps while every word is as given, and [`Memory::deaths`], if that is given too; at most for `timeout`. May wake for
    /// no reason.
    pub fn sleep_any<'w>(
        words: impl Iterator<Item = (&'w Self, u32)>,
        deaths: Option<u32>,
        timeout: Duration,
    ) where
        M: 'w,
    {
        let words: Vec<(&M, usize, u32)> = words
            .map(|(word, expected)| (&word.memory, word.at, expected))
            .collect();
        // SAFETY: each was checked when its view was made.
        unsafe { M::sleep_any(&words, deaths, timeout) }
    }

    /// Wakes up to `count` sleepers; tells how many.
    #[inline]
    pub fn wake(&self, count: u32) -> u32 {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.wake(self.at, count) }
    }

    /// The memory, for fences and time.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

/// A shared 64-bit word.
#[derive(Clone, Debug)]
pub struct Word64<M> {
    memory: M,
    at: usize,
}

impl<M: Memory> Word64<M> {
    /// Loads.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn load(&self, order: Ordering) -> u64 {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.load64(self.at, order) }
    }

    /// Stores.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn store(&self, value: u64, order: Ordering) {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.store64(self.at, value, order) }
    }

    /// Replaces `old` by `new`; on failure gives what was there. A failure orders nothing.
    ///
    /// # Errors
    ///
    /// What was there, if it was not `old`: nothing was stored then.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn exchange(&self, old: u64, new: u64, order: Ordering) -> Result<u64, u64> {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.exchange64(self.at, old, new, order) }
    }

    /// Adds, wrapping, and gives what was there.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn add(&self, value: u64, order: Ordering) -> u64 {
        // SAFETY: checked when the view was made.
        unsafe { self.memory.add64(self.at, value, order) }
    }
}
