//! The seam over loom's atomics, so that loom runs the shipped algorithms through every execution that weak memory allows.
//!
//! Control words are loom atomics, one for each place that a model names. Payload lies in loom cells of eight bytes, where
//! loom reports two accesses that nothing orders, at least one of them a write: what protocols promise exclusive is
//! checked to be so. A memory can be made to [forget](LoomMemory::weakened) one ordering, which shows that a model needs it.
//!
//! Loom takes sequentially consistent accesses for acquiring and releasing ones, and knows nothing of `membarrier`.
//!
//! # Safety
//!
//! Nothing here points at memory: places are looked up, and one that the model did not name panics.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_core::memory::{Identity, LockByte, Memory};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};

/// What of the orderings is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakening {
    /// Nothing.
    None,
    /// Stores to the word at that place become relaxed.
    Stores(usize),
    /// Loads of the word at that place become relaxed.
    Loads(usize),
    /// Compare-exchanges of the word at that place become relaxed.
    Exchanges(usize),
    /// Compare-exchanges of the word at that place become a load and a relaxed store.
    Stored(usize),
    /// Fences are left out.
    Fences,
}

/// Places of a model.
#[derive(Clone, Debug)]
pub struct Places {
    /// 64-bit control words.
    pub words64: Vec<usize>,
    /// 32-bit control words.
    pub words32: Vec<usize>,
    /// Payload cells of eight bytes.
    pub cells: Vec<usize>,
    /// Bytes in all.
    pub len: usize,
}

/// Shared memory of a loom model.
#[derive(Clone)]
pub struct LoomMemory {
    shared: Arc<Shared>,
    weakening: Weakening,
}

struct Shared {
    places: Places,
    words64: Vec<AtomicU64>,
    words32: Vec<AtomicU32>,
    cells: Vec<UnsafeCell<u64>>,
    /// How many sleep on any word. Under the lock, as in the kernel, a sleeper looks at its word and queues up.
    sleepers: Mutex<u32>,
    woken: Condvar,
}

// SAFETY: cells are accessed through loom, which reports unordered accesses instead of making them.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl LoomMemory {
    /// A memory of zeros with those places.
    pub fn new(places: Places) -> Self {
        let shared = Shared {
            words64: places.words64.iter().map(|_| AtomicU64::new(0)).collect(),
            words32: places.words32.iter().map(|_| AtomicU32::new(0)).collect(),
            cells: places.cells.iter().map(|_| UnsafeCell::new(0)).collect(),
            places,
            sleepers: Mutex::new(0),
            woken: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            weakening: Weakening::None,
        }
    }

    /// The same memory, as seen by a thread that forgets an ordering.
    pub fn weakened(&self, weakening: Weakening) -> Self {
        Self {
            weakening,
            ..self.clone()
        }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        &self.shared.words64[place(&self.shared.places.words64, at)]
    }

    fn word32(&self, at: usize) -> &AtomicU32 {
        &self.shared.words32[place(&self.shared.places.words32, at)]
    }

    fn cell(&self, at: usize) -> &UnsafeCell<u64> {
        &self.shared.cells[place(&self.shared.places.cells, at)]
    }

    fn unless(&self, weakening: Weakening, order: Ordering) -> Ordering {
        if self.weakening == weakening {
            Ordering::Relaxed
        } else {
            order
        }
    }
}

fn place(places: &[usize], at: usize) -> usize {
    places
        .iter()
        .position(|&place| place == at)
        .unwrap_or_else(|| panic!("the model names no such place: {at}"))
}

// SAFETY: there is no memory behind the places; `len` is a constant.
unsafe impl Memory for LoomMemory {
    fn len(&self) -> usize {
        self.shared.places.len
    }

    unsafe fn load32(&self, at: usize, order: Ordering) -> u32 {
        self.word32(at)
            .load(self.unless(Weakening::Loads(at), order))
    }

    unsafe fn store32(&self, at: usize, value: u32, order: Ordering) {
        let order = self.unless(Weakening::Stores(at), order);
        self.word32(at).store(value, order);
    }

    unsafe fn exchange32(
        &self,
        at: usize,
        old: u32,
        new: u32,
        order: Ordering,
    ) -> Result<u32, u32> {
        let order = self.unless(Weakening::Exchanges(at), order);
        self.word32(at)
            .compare_exchange(old, new, order, Ordering::Relaxed)
    }

    unsafe fn load64(&self, at: usize, order: Ordering) -> u64 {
        self.word64(at)
            .load(self.unless(Weakening::Loads(at), order))
    }

    unsafe fn store64(&self, at: usize, value: u64, order: Ordering) {
        let order = self.unless(Weakening::Stores(at), order);
        self.word64(at).store(value, order);
    }

    unsafe fn exchange64(
        &self,
        at: usize,
        old: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        let word = self.word64(at);
        if self.weakening == Weakening::Stored(at) {
            let found = word.load(Ordering::Relaxed);
            if found != old {
                return Err(found);
            }
            word.store(new, Ordering::Relaxed);
            return Ok(found);
        }
        let order = self.unless(Weakening::Exchanges(at), order);
        word.compare_exchange(old, new, order, Ordering::Relaxed)
    }

    unsafe fn add64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        self.word64(at).fetch_add(value, order)
    }

    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        for (n, piece) in into.chunks_mut(8).enumerate() {
            let value = self.cell(at + 8 * n).with(|cell| {
                // SAFETY: loom has just checked that no write races with this.
                unsafe { *cell }
            });
            piece.copy_from_slice(&value.to_ne_bytes()[..piece.len()]);
        }
    }

    unsafe fn write(&self, at: usize, from: &[u8]) {
        for (n, piece) in from.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            self.cell(at + 8 * n).with_mut(|cell| {
                // SAFETY: loom has just checked that no access races with this.
                unsafe { *cell = u64::from_ne_bytes(bytes) }
            });
        }
    }

    fn fence(&self, order: Ordering) {
        if self.weakening != Weakening::Fences {
            fence(order);
        }
    }

    fn fence_everyone(&self) -> bool {
        false
    }

    fn takes_part_in_fences(&self) -> bool {
        false
    }

    fn pause(&self) {
        loom::thread::yield_now();
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    unsafe fn sleep(&self, at: usize, expected: u32, _: Duration) {
        let mut sleepers = self.shared.sleepers.lock().unwrap();
        if self.word32(at).load(Ordering::Relaxed) == expected {
            *sleepers += 1;
            drop(self.shared.woken.wait(sleepers).unwrap());
        }
    }

    unsafe fn wake(&self, _: usize, _: u32) -> u32 {
        let mut sleepers = self.shared.sleepers.lock().unwrap();
        self.shared.woken.notify_all();
        std::mem::take(&mut *sleepers)
    }

    fn try_lock(&self, _: LockByte) -> bool {
        unimplemented!("no model locks a byte")
    }

    fn unlock(&self, _: LockByte) {
        unimplemented!("no model locks a byte")
    }

    fn is_locked(&self, _: LockByte) -> bool {
        unimplemented!("no model locks a byte")
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }

    fn is_gone(&self, _: &Identity) -> bool {
        false
    }
}
