//! The seam under every algorithm: shared memory and time, as an algorithm sees them.
//!
//! Rings, events, joining and recovery are written once, generic over [`Memory`]. What runs in production is
//! [`Mapped`](crate::Mapped); a model checker, a power-cut log or a hostile mutator implements the same trait and so
//! drives the same code. An algorithm never calls the trait itself. It asks its [`Area`] for views, which are checked
//! against the area once, when they are made, and cannot leave it afterwards:
//!
//! | view | is | used for |
//! |---|---|---|
//! | [`Word32`], [`Word64`] | one atomic word | positions, states, roles |
//! | [`Slots`] | a power of two of equal slots | ring storage; any position is masked to a slot |
//! | [`Words`] | a 64-bit word in each of such slots | the states of slots |
//! | [`Arena`] | a power of two of bytes | records of any length; any position is masked to an index |
//!
//! Under loom the atomic accesses of views tell [`Memory`] from where they are called, so that a model can forget one
//! ordering of the source at a time.
//!
//! # Safety
//!
//! The one invariant of this file and of the views: each holds an offset that was checked, when it was made, to lie with its
//! whole extent inside the memory and to be aligned to its access. `Memory` promises that its length never shrinks.
#![allow(unsafe_code)]

mod arena;
mod slots;
mod vigil;
mod words;

pub use arena::Arena;
pub use slots::{Slots, Words};
pub use vigil::Vigil;
pub use words::{Word32, Word64};

use std::sync::atomic::Ordering;
use std::time::Duration;

/// Shared memory, the kernel's services on it, and time.
///
/// Offsets are bytes from the start of the memory. Words are native-endian.
///
/// # Safety
///
/// `len` never shrinks, and every access below it, aligned as the method says, is valid for as long as the value or a
/// clone of it lives.
pub unsafe trait Memory: Clone {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Loads the word at `at`.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of 4 and `at + 4 <= len`.
    unsafe fn load32(&self, at: usize, order: Ordering) -> u32;

    /// Stores to the word at `at`.
    ///
    /// # Safety
    ///
    /// As for [`load32`](Self::load32).
    unsafe fn store32(&self, at: usize, value: u32, order: Ordering);

    /// Compares and exchanges the word at `at`.
    ///
    /// # Errors
    ///
    /// What was there, if it was not `old`: nothing was stored then.
    ///
    /// # Safety
    ///
    /// As for [`load32`](Self::load32).
    unsafe fn exchange32(&self, at: usize, old: u32, new: u32, order: Ordering)
    -> Result<u32, u32>;

    /// Loads the word at `at`.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of 8 and `at + 8 <= len`.
    unsafe fn load64(&self, at: usize, order: Ordering) -> u64;

    /// Stores to the word at `at`.
    ///
    /// # Safety
    ///
    /// As for [`load64`](Self::load64).
    unsafe fn store64(&self, at: usize, value: u64, order: Ordering);

    /// Compares and exchanges the word at `at`.
    ///
    /// # Errors
    ///
    /// What was there, if it was not `old`: nothing was stored then.
    ///
    /// # Safety
    ///
    /// As for [`load64`](Self::load64).
    unsafe fn exchange64(&self, at: usize, old: u64, new: u64, order: Ordering)
    -> Result<u64, u64>;

    /// Adds to the word at `at`, wrapping, and returns what it was.
    ///
    /// # Safety
    ///
    /// As for [`load64`](Self::load64).
    unsafe fn add64(&self, at: usize, value: u64, order: Ordering) -> u64;

    /// Copies bytes out. Racing writers give torn bytes, never undefined behaviour.
    ///
    /// # Safety
    ///
    /// `at + into.len() <= len`.
    unsafe fn read(&self, at: usize, into: &mut [u8]);

    /// Copies bytes in. Racing readers see torn bytes, never undefined behaviour.
    ///
    /// # Safety
    ///
    /// `at + from.len() <= len`.
    unsafe fn write(&self, at: usize, from: &[u8]);

    /// As [`read`](Self::read), for messages of one type, whose length the compiler knows: a small one stays in registers.
    ///
    /// # Safety
    ///
    /// That of [`read`](Self::read).
    #[inline(always)]
    unsafe fn read_typed(&self, at: usize, into: &mut [u8]) {
        // SAFETY: the same contract.
        unsafe { self.read(at, into) }
    }

