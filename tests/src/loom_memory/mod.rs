//! The seam over loom's atomics, so that loom runs the shipped algorithms through every execution that weak memory allows.
//!
//! Control words are loom atomics, one for each place that a model names. Payload that one side at a time may touch lies in
//! loom cells of eight bytes, where loom reports two accesses that nothing orders, at least one of them a write: what
//! protocols promise exclusive is checked to be so. Payload that is read while it is written lies in relaxed words. A
//! memory can be made to [forget](orderings::Weakening) one ordering of the source, which shows that a model needs it.
//!
//! # What it says of the kernel
//!
//! A sleeper looks at its word and queues up under a lock; a wake-up takes the same lock, and ends as many sleeps as it
//! is asked to, the oldest first. Both are full fences. No sleep ends by itself, so that one that needs to is a deadlock,
//! which loom reports. Taking and freeing a lock byte are ordered among themselves, byte by byte; whoever takes a byte or
//! asks for it sees what was done before it was taken or freed last. Asking is a load, so that what was loaded before it
//! may be newer than the answer. An identity that no process here has is proven gone: it is a mixture of two. A process
//! that [dies](LoomMemory::die) frees its bytes behind its last instruction; then its end is counted and wakes those who
//! sleep on the count, if it was watched before.
//!
//! # Every access is a turn
//!
//! Loom tries another order of two accesses to a word only if no other access to it lies between them, so that a thread's
//! own load hides its store from an earlier load of another thread. Here each access is a turn: it first touches an object
//! that all share and that orders nothing, so that every order of any two accesses is tried, up to the bound on preemptions.
//!
//! # What it cannot say
//!
//! Loom takes sequentially consistent accesses for acquiring and releasing ones, but knows sequentially consistent fences.
//! Of `membarrier` it is told the contract, and no more: a fence of everybody and one that is made if asked are ordered,
//! and whoever comes second sees what the first one did before. That the system call and the compiler barrier keep this
//! is the kernel's word and the evidence of the stress. Two fences that are made if asked order each other here too,
//! which the machine does not promise, so no model has several publishers of an event that streams.
//!
//! # Safety
//!
//! Nothing here points at memory: places are looked up, and one that the model did not name panics.
#![allow(unsafe_code)]

pub mod orderings;

use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_core::memory::{Area, Identity, LockByte, Memory};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};

use orderings::{Part, Weakening};

/// Places of a model.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// 64-bit control words.
    pub words64: Vec<usize>,
    /// 32-bit control words.
    pub words32: Vec<usize>,
    /// Where 64-bit words lie that nobody writes: they are zero, and reading them is no access.
    pub still: Vec<Range<usize>>,
    /// Payload of eight bytes each that may be read while it is written.
    pub racing: Vec<usize>,
    /// Payload cells of eight bytes that may not.
    pub cells: Vec<usize>,
    /// Lock bytes.
    pub locks: Vec<LockByte>,
    /// Bytes in all.
    pub len: usize,
}

/// Shared memory of a loom model, as one process sees it.
#[derive(Clone)]
pub struct LoomMemory {
    shared: Arc<Shared>,
    process: u32,
    /// Whether time goes on whenever this process looks at it: a millisecond each time.
    ticks: Option<Arc<std::sync::atomic::AtomicU64>>,
    membarrier: Membarrier,
    /// Whether a look that finds nothing must not be followed by another.
    never_polls: bool,
}

/// Whether this process takes part in `membarrier`, and whether anybody calls it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Membarrier {
    TakesNoPart,
    TakesPart,
    NeverCalled,
}

struct Shared {
    places: Places,
    words64: Vec<AtomicU64>,
    words32: Vec<Futex>,
    racing: Vec<AtomicU64>,
    cells: Vec<UnsafeCell<u64>>,
    /// The process that holds each lock byte, or zero.
    locks: Vec<AtomicU32>,
    /// Touched before every access: a condition that nobody waits for.
    turn: Condvar,
    /// What the two fences of `membarrier` are ordered by.
    asked: AtomicU32,
    /// A bit for each process whose end can be seen.
    gone: AtomicU64,
    /// A bit for each process whose end is counted.
    watched: AtomicU64,
    weakening: Option<Weakening>,
}

