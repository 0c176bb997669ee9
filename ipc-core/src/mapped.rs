//! The seam over a real mapping: what runs in production.
//!
//! # Safety
//!
//! `base` points at `len` bytes that stay mapped, shared and writable for as long as `attachment` lives, and every clone
//! holds it. Control words are only ever accessed as atomics of one size; payload bytes only through `copy`, which is
//! safe against racing writers.
#![allow(unsafe_code)]

use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::RefUnwindSafe;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::fork::{CloseInChild, Process};
use crate::memory::{Area, Identity, LockByte, Memory, Slots, Vigil};
use crate::peers::{self, Peers};
use crate::sys::process::Standing;
use crate::{Mapping, copy, sys};

/// A mapping that several processes share, with the kernel's services on it.
#[derive(Clone)]
pub struct Mapped {
    base: NonNull<u8>,
    len: usize,
    attachment: Arc<Attachment>,
}

// SAFETY: the memory is shared between processes anyway: all access goes through atomics and racing-safe copies.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What one `create` or `open` holds: the mapping, and a file description of its own for the lock bytes.
#[derive(Debug)]
struct Attachment {
    /// Unmapped on drop.
    mapping: Arc<Mapping>,
    locks: Locks,
    process: Process,
    identity: Identity,
    start: Instant,
    takes_part_in_fences: bool,
    peers: Peers,
    census: OnceLock<Weak<dyn Census>>,
}

/// Who takes part in a memory, for whoever is to be told of their deaths.
pub(crate) trait Census: fmt::Debug + Send + Sync + RefUnwindSafe {
    /// A vigil over all of them, if they can all be watched.
    fn vigil(&self) -> Option<Vigil<Mapped>>;
}

impl Mapped {
    /// Serves the whole of `mapping`. `locks` is an open file description of the file that carries the lock bytes, and
    /// of nobody else.
    pub(crate) fn new(mapping: Mapping, locks: OwnedFd) -> Self {
        Self::attach(Arc::new(mapping), locks)
    }

    /// The same mapping for the calling process, a forked child of the one that attached.
    pub(crate) fn attach_anew(&self, locks: OwnedFd) -> Self {
        Self::attach(self.attachment.mapping.clone(), locks)
    }

    fn attach(mapping: Arc<Mapping>, locks: OwnedFd) -> Self {
        Self {
            base: mapping.as_ptr(),
            len: mapping.len(),
            attachment: Arc::new(Attachment {
                mapping,
                locks: Locks::new(locks),
                process: Process::current(),
                identity: sys::process::identity(),
                start: Instant::now(),
                takes_part_in_fences: sys::membarrier::register(),
                peers: Peers::default(),
                census: OnceLock::new(),
            }),
        }
    }

    /// Says who tells who takes part. Whoever comes first stays.
    pub(crate) fn set_census(&self, census: Weak<dyn Census>) {
        let _ = self.attachment.census.set(census);
    }

