//! The seam over a mapping that can only be read: what observers use.
//!
//! Loads and copies out work, and so does all that is built of them: the state of a participant, the length of a ring.
//! Stores would end the process by a signal if they were tried; they panic instead, since it is a mistake in the program,
//! whatever the bytes are, to call what stores with this.
//!
//! # Safety
//!
//! Loads are those of `Mapped`, under the same contract. Nothing is stored, and no compare-exchange is tried: the processor
//! may write for one that fails.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Mapped;
use crate::memory::{Area, Identity, LockByte, Memory};

/// A mapping that several processes share and this one only reads.
#[derive(Clone, Debug)]
pub struct ReadOnly(Mapped);

impl ReadOnly {
    pub(crate) fn new(mapped: Mapped) -> Self {
        Self(mapped)
    }

    pub(crate) fn mapped(&self) -> &Mapped {
        &self.0
    }
}

impl Area<ReadOnly> {
    /// The first byte of the area, which is mapped for as long as the area lives, and must only be loaded from.
    pub(crate) fn pointer(&self) -> *const u8 {
        let whole = self.memory().0.mapping().as_ptr();
        // SAFETY: an area lies within its memory, which is mapped from there on.
        unsafe { whole.add(self.offset()) }.as_ptr()
    }
}

#[cold]
fn refused() -> ! {
    panic!("a segment that is open for reading only cannot be changed")
}

// SAFETY: the mapping keeps its length and stays readable until the last clone is dropped; stores are never made.
unsafe impl Memory for ReadOnly {
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    unsafe fn load32(&self, at: usize, order: Ordering) -> u32 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.0.load32(at, order) }
    }

    unsafe fn store32(&self, _: usize, _: u32, _: Ordering) {
        refused()
    }

    unsafe fn exchange32(&self, _: usize, _: u32, _: u32, _: Ordering) -> Result<u32, u32> {
        refused()
    }

    #[inline]
    unsafe fn load64(&self, at: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.0.load64(at, order) }
    }

    unsafe fn store64(&self, _: usize, _: u64, _: Ordering) {
        refused()
    }

    unsafe fn exchange64(&self, _: usize, _: u64, _: u64, _: Ordering) -> Result<u64, u64> {
        refused()
    }

    unsafe fn add64(&self, _: usize, _: u64, _: Ordering) -> u64 {
        refused()
    }

    #[inline(always)]
    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.0.read(at, into) }
    }

    unsafe fn write(&self, _: usize, _: &[u8]) {
        refused()
    }

    fn fence(&self, order: Ordering) {
        self.0.fence(order);
    }

    fn fence_everyone(&self) -> bool {
        self.0.fence_everyone()
    }

    fn takes_part_in_fences(&self) -> bool {
        self.0.takes_part_in_fences()
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    /// Sleeps, bounded as ever. Nobody wakes an observer, since it cannot announce that it sleeps.
    unsafe fn sleep(&self, at: usize, expected: u32, timeout: Duration) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.0.sleep(at, expected, timeout) }
    }

    unsafe fn wake(&self, _: usize, _: u32) -> u32 {
        refused()
    }

    /// Observers only ask.
    fn try_lock(&self, _: LockByte) -> bool {
        false
    }

    fn unlock(&self, _: LockByte) {}

    fn is_locked(&self, byte: LockByte) -> bool {
        self.0.is_locked(byte)
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn is_gone(&self, who: &Identity) -> bool {
        self.0.is_gone(who)
    }
}
