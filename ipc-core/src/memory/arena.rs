//! An arena: a power of two of bytes, in which records of any length lie.
//!
//! # Safety
//!
//! The one invariant of this file: `at` and the `mask + 1` bytes behind it were checked, when the view was made, to lie
//! within the memory, and `at` to be a multiple of 8. Every access is masked to an index in the arena, and its length
//! checked against what lies behind that index.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use super::{Area, Memory, OutOfArea};
use crate::Mapped;

/// A power of two of bytes. A position is masked to an index, so that no position can leave them.
#[derive(Clone, Debug)]
pub struct Arena<M> {
    memory: M,
    at: usize,
    mask: usize,
}

impl<M: Memory> Area<M> {
    /// The `len` bytes at `at` as an arena. `len` must be a power of two and at least 8.
    ///
    /// # Errors
    ///
    /// If `len` is no such power, `at` no multiple of 8, or the bytes do not all lie in the area.
    pub fn arena(&self, at: usize, len: usize) -> Result<Arena<M>, OutOfArea> {
        let place = self.check(at, len, 8)?;
        if !len.is_power_of_two() || len < 8 {
            return Err(OutOfArea {
                at,
                len,
                align: 8,
                area: self.len,
            });
        }
        Ok(Arena {
            memory: self.memory.clone(),
            at: place,
            mask: len - 1,
        })
    }
}

impl<M: Memory> Arena<M> {
    /// Length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.mask + 1
    }

    /// The index that `position` is masked to.
    #[inline]
    pub fn index(&self, position: u64) -> usize {
        position as usize & self.mask
    }

    /// How many bytes lie between `position` and the end of the arena. At least one.
    #[inline]
    pub fn before_seam(&self, position: u64) -> usize {
        self.len() - self.index(position)
    }

    /// Loads the word that `position` lies in, without any order.
    #[inline]
    pub fn load(&self, position: u64) -> u64 {
        let at = self.at + (self.index(position) & !7);
        // SAFETY: (1) `at` is a multiple of 8, since the arena starts at one; (2) the word lies in the arena, whose length
        // is a multiple of 8.
        unsafe { self.memory.load64(at, Relaxed) }
    }

    /// Stores the word that `position` lies in, without any order.
    #[inline]
    pub fn store(&self, position: u64, word: u64) {
        let at = self.at + (self.index(position) & !7);
        // SAFETY: as in `load`.
        unsafe { self.memory.store64(at, word, Relaxed) }
    }

    /// Fetches the line that `position` lies in, for a write to come. A hint: it changes nothing.
    #[inline(always)]
    pub fn expect_write(&self, position: u64) {
        self.memory.expect_write(self.at + self.index(position));
    }

    /// The same for a read to come.
    #[inline(always)]
    pub fn expect_read(&self, position: u64) {
        self.memory.expect_read(self.at + self.index(position));
    }

    /// Copies the bytes from `position` on out.
    ///
    /// # Panics
    ///
    /// If they do not end within the arena.
    #[inline(always)]
    pub fn read(&self, position: u64, into: &mut [u8]) {
        assert!(into.len() <= self.before_seam(position));
        // SAFETY: `into` is no longer than what lies in the arena from the index on.
        unsafe { self.memory.read(self.at + self.index(position), into) }
    }

    /// Copies bytes to `position` and on.
    ///
    /// # Panics
    ///
    /// If they do not end within the arena.
    #[inline(always)]
    pub fn write(&self, position: u64, from: &[u8]) {
        assert!(from.len() <= self.before_seam(position));
        // SAFETY: `from` is no longer than what lies in the arena from the index on.
        unsafe { self.memory.write(self.at + self.index(position), from) }
    }
}

impl Arena<Mapped> {
    /// Where the `len` bytes from `position` on lie. They stay mapped for as long as the arena or a clone of it lives;
    /// other processes may change them at any time.
    ///
    /// # Panics
    ///
    /// If they do not end within the arena.
    #[inline]
    pub fn pointer(&self, position: u64, len: usize) -> NonNull<[u8]> {
        assert!(len <= self.before_seam(position));
        // SAFETY: the arena lies within the memory, and the index in the arena.
        let first = unsafe { self.memory.pointer(self.at + self.index(position)) };
        NonNull::slice_from_raw_parts(first, len)
    }
}