    /// What is served.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.attachment.mapping
    }

    /// Whether the calling process is the one that attached, and not a forked child of it.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.attachment.process.is_here()
    }

    /// The address of the byte at `at`.
    ///
    /// # Safety
    ///
    /// `at` is below `len`.
    #[inline]
    pub(crate) unsafe fn pointer(&self, at: usize) -> NonNull<u8> {
        debug_assert!(at < self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        unsafe { self.base.add(at) }
    }

    /// # Safety
    ///
    /// As for [`Memory::load32`].
    #[inline]
    unsafe fn word32(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at % 4 == 0 && at + 4 <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let word = unsafe { self.base.add(at) };
        // SAFETY: (1) aligned by the contract, since the mapping is page-aligned; (2) valid while `self` lives;
        // (3) only ever accessed as an atomic of this size.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// # Safety
    ///
    /// As for [`Memory::load64`].
    #[inline]
    unsafe fn word64(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at % 8 == 0 && at + 8 <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let word = unsafe { self.base.add(at) };
        // SAFETY: as in `word32`.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }
}

impl crate::memory::Word32<Mapped> {
    /// Its address, for the kernel; mapped for as long as the word lives.
    pub(crate) fn address(&self) -> *const AtomicU32 {
        // SAFETY: the view was checked when it was made.
        unsafe { self.memory().word32(self.at) }
    }
}

impl Area<Mapped> {
    /// The first byte of the area, which is mapped for as long as the area lives. Nobody may make a reference of it but to
    /// a type that others may change at any time.
    pub(crate) fn pointer(&self) -> NonNull<u8> {
        // SAFETY: an area lies within its memory, which is mapped from `base` on.
        unsafe { self.memory().base.add(self.offset()) }
    }
}

// SAFETY: the mapping keeps its length and stays valid until the last clone is dropped.
unsafe impl Memory for Mapped {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    unsafe fn load32(&self, at: usize, order: Ordering) -> u32 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word32(at) }.load(order)
    }

    #[inline]
    unsafe fn store32(&self, at: usize, value: u32, order: Ordering) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word32(at) }.store(value, order);
    }

    #[inline]
    unsafe fn exchange32(
        &self,
        at: usize,
        old: u32,
        new: u32,
        order: Ordering,
    ) -> Result<u32, u32> {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word32(at) }.compare_exchange(old, new, order, Ordering::Relaxed)
    }

    #[inline]
    unsafe fn load64(&self, at: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word64(at) }.load(order)
    }

    #[inline]
    unsafe fn store64(&self, at: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word64(at) }.store(value, order);
    }

    #[inline]
    unsafe fn exchange64(
        &self,
        at: usize,
        old: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word64(at) }.compare_exchange(old, new, order, Ordering::Relaxed)
    }

    #[inline]
    unsafe fn add64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        // SAFETY: the caller's contract is the callee's.
        unsafe { self.word64(at) }.fetch_add(value, order)
    }

    #[inline(always)]
    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        debug_assert!(at + into.len() <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let from = unsafe { self.base.add(at) };
        // SAFETY: the caller keeps `at + into.len()` within the mapping.
        unsafe { copy::copy_out(from.as_ptr(), into) }
    }

    #[inline(always)]
    unsafe fn write(&self, at: usize, from: &[u8]) {
        debug_assert!(at + from.len() <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let to = unsafe { self.base.add(at) };
        // SAFETY: the caller keeps `at + from.len()` within the mapping.
        unsafe { copy::copy_in(to.as_ptr(), from) }
    }

    #[inline(always)]
    unsafe fn read_typed(&self, at: usize, into: &mut [u8]) {
        debug_assert!(at + into.len() <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let from = unsafe { self.base.add(at) };
        // SAFETY: the caller keeps `at + into.len()` within the mapping.
        unsafe { copy::words_out(from.as_ptr(), into) }
    }

    #[inline(always)]
    unsafe fn write_typed(&self, at: usize, from: &[u8]) {
        debug_assert!(at + from.len() <= self.len);
        // SAFETY: the caller keeps `at` within the mapping.
        let to = unsafe { self.base.add(at) };
        // SAFETY: the caller keeps `at + from.len()` within the mapping.
        unsafe { copy::words_in(to.as_ptr(), from) }
    }

    #[inline(always)]
    fn expect_write(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            let line = self.base.as_ptr().wrapping_add(at);
            // SAFETY: a prefetch touches nothing, wherever the address points.
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
            }
        }
    }

    #[inline(always)]
    fn expect_read(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            let line = self.base.as_ptr().wrapping_add(at);
            // SAFETY: as in `expect_write`.
            unsafe {
                std::arch::asm!("prefetcht0 [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
            }
        }
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        fence(order);
    }

    fn takes_part_in_fences(&self) -> bool {
        self.attachment.takes_part_in_fences
    }

    fn fence_everyone(&self) -> bool {
        sys::membarrier::fence_everyone()
    }

    #[inline]
    fn pause(&self) {
        std::hint::spin_loop();
    }

    #[inline]
    fn now(&self) -> Duration {
        self.attachment.start.elapsed()
    }

    unsafe fn sleep(&self, at: usize, expected: u32, timeout: Duration) {
        // SAFETY: the caller's contract is the callee's.
        sys::futex::wait(unsafe { self.word32(at) }, expected, timeout);
    }

    unsafe fn sleep_any(words: &[(&Self, usize, u32)], deaths: Option<u32>, timeout: Duration) {
        let word = |&(memory, at, expected): &(&'_ Self, usize, u32)| {
            // SAFETY: the caller's contract is the callee's.
            let word: *const AtomicU32 = unsafe { memory.word32(at) };
            (word, expected)
        };
        let deaths = deaths.map(|deaths| (peers::deaths_word(), deaths));
        sys::futex::wait_any(words.iter().map(word).chain(deaths), timeout);
    }

    fn clock(&self) -> u32 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (now.tv_sec as u32)
            .wrapping_mul(1_000_000)
            .wrapping_add(now.tv_nsec as u32 / 1000)
    }

    unsafe fn wake(&self, at: usize, count: u32) -> u32 {
        // SAFETY: the caller's contract is the callee's.
        sys::futex::wake(unsafe { self.word32(at) }, count)
    }

    unsafe fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        self.mapping()
            .sync(at..at + len, crate::mapping::Sync::Wait)?;
        // What was stored may lie on the private pages that stand for those that are gone.
        if self.mapping().is_cut_short() {
            return Err(io::Error::other(crate::segment::SegmentError::CutShort));
        }
        Ok(())
    }

    fn instance(&self) -> u64 {
        sys::file_system::instance(&self.attachment.locks.file)
    }

    fn boot(&self) -> u64 {
        sys::process::boot()
    }

    fn try_lock(&self, byte: LockByte) -> bool {
        self.is_here() && self.attachment.locks.try_lock(byte)
    }

    fn unlock(&self, byte: LockByte) {
        if self.is_here() {
            self.attachment.locks.unlock(byte);
        }
    }

    fn is_locked(&self, byte: LockByte) -> bool {
        // In a forked child the locks may never be unlocked by the thread that the parent left behind.
        !self.is_here() || self.attachment.locks.is_locked(byte)
    }

    fn identity(&self) -> Identity {
        self.attachment.identity
    }

    fn is_gone(&self, who: &Identity) -> bool {
        if self.is_here() {
            self.attachment
                .peers
                .is_gone(who, &self.attachment.identity)
        } else {
            // A lost thread of our parent may hold the lock, and our pid namespace may be another.
            let standing = sys::process::look_up(who, &sys::process::identity());
            matches!(standing, Standing::Gone)
        }
    }

    fn watches(&self, who: &Identity) -> bool {
        self.is_here()
            && self
                .attachment
                .peers
                .watches(who, &self.attachment.identity)
    }

    fn deaths(&self) -> u32 {
        peers::deaths()
    }

    fn vigil(&self) -> Option<Vigil<Self>> {
        if !self.is_here() || !sys::futex::waits_for_several() {
            return None;
        }
        self.attachment.census.get()?.upgrade()?.vigil()
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.attachment, &other.attachment)
    }
}

