//! What the machine allows at best: no transport can beat these.
//!
//! # Safety
//!
//! [`Lines`] is mapped shared and writable at its full length until it is dropped, and every access is checked to lie
//! within it.
#![allow(unsafe_code)]

pub mod fetch_add;
pub mod futex;
pub mod handover;
pub mod hop;
pub mod memcpy;
pub mod pthread;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Two cache lines, which processors fetch together.
pub const LINE: usize = 128;

/// Bare shared memory, inherited through fork: nothing stands between the limit and the machine.
pub struct Lines {
    base: NonNull<u8>,
    len: usize,
}

impl Lines {
    /// So many bytes of it.
    pub fn new(len: usize) -> Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        let base = base.context("cannot map shared memory")?;
        Ok(Self {
            base: NonNull::new(base.cast()).context("a mapping at address zero")?,
            len,
        })
    }

    /// The half word at an offset, to sleep on.
    pub fn word32(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.len);
        // SAFETY: checked above to lie within the mapping.
        let word = unsafe { self.base.add(at) };
        // SAFETY: aligned, mapped while `self` lives, and only ever accessed as an atomic.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The word at an offset.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.len);
        // SAFETY: checked above to lie within the mapping.
        let word = unsafe { self.base.add(at) };
        // SAFETY: aligned, mapped while `self` lives, and only ever accessed as an atomic.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// Copies words in.
    ///
    /// # Safety
    ///
    /// No other process accesses them meanwhile.
    pub unsafe fn write(&self, at: usize, words: &[u64]) {
        // SAFETY: `range` checks; nobody else accesses the words, says the caller.
        unsafe {
            self.range(at, words.len())
                .copy_from_nonoverlapping(words.as_ptr(), words.len())
        };
    }

    /// The sum of words.
    ///
    /// # Safety
    ///
    /// No other process changes them meanwhile.
    pub unsafe fn sum(&self, at: usize, words: usize) -> u64 {
        // SAFETY: `range` checks; nobody else changes the words, says the caller.
        let words = unsafe { std::slice::from_raw_parts(self.range(at, words), words) };
        words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }

    fn range(&self, at: usize, words: usize) -> *mut u64 {
        assert!(at.is_multiple_of(8) && at + words * 8 <= self.len);
        // SAFETY: checked above to lie within the mapping.
        unsafe { self.base.add(at) }.as_ptr().cast()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
