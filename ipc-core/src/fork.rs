//! Noticing that this process is a forked child.
//!
//! A page that the kernel wipes on fork holds the number of the process: handles remember it, and compare it with one
//! load. A handle inherited by a child therefore finds another number, whichever way the child was made. A `pthread_atfork`
//! handler closes the descriptors whose locks say that the parent lives: the child must not keep a dead parent's byte.
//!
//! # Safety
//!
//! The page is mapped once, never unmapped, and holds nothing but one atomic word.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

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
        let word = page();
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

fn page() -> &'static AtomicU32 {
    static PAGE: OnceLock<&'static AtomicU32> = OnceLock::new();
    PAGE.get_or_init(|| {
        let len = rustix::param::page_size();
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let page = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .expect("the kernel has no page left");
        // SAFETY: the page was mapped above; wiping it in children is what it is for.
        let wiped = unsafe { madvise(page, len, Advice::LinuxWipeOnFork) };
        wiped.expect("the kernel is older than 4.14: it cannot wipe a page on fork");
        // SAFETY: `atfork_child` only stores to atomics and closes descriptors, which a forked child may do.
        unsafe { libc::pthread_atfork(None, None, Some(close_inherited)) };
        // SAFETY: the page is aligned, zeroed, never unmapped, and only ever used through this atomic.
        unsafe { AtomicU32::from_ptr(page.cast()) }
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