    /// As [`write`](Self::write), for messages of one type, whose length the compiler knows.
    ///
    /// # Safety
    ///
    /// That of [`write`](Self::write).
    #[inline(always)]
    unsafe fn write_typed(&self, at: usize, from: &[u8]) {
        // SAFETY: the same contract.
        unsafe { self.write(at, from) }
    }

    /// Fetches the line of the byte at `at` for a write to come. A hint: it changes nothing.
    #[inline]
    fn expect_write(&self, at: usize) {
        let _ = at;
    }

    /// Fetches the line of the byte at `at` for a read to come. A hint: it changes nothing.
    #[inline]
    fn expect_read(&self, at: usize) {
        let _ = at;
    }

    /// A memory fence.
    fn fence(&self, order: Ordering);

    /// Makes every running thread of every registered participant pass a full fence (`membarrier`). False if the
    /// machine cannot.
    fn fence_everyone(&self) -> bool;

    /// The other half of [`fence_everyone`](Self::fence_everyone): a full fence against whoever calls that, and against
    /// nobody else. It costs no instruction. A model of weak memory needs to see it.
    #[inline]
    fn fence_if_asked(&self) {
        // ORDERING: keeps the program's order in the machine code; the fence in `fence_everyone` does the rest.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// Whether this process is registered for [`fence_everyone`](Self::fence_everyone).
    fn takes_part_in_fences(&self) -> bool;

    /// One polite turn of a polling loop.
    fn pause(&self);

    /// Monotonic time since some fixed moment.
    fn now(&self) -> Duration;

    /// Sleeps while the word at `at` is `expected`, at most for `timeout`. May wake for no reason.
    ///
    /// # Safety
    ///
    /// As for [`load32`](Self::load32).
    unsafe fn sleep(&self, at: usize, expected: u32, timeout: Duration);

    /// Sleeps while every one of the words is as given, and [`deaths`](Self::deaths), if that is given too; at most for
    /// `timeout`. May wake for no reason, and wakes after a millisecond where it cannot wait for all of them.
    ///
    /// # Safety
    ///
    /// As for [`load32`](Self::load32), for each word in its own memory.
    unsafe fn sleep_any(words: &[(&Self, usize, u32)], deaths: Option<u32>, timeout: Duration) {
        let _ = deaths;
        if let Some(&(memory, at, expected)) = words.first() {
            // SAFETY: the caller's contract is the callee's.
            unsafe { memory.sleep(at, expected, timeout.min(Duration::from_millis(1))) };
        }
    }

    /// Microseconds of a clock that all participants share, wrapping; zero where there is none. Good for measuring, and
    /// for nothing that has to be right.
    fn clock(&self) -> u32 {
        0
    }

    /// Wakes up to `count` sleepers on the word at `at`; tells how many.
    ///
    /// # Safety
    ///
    /// As for [`load32`](Self::load32).
    unsafe fn wake(&self, at: usize, count: u32) -> u32;

    /// Writes a range back to storage and waits until it is there. Nothing to do where there is no storage.
    ///
    /// # Errors
    ///
    /// What the system says of the write. What of the range is in storage is unknown then.
    ///
    /// # Safety
    ///
    /// `at + len <= len()`.
    unsafe fn sync(&self, at: usize, len: usize) -> std::io::Result<()> {
        let _ = (at, len);
        Ok(())
    }

    /// Names the run of the machine and of the file system since when the memory has been continuous: after a power cut
    /// it is another one. Zero if that cannot be told.
    fn instance(&self) -> u64 {
        0
    }

    /// Names the run of the machine alone. Zero if that cannot be told.
    fn boot(&self) -> u64 {
        0
    }

    /// Takes the lock byte `byte` if nobody holds it, not even another thread of this attachment. The kernel lets go
    /// of it when this process dies.
    fn try_lock(&self, byte: LockByte) -> bool;

    /// Lets go of a lock byte.
    fn unlock(&self, byte: LockByte);

    /// Whether anybody holds the lock byte. True when in doubt.
    fn is_locked(&self, byte: LockByte) -> bool;

    /// Who this process is.
    fn identity(&self) -> Identity;

    /// Whether that process is *proven* not to run any more. False when in doubt.
    fn is_gone(&self, who: &Identity) -> bool;

    /// Watches that process from now on: its end changes [`deaths`](Self::deaths). False if it cannot be watched.
    fn watches(&self, who: &Identity) -> bool {
        let _ = who;
        false
    }

    /// How many of the processes that this one watches have ended.
    fn deaths(&self) -> u32 {
        0
    }

    /// A vigil over all who take part in this memory. None if one of them cannot be watched, or if this process does not take
    /// part.
    fn vigil(&self) -> Option<Vigil<Self>> {
        None
    }

    /// Whether the other one is a clone of this one, or of the same.
    fn is_same(&self, other: &Self) -> bool {
        let _ = other;
        false
    }
}

/// One of the bytes that the kernel locks for a participant and frees when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockByte {
    /// Held for as long as the participant lives.
    Life(u16),
    /// Held by whoever recovers the participant.
    Recovery(u16),
    /// Of an object: which byte means what is its business. Objects use the numbers from their offset divided by 64 on.
    Object(u64),
}

