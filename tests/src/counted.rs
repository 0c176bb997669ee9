//! A mapping that counts its system calls, for tests that say how many there may be.
//!
//! # Safety
//!
//! Every access goes to the mapping unchanged.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipc_core::Mapped;
use ipc_core::memory::{Identity, LockByte, Memory, Vigil};

/// A mapping, and how often it was asked to sleep and to wake.
#[derive(Clone, Debug)]
pub struct Counted {
    inner: Mapped,
    counts: Arc<Counts>,
    /// Sleep until woken, however short the slice.
    patient: bool,
}

/// The counts of all clones together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls that sleep.
    pub sleeps: AtomicU64,
    /// Calls that wake.
    pub wakes: AtomicU64,
    /// Membarrier calls.
    pub fences: AtomicU64,
    /// Vigils that were asked for; there is none here.
    pub vigils: AtomicU64,
}

impl Counted {
    /// Counts from now on.
    pub fn new(inner: Mapped) -> Self {
        Self {
            inner,
            counts: Arc::default(),
            patient: false,
        }
    }

    /// Counts, and sleeps until woken: with no slice to end a sleep, a lost wake-up is lost for good.
    pub fn patient(inner: Mapped) -> Self {
        Self {
            patient: true,
            ..Self::new(inner)
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

// SAFETY: all is as the mapping has it.
unsafe impl Memory for Counted {
    fn len(&self) -> usize {
        self.inner.len()
    }
    unsafe fn load32(&self, at: usize, order: Ordering) -> u32 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.load32(at, order) }
    }
    unsafe fn store32(&self, at: usize, value: u32, order: Ordering) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.store32(at, value, order) }
    }
    unsafe fn exchange32(
        &self,
        at: usize,
        old: u32,
        new: u32,
        order: Ordering,
    ) -> Result<u32, u32> {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.exchange32(at, old, new, order) }
    }
    unsafe fn load64(&self, at: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.load64(at, order) }
    }
    unsafe fn store64(&self, at: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.store64(at, value, order) }
    }
    unsafe fn exchange64(
        &self,
        at: usize,
        old: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.exchange64(at, old, new, order) }
    }
    unsafe fn add64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.add64(at, value, order) }
    }
    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.read(at, into) }
    }
    unsafe fn write(&self, at: usize, from: &[u8]) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.write(at, from) }
    }
    fn fence(&self, order: Ordering) {
        self.inner.fence(order);
    }
    fn fence_everyone(&self) -> bool {
        self.counts.fences.fetch_add(1, Ordering::Relaxed);
        self.inner.fence_everyone()
    }
    fn takes_part_in_fences(&self) -> bool {
        self.inner.takes_part_in_fences()
    }
    fn pause(&self) {
        self.inner.pause();
    }
    fn now(&self) -> Duration {
        self.inner.now()
    }
    unsafe fn sleep(&self, at: usize, expected: u32, timeout: Duration) {
        self.counts.sleeps.fetch_add(1, Ordering::Relaxed);
        let timeout = if self.patient {
            Duration::from_secs(60)
        } else {
            timeout
        };
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.sleep(at, expected, timeout) }
    }
    fn clock(&self) -> u32 {
        self.inner.clock()
    }
    unsafe fn wake(&self, at: usize, count: u32) -> u32 {
        self.counts.wakes.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.inner.wake(at, count) }
    }
    fn try_lock(&self, byte: LockByte) -> bool {
        self.inner.try_lock(byte)
    }
    fn unlock(&self, byte: LockByte) {
        self.inner.unlock(byte);
    }
    fn is_locked(&self, byte: LockByte) -> bool {
        self.inner.is_locked(byte)
    }
    fn identity(&self) -> Identity {
        self.inner.identity()
    }
    fn is_gone(&self, who: &Identity) -> bool {
        self.inner.is_gone(who)
    }
    fn vigil(&self) -> Option<Vigil<Self>> {
        self.counts.vigils.fetch_add(1, Ordering::SeqCst);
        None
    }
}
