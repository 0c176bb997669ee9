//! Queues that are made for threads, between processes: what they allocate while they are made lies in memory that all
//! processes inherit at the same address. The same code on the same lines, and fairer than a race of threads with
//! processes.
//!
//! # Safety
//!
//! While an [`Arena`] is being filled there is one thread, and the arena is reset only after everything in it is gone.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Bytes that all queues that exist at a time may take.
const SIZE: usize = 64 << 20;

/// Where the arena begins, if there is one; where the next allocation goes, if it goes there; and how many arenas are in
/// use.
static START: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
static FILLED: AtomicUsize = AtomicUsize::new(0);
static USERS: AtomicUsize = AtomicUsize::new(0);

/// What was made in shared memory. Nothing in it is dropped: a process that goes must not take what others use.
pub(super) struct Arena;

impl Arena {
    /// Makes something whose allocations are shared with all processes that are forked afterwards.
    pub(super) fn fill<T>(make: impl FnOnce() -> T) -> Result<(Self, T)> {
        if START.load(Relaxed) == 0 {
            // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
            let start = unsafe {
                mmap_anonymous(
                    std::ptr::null_mut(),
                    SIZE,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED | MapFlags::NORESERVE,
                )
            };
            let start = start.context("cannot map shared memory")? as usize;
            START.store(start, Relaxed);
        }
        if USERS.fetch_add(1, Relaxed) == 0 {
            FILLED.store(START.load(Relaxed), Relaxed);
        }
        NEXT.store(FILLED.load(Relaxed), Relaxed);
        let made = make();
        FILLED.store(NEXT.swap(0, Relaxed), Relaxed);
        Ok((Self, made))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        USERS.fetch_sub(1, Relaxed);
    }
}

/// The system's allocator, but for what belongs into the arena.
struct Switch;

#[global_allocator]
static ALLOCATOR: Switch = Switch;

fn is_shared(address: usize) -> bool {
    let start = START.load(Relaxed);
    start != 0 && (start..start + SIZE).contains(&address)
}

// SAFETY: memory of the arena is handed out once, aligned and within its bounds, until all of it is reset; everything else
// is the system's.
unsafe impl GlobalAlloc for Switch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = NEXT.load(Relaxed);
        if next == 0 {
            // SAFETY: the caller's promise is handed on.
            return unsafe { System.alloc(layout) };
        }
        let start = next.next_multiple_of(layout.align().max(128));
        if start + layout.size() > START.load(Relaxed) + SIZE {
            return std::ptr::null_mut();
        }
        NEXT.store(start + layout.size(), Relaxed);
        start as *mut u8
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !is_shared(pointer as usize) {
            // SAFETY: the caller's promise is handed on; it is not ours, so it is the system's.
            unsafe { System.dealloc(pointer, layout) };
        }
    }
}
