//! Noticing that this process is a forked child.
//!
//! Memory that the kernel wipes on fork holds the number of the process: handles remember it, and compare it with one
//! load. A handle inherited by a child therefore finds another number, whichever way the child was made. Who
//! compares with a bound in any case keeps that there, and has the check for nothing. A `pthread_atfork` handler closes the
//! descriptors whose locks say that the parent lives: the child must not keep a dead parent's byte.
//!
//! # Safety
//!
//! The pages are mapped once, never unmapped, and hold nothing but atomics.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// The process that made a handle. One load tells whether it is still the one that uses it.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    word: &'static AtomicU32,
    number: u32,
}

impl Process {
    /// The calling process.
    pub fn current() -> Self {
        /// Counts the processes of this line of forks. It is inherited, so a child never uses a parent's number.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let word = &wiped().process;
        let mut number = word.load(Ordering::Relaxed);
        if number == 0 {
            let next = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
            // Of several threads that come first, one wins; all take its number.
            number = match word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => next,
                Err(winner) => winner,
            };
        }
        Self { word, number }
    }

    /// Whether the calling process is the one that this value was made in.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.number
    }
}

/// A number below which its owner may go, and zero in every forked child: one comparison tells two things.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound(&'static AtomicU64);

impl Bound {
    #[inline]
    pub(crate) fn get(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whoever has a bound for himself, and sets it.
#[derive(Debug)]
pub(crate) struct BoundOwner {
    bound: Bound,
    /// Which of the words it is; none if all were taken, and the bound stays zero.
    number: Option<usize>,
}

const BOUNDS: usize = 4096;

/// Which words are taken. This is inherited, so a child never uses a word of its parent's handles.
static TAKEN: [AtomicBool; BOUNDS] = [const { AtomicBool::new(false) }; BOUNDS];

impl BoundOwner {
    /// A bound of zero. Of more than 4,096 at once, the rest are zero for good.
    pub(crate) fn new() -> Self {
        static NONE: AtomicU64 = AtomicU64::new(0);
        let free = |taken: &AtomicBool| {
            // ORDERING: Acquire pairs with the Release in `drop`: the word is zero again.
            taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let number = TAKEN.iter().position(free);
        let word = number.map_or(&NONE, |number| &wiped().bounds[number].0);
        Self {
            bound: Bound(word),
            number,
        }
    }

    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// Only in the process that made it.
    pub(crate) fn set(&self, value: u64) {
        if self.number.is_some() {
            self.bound.0.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for BoundOwner {
    fn drop(&mut self) {
        self.set(0);
        if let Some(number) = self.number {
            // ORDERING: Release pairs with the Acquire in `new`.
            TAKEN[number].store(false, Ordering::Release);
        }
    }
}

/// What the kernel wipes on fork. What one thread sets often is on a line of its own.
#[repr(C)]
struct Wiped {
    process: AtomicU32,
    bounds: [Line; BOUNDS],
}

#[repr(align(64))]
struct Line(AtomicU64);

fn wiped() -> &'static Wiped {
    static WIPED: OnceLock<&'static Wiped> = OnceLock::new();
    WIPED.get_or_init(|| {
        let len = size_of::<Wiped>().next_multiple_of(rustix::param::page_size());
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let pages = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .expect("the kernel has no page left");
        // SAFETY: the pages were mapped above; wiping them in children is what they are for.
        let wiped = unsafe { madvise(pages, len, Advice::LinuxWipeOnFork) };
        wiped.expect("the kernel is older than 4.14: it cannot wipe a page on fork");
        // SAFETY: `close_inherited` only stores to atomics and closes descriptors, which a forked child may do.
        unsafe { libc::pthread_atfork(None, None, Some(close_inherited)) };
        // SAFETY: the pages are aligned, long enough, zeroed, which is a valid value of every atomic, never unmapped,
        // and only ever used through these atomics.
        unsafe { &*pages.cast() }
    })
}

/// Descriptors to close in a forked child. Zero is free; otherwise the descriptor plus one.
static CLOSED_IN_CHILD: [AtomicI32; 4096] = [const { AtomicI32::new(0) }; 4096];

/// A descriptor that a forked child closes at once.
#[derive(Debug)]
pub(crate) struct CloseInChild(Option<&'static AtomicI32>);

impl CloseInChild {
    /// Registers `fd`, which must stay open until the value is dropped. With more than 4,096 at once the rest stays
    /// open in children: then the end of such a parent is proven by its process alone.
    pub(crate) fn new(fd: RawFd) -> Self {
        let free = |entry: &&AtomicI32| {
            entry
                .compare_exchange(0, fd + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        Self(CLOSED_IN_CHILD.iter().find(free))
    }
}

impl Drop for CloseInChild {
    fn drop(&mut self) {
        if let Some(entry) = self.0 {
            entry.store(0, Ordering::Relaxed);
        }
    }
}

extern "C" fn close_inherited() {
    for entry in &CLOSED_IN_CHILD {
        let fd = entry.swap(0, Ordering::Relaxed) - 1;
        if fd >= 0 {
            // SAFETY: a registered descriptor is open and owned by the attachment that registered it, which never
            // uses or closes it in a process other than its own.
            unsafe { libc::close(fd) };
        }
    }
}