/// A word and the queue of those who sleep on it.
struct Futex {
    word: AtomicU32,
    sleepers: Mutex<u32>,
    woken: Condvar,
}

// SAFETY: cells are accessed through loom, which reports unordered accesses instead of making them.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl LoomMemory {
    /// A memory of zeros with those places, as process 1 sees it.
    pub fn new(places: Places, weakening: Option<Weakening>) -> Self {
        let shared = Shared {
            words64: places.words64.iter().map(|_| AtomicU64::new(0)).collect(),
            words32: places.words32.iter().map(|_| Futex::new()).collect(),
            racing: places.racing.iter().map(|_| AtomicU64::new(0)).collect(),
            cells: places.cells.iter().map(|_| UnsafeCell::new(0)).collect(),
            locks: places.locks.iter().map(|_| AtomicU32::new(0)).collect(),
            turn: Condvar::new(),
            asked: AtomicU32::new(0),
            gone: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            places,
            weakening,
        };
        Self {
            shared: Arc::new(shared),
            process: 1,
            ticks: None,
            membarrier: Membarrier::TakesNoPart,
            never_polls: false,
        }
    }

    /// The same memory, as seen by process `process`.
    pub fn of(&self, process: u32) -> Self {
        Self {
            process,
            ..self.clone()
        }
    }

    /// The same memory, as seen by a process whose time goes on.
    pub fn ticking(&self) -> Self {
        Self {
            ticks: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// The same memory, as seen by a process that takes part in `membarrier`.
    pub fn registered(&self) -> Self {
        Self {
            membarrier: Membarrier::TakesPart,
            ..self.clone()
        }
    }

    /// The same memory, as seen by a process that takes part in `membarrier`, which nobody ever calls: so it passes no
    /// fence on behalf of that.
    pub fn never_asked(&self) -> Self {
        Self {
            membarrier: Membarrier::NeverCalled,
            ..self.clone()
        }
    }

    /// The same memory, as seen by a process that must find what it looks for at once: it panics where it would poll.
    pub fn at_once(&self) -> Self {
        Self {
            never_polls: true,
            ..self.clone()
        }
    }

    /// All of it.
    pub fn area(&self) -> Area<Self> {
        Area::new(self.clone(), 0, self.len()).expect("all of it")
    }

    /// The process ends, and the kernel frees what it held.
    pub fn die(&self) {
        for &byte in &self.shared.places.locks {
            self.unlock(byte);
        }
        self.shared
            .gone
            .fetch_or(1 << self.process, Ordering::AcqRel);
        // As the kernel does, which knows an order of the two: an exchange sees the newest value.
        let watched = self.shared.watched.fetch_or(0, Ordering::AcqRel);
        if watched >> self.process & 1 != 0 {
            for futex in &self.shared.words32 {
                futex.wake(u32::MAX);
            }
        }
    }

    /// The value in the payload cell at `at`, which nobody may be writing.
    pub fn get(&self, at: usize) -> u64 {
        self.cell(at).with(|cell| {
            // SAFETY: loom has just checked that no write races with this.
            unsafe { *cell }
        })
    }

    /// Sets the payload cell at `at`, which nobody may be using.
    pub fn set(&self, at: usize, value: u64) {
        self.cell(at).with_mut(|cell| {
            // SAFETY: loom has just checked that no access races with this.
            unsafe { *cell = value }
        });
    }

    fn turn(&self) {
        self.shared.turn.notify_one();
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        self.turn();
        &self.shared.words64[place(&self.shared.places.words64, &at)]
    }

    fn futex(&self, at: usize) -> &Futex {
        self.turn();
        &self.shared.words32[place(&self.shared.places.words32, &at)]
    }

    fn word32(&self, at: usize) -> &AtomicU32 {
        &self.futex(at).word
    }

    fn cell(&self, at: usize) -> &UnsafeCell<u64> {
        &self.shared.cells[place(&self.shared.places.cells, &at)]
    }

    fn racing(&self, at: usize) -> Option<&AtomicU64> {
        let places = &self.shared.places.racing;
        let index = places.iter().position(|&place| place == at)?;
        self.turn();
        Some(&self.shared.racing[index])
    }

    fn lock(&self, byte: LockByte) -> &AtomicU32 {
        self.turn();
        &self.shared.locks[place(&self.shared.places.locks, &byte)]
    }

    /// What is left of an ordering of the source.
    fn left(&self, caller: &Location<'_>, order: Ordering) -> Ordering {
        match self.shared.weakening {
            Some(weakening) => weakening.left(caller, order),
            None => order,
        }
    }

    /// The same for a load, which releases nothing.
    fn left_of_load(&self, caller: &Location<'_>, order: Ordering) -> Ordering {
        match self.left(caller, order) {
            Ordering::Release => Ordering::Relaxed,
            left => left,
        }
    }

    /// The same for a store, which acquires nothing.
    fn left_of_store(&self, caller: &Location<'_>, order: Ordering) -> Ordering {
        match self.left(caller, order) {
            Ordering::Acquire => Ordering::Relaxed,
            left => left,
        }
    }

    fn forgets(&self, caller: &Location<'_>, what: Part) -> bool {
        self.shared
            .weakening
            .is_some_and(|weakening| weakening.forgets(caller, what))
    }

    /// One of the two fences of `membarrier`.
    fn fence_of_both(&self, caller: &Location<'_>) {
        if !self.forgets(caller, Part::Fence) {
            self.turn();
            self.shared.asked.fetch_or(0, Ordering::AcqRel);
        }
    }
}

impl Futex {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            sleepers: Mutex::new(0),
            woken: Condvar::new(),
        }
    }

    /// Sleeps unless the word differs or `is_over` says so.
    fn sleep(&self, expected: u32, is_over: impl FnOnce() -> bool) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if self.word.load(Ordering::Relaxed) == expected && !is_over() {
            *sleepers += 1;
            drop(self.woken.wait(sleepers).unwrap());
        }
    }

    fn wake(&self, count: u32) -> u32 {
        let mut sleepers = self.sleepers.lock().unwrap();
        let found = count.min(*sleepers);
        *sleepers -= found;
        for _ in 0..found {
            self.woken.notify_one();
        }
        found
    }
}