impl LockByte {
    /// Where the byte lies in the file: far past any content, so that it is never confused with data.
    pub const fn offset(self) -> u64 {
        const BASE: u64 = 1 << 40;
        match self {
            Self::Life(id) => BASE + 2 * id as u64,
            Self::Recovery(id) => BASE + 2 * id as u64 + 1,
            Self::Object(number) => 2 * BASE + number,
        }
    }
}

/// Who a process is, so that its end can be proven even where its process id is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Process id, in the namespace below.
    pub pid: u32,
    /// Start time in clock ticks since boot, as the time namespace below counts it.
    pub start: u64,
    /// Inode of the pid namespace.
    pub pid_namespace: u64,
    /// Inode of the time namespace, which shifts start times.
    pub time_namespace: u64,
    /// The first eight bytes of the kernel's boot id.
    pub boot: u64,
}

/// A view does not fit where it was asked for: the segment is damaged, or was made for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {at}, aligned to {align}, do not fit an area of {area} bytes")]
pub struct OutOfArea {
    /// Offset in the area.
    pub at: usize,
    /// Extent asked for.
    pub len: usize,
    /// Alignment asked for.
    pub align: usize,
    /// What there is.
    pub area: usize,
}

/// A range of the memory that belongs to one object.
#[derive(Clone, Debug)]
pub struct Area<M> {
    memory: M,
    at: usize,
    len: usize,
}

impl<M: Memory> Area<M> {
    /// The range of `len` bytes at `at`.
    ///
    /// # Errors
    ///
    /// If the range does not lie in the memory.
    pub fn new(memory: M, at: usize, len: usize) -> Result<Self, OutOfArea> {
        let whole = Self {
            at: 0,
            len: memory.len(),
            memory,
        };
        whole.part(at, len)
    }

    /// A range of this range.
    ///
    /// # Errors
    ///
    /// If the range does not lie in this one.
    pub fn part(&self, at: usize, len: usize) -> Result<Self, OutOfArea> {
        let at = self.check(at, len, 1)?;
        Ok(Self {
            memory: self.memory.clone(),
            at,
            len,
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory, for fences and time.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Where the area begins in the memory.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Copies bytes out, if they all lie in the area.
    ///
    /// # Errors
    ///
    /// If they do not; nothing is copied then.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), OutOfArea> {
        let at = self.check(at, into.len(), 1)?;
        // SAFETY: `check` found `at + into.len()` to lie within the memory.
        unsafe { self.memory.read(at, into) };
        Ok(())
    }

    /// Copies bytes in, if they all lie in the area.
    ///
    /// # Errors
    ///
    /// If they do not; nothing is copied then.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), OutOfArea> {
        let at = self.check(at, from.len(), 1)?;
        // SAFETY: `check` found `at + from.len()` to lie within the memory.
        unsafe { self.memory.write(at, from) };
        Ok(())
    }

    /// Writes a range back to storage and waits, if it lies in the area.
    ///
    /// # Errors
    ///
    /// If it does not, or what the system says of the write.
    pub fn sync(&self, at: usize, len: usize) -> std::io::Result<()> {
        let at = self.check(at, len, 1).map_err(std::io::Error::other)?;
        // SAFETY: `check` found `at + len` to lie within the memory.
        unsafe { self.memory.sync(at, len) }
    }

    /// The place in the memory of an extent of this area.
    fn check(&self, at: usize, len: usize, align: usize) -> Result<usize, OutOfArea> {
        let refusal = OutOfArea {
            at,
            len,
            align,
            area: self.len,
        };
        let end = at.checked_add(len).ok_or(refusal)?;
        let place = self.at.checked_add(at).ok_or(refusal)?;
        if end > self.len || place % align != 0 {
            return Err(refusal);
        }
        Ok(place)
    }
}