impl Slots<Mapped> {
    /// The address of the first `len` bytes of the slot of `position`, valid while `self` or a clone lives. What a peer
    /// may change there at any moment is for the caller to know.
    ///
    /// # Panics
    ///
    /// If a slot is shorter.
    pub fn as_ptr(&self, position: u64, len: usize) -> NonNull<u8> {
        let at = self.place_in(position, 0, len);
        // SAFETY: `place_in` gives a place within the mapping.
        unsafe { self.memory().base.add(at) }
    }
}

/// The lock bytes held by one attachment. The kernel knows a holder by its file description, which threads share; the
/// map keeps them apart.
#[derive(Debug)]
struct Locks {
    file: Description,
    /// What is locked, and through which description if not through `file`.
    held: Mutex<BTreeMap<u64, Option<Description>>>,
}

impl Locks {
    fn new(file: OwnedFd) -> Self {
        Self {
            file: Description::new(file),
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Option<Description>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self, byte: LockByte) -> bool {
        let mut held = self.held();
        let Entry::Vacant(place) = held.entry(byte.offset()) else {
            return false;
        };
        // A child that was cloned without fork handlers shares `file`, and with it every lock that is taken through it, for
        // as long as it lives. A recoverer that is killed must not leave the recovery byte to such a child, so each recovery
        // has a description that no older child knows. Where there is no descriptor left, `file` has to do.
        let own = match byte {
            LockByte::Recovery(_) => sys::file_system::reopen(&self.file, OFlags::RDWR).ok(),
            LockByte::Life(_) | LockByte::Object(_) => None,
        };
        let own = own.map(Description::new);
        let file = own.as_ref().unwrap_or(&self.file);
        let locked = sys::lock::try_lock(file, byte.offset()).unwrap_or(false);
        if locked {
            place.insert(own);
        }
        locked
    }

    fn is_locked(&self, byte: LockByte) -> bool {
        // The kernel does not tell a file description of its own locks.
        let ours = self.held().contains_key(&byte.offset());
        // Where it does not answer at all, nobody is declared dead.
        ours || sys::lock::is_locked(&self.file, byte.offset()).unwrap_or(true)
    }

    fn unlock(&self, byte: LockByte) {
        if let Some(own) = self.held().remove(&byte.offset()) {
            // Failing leaves the byte locked until this process ends, which is safe. Closing `own` is not enough: a child
            // that was cloned meanwhile has it too.
            let _ = sys::lock::unlock(own.as_ref().unwrap_or(&self.file), byte.offset());
        }
    }
}

/// An open file description that is ours alone: with it the kernel frees the bytes that were locked through it. Closed in a
/// child made by `fork`.
#[derive(Debug)]
struct Description {
    file: ManuallyDrop<OwnedFd>,
    closed_in_child: ManuallyDrop<CloseInChild>,
    process: Process,
}

impl Description {
    fn new(file: OwnedFd) -> Self {
        Self {
            closed_in_child: ManuallyDrop::new(CloseInChild::new(file.as_raw_fd())),
            file: ManuallyDrop::new(file),
            process: Process::current(),
        }
    }
}

impl AsFd for Description {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // In a forked child it is closed already, and its number may be another file's by now.
        if self.process.is_here() {
            // SAFETY: neither field is used again.
            unsafe { ManuallyDrop::drop(&mut self.closed_in_child) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}