fn place<T: PartialEq + std::fmt::Debug>(places: &[T], at: &T) -> usize {
    places
        .iter()
        .position(|place| place == at)
        .unwrap_or_else(|| panic!("the model names no such place: {at:?}"))
}

// SAFETY: there is no memory behind the places; `len` is a constant.
unsafe impl Memory for LoomMemory {
    fn len(&self) -> usize {
        self.shared.places.len
    }

    #[track_caller]
    unsafe fn load32(&self, at: usize, order: Ordering) -> u32 {
        self.word32(at)
            .load(self.left_of_load(Location::caller(), order))
    }

    #[track_caller]
    unsafe fn store32(&self, at: usize, value: u32, order: Ordering) {
        self.word32(at)
            .store(value, self.left_of_store(Location::caller(), order));
    }

    #[track_caller]
    unsafe fn exchange32(
        &self,
        at: usize,
        old: u32,
        new: u32,
        order: Ordering,
    ) -> Result<u32, u32> {
        let order = self.left(Location::caller(), order);
        self.word32(at)
            .compare_exchange(old, new, order, Ordering::Relaxed)
    }

    #[track_caller]
    unsafe fn load64(&self, at: usize, order: Ordering) -> u64 {
        if self
            .shared
            .places
            .still
            .iter()
            .any(|still| still.contains(&at))
        {
            return 0;
        }
        self.word64(at)
            .load(self.left_of_load(Location::caller(), order))
    }

    #[track_caller]
    unsafe fn store64(&self, at: usize, value: u64, order: Ordering) {
        self.word64(at)
            .store(value, self.left_of_store(Location::caller(), order));
    }

    #[track_caller]
    unsafe fn exchange64(
        &self,
        at: usize,
        old: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        let caller = Location::caller();
        let word = self.word64(at);
        if self.forgets(caller, Part::Exchange) {
            let found = word.load(Ordering::Relaxed);
            if found != old {
                return Err(found);
            }
            word.store(new, Ordering::Relaxed);
            return Ok(found);
        }
        word.compare_exchange(old, new, self.left(caller, order), Ordering::Relaxed)
    }

    #[track_caller]
    unsafe fn add64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        self.word64(at)
            .fetch_add(value, self.left(Location::caller(), order))
    }

    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        for (n, piece) in into.chunks_mut(8).enumerate() {
            let at = at + 8 * n;
            let value = match self.racing(at) {
                Some(word) => word.load(Ordering::Relaxed),
                None => self.get(at),
            };
            piece.copy_from_slice(&value.to_ne_bytes()[..piece.len()]);
        }
    }

    unsafe fn write(&self, at: usize, from: &[u8]) {
        for (n, piece) in from.chunks(8).enumerate() {
            let at = at + 8 * n;
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            let value = u64::from_ne_bytes(bytes);
            match self.racing(at) {
                Some(word) => word.store(value, Ordering::Relaxed),
                None => self.set(at, value),
            }
        }
    }

    #[track_caller]
    fn fence(&self, order: Ordering) {
        if !self.forgets(Location::caller(), Part::Fence) {
            self.turn();
            fence(order);
        }
    }

    #[track_caller]
    fn fence_everyone(&self) -> bool {
        assert!(
            self.membarrier == Membarrier::TakesPart,
            "the model says that nobody calls it"
        );
        self.fence_of_both(Location::caller());
        true
    }

    #[track_caller]
    fn fence_if_asked(&self) {
        if self.membarrier == Membarrier::TakesPart {
            self.fence_of_both(Location::caller());
        }
    }

    fn takes_part_in_fences(&self) -> bool {
        self.membarrier != Membarrier::TakesNoPart
    }

    fn pause(&self) {
        assert!(!self.never_polls, "it has to look again");
        loom::thread::yield_now();
    }

    fn now(&self) -> Duration {
        let ticks = self
            .ticks
            .as_ref()
            .map_or(0, |ticks| ticks.fetch_add(1, Ordering::Relaxed));
        Duration::from_millis(ticks)
    }

    unsafe fn sleep(&self, at: usize, expected: u32, _: Duration) {
        self.futex(at).sleep(expected, || false);
    }

    unsafe fn sleep_any(words: &[(&Self, usize, u32)], deaths: Option<u32>, _: Duration) {
        let &[(memory, at, expected)] = words else {
            panic!("a model sleeps on one word, and on deaths");
        };
        let is_over = || deaths.is_some_and(|deaths| memory.deaths() != deaths);
        memory.futex(at).sleep(expected, is_over);
    }

    unsafe fn wake(&self, at: usize, count: u32) -> u32 {
        self.futex(at).wake(count)
    }

    fn try_lock(&self, byte: LockByte) -> bool {
        let (lock, me) = (self.lock(byte), self.process);
        lock.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn unlock(&self, byte: LockByte) {
        let (lock, me) = (self.lock(byte), self.process);
        // Fails if it is another's.
        let _ = lock.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_locked(&self, byte: LockByte) -> bool {
        self.lock(byte).load(Ordering::Acquire) != 0
    }

    fn identity(&self) -> Identity {
        identity(self.process)
    }

    fn is_gone(&self, who: &Identity) -> bool {
        self.turn();
        let gone = self.shared.gone.load(Ordering::Acquire);
        let process = (0..8).find(|&process| identity(process) == *who);
        process.is_none_or(|process| gone >> process & 1 != 0)
    }

    fn watches(&self, who: &Identity) -> bool {
        self.turn();
        self.shared.watched.fetch_or(1 << who.pid, Ordering::AcqRel);
        self.shared.gone.fetch_or(0, Ordering::AcqRel) >> who.pid & 1 == 0
    }

    fn deaths(&self) -> u32 {
        self.turn();
        let watched = self.shared.watched.load(Ordering::Acquire);
        (self.shared.gone.load(Ordering::Acquire) & watched).count_ones()
    }
}

/// Who a process is. Two differ in all that is their own.
pub fn identity(process: u32) -> Identity {
    Identity {
        pid: process,
        start: 100 + u64::from(process),
        pid_namespace: 1,
        time_namespace: 1,
        boot: 1,
    }
}
