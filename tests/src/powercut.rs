//! A disk that loses power: the shipped algorithms run on memory that logs every store and sync, and every state that the
//! medium may be in after a cut is made from the log.
//!
//! # The model
//!
//! That of persistent memory, a superset of torn sectors and pages: after a cut, each line of 64 bytes that was stored to
//! since the last returned sync of its page holds the result of some prefix of its own stores, independent of all other
//! lines. What a returned sync covered is there. (A page may be written back at any time, and a store may hit a page while
//! it is on its way to the medium; lines of 64 bytes arrive whole.)
//!
//! # Safety
//!
//! All memory is a vector of words behind a `RefCell`; every access is bounds-checked by it.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_core::memory::{Identity, LockByte, Memory};

const LINE: usize = 64;
const PAGE: usize = 4096;

/// What a line of eight words held, the oldest first.
type Versions = Vec<[u64; 8]>;

/// What happened to the memory, in order.
#[derive(Clone, Debug)]
enum Step {
    /// A word of the memory, by its index, got a value.
    Store(usize, u64),
    /// A sync of these bytes returned.
    Sync(usize, usize),
    /// The test noted something, such as an id that was given.
    Note(u64),
}

/// Memory whose history is known.
#[derive(Debug)]
pub struct Disk {
    words: RefCell<Vec<u64>>,
    start: Vec<u64>,
    log: RefCell<Vec<Step>>,
    held: RefCell<BTreeMap<u64, u32>>,
    clock: Cell<u64>,
    instance: u64,
    lies: bool,
    full: Cell<bool>,
}

impl Disk {
    /// A disk with this image, under a run of the machine of that number.
    pub fn new(image: Vec<u64>, instance: u64) -> Rc<Self> {
        Self::build(image, instance, false)
    }

    /// A disk that says it has synced and has not: whatever is checked with it must fail.
    pub fn lying(image: Vec<u64>, instance: u64) -> Rc<Self> {
        Self::build(image, instance, true)
    }

    fn build(image: Vec<u64>, instance: u64, lies: bool) -> Rc<Self> {
        Rc::new(Self {
            start: image.clone(),
            words: RefCell::new(image),
            log: RefCell::default(),
            held: RefCell::default(),
            clock: Cell::new(0),
            instance,
            lies,
            full: Cell::new(false),
        })
    }

    /// From now on no sync succeeds.
    pub fn fail(&self) {
        self.full.set(true);
    }

    /// The memory as one process sees it.
    pub fn memory(self: &Rc<Self>, process: u32) -> Logged {
        Logged {
            disk: self.clone(),
            process,
        }
    }

    /// Puts a note into the log.
    pub fn note(&self, what: u64) {
        self.log.borrow_mut().push(Step::Note(what));
    }

    /// How many moments there are at which the power can be cut.
    pub fn moments(&self) -> usize {
        self.log.borrow().len() + 1
    }

    /// The moments just before a sync returns, when most is at stake.
    pub fn syncs(&self) -> Vec<usize> {
        let log = self.log.borrow();
        let synced = log.iter().enumerate();
        let synced = synced.filter(|(_, step)| matches!(step, Step::Sync(..)));
        synced.map(|(moment, _)| moment).collect()
    }

    /// The moments of those notes that `wanted` picks.
    pub fn moments_of(&self, wanted: impl Fn(u64) -> bool) -> Vec<usize> {
        let log = self.log.borrow();
        let noted = log.iter().enumerate();
        let noted = noted.filter(|(_, step)| matches!(step, Step::Note(what) if wanted(*what)));
        noted.map(|(moment, _)| moment).collect()
    }

    /// The notes made before a moment.
    pub fn notes_before(&self, moment: usize) -> BTreeSet<u64> {
        let log = self.log.borrow();
        let notes = log[..moment].iter().filter_map(|step| {
            if let Step::Note(what) = step {
                Some(*what)
            } else {
                None
            }
        });
        notes.collect()
    }

    /// What the memory held at a moment, which is what a kill leaves.
    pub fn memory_at(&self, moment: usize) -> Vec<u64> {
        let mut words = self.start.clone();
        for step in &self.log.borrow()[..moment] {
            if let Step::Store(word, value) = *step {
                words[word] = value;
            }
        }
        words
    }

    /// Calls `check` with the images that the medium may hold after a cut at a moment: all of them if there are no more
    /// than `limit`, otherwise as many chosen ones. Tells how many there were.
    pub fn images(
        &self,
        moment: usize,
        limit: usize,
        random: &mut Random,
        mut check: impl FnMut(Vec<u64>),
    ) -> usize {
        let (durable, lines) = self.pending(moment);
        let choices: Vec<usize> = lines.iter().map(|(_, versions)| versions.len()).collect();
        let total = choices
            .iter()
            .try_fold(1_usize, |total, count| total.checked_mul(*count));
        let make = |chosen: &[usize]| {
            let mut image = durable.clone();
            for ((line, versions), choice) in lines.iter().zip(chosen) {
                image[*line..*line + LINE / 8].copy_from_slice(&versions[*choice]);
            }
            image
        };
        let mut chosen = vec![0; lines.len()];
        if let Some(total) = total.filter(|total| *total <= limit) {
            for _ in 0..total {
                check(make(&chosen));
                // Counts like an odometer through all combinations.
                for (digit, count) in chosen.iter_mut().zip(&choices) {
                    *digit = (*digit + 1) % count;
                    if *digit != 0 {
                        break;
                    }
                }
            }
            return total;
        }
        // The corners first: nothing new, everything new, each line alone.
        check(make(&chosen));
        let newest: Vec<usize> = choices.iter().map(|count| count - 1).collect();
        check(make(&newest));
        let mut made = 2;
        for line in 0..lines.len() {
            let mut alone = vec![0; lines.len()];
            alone[line] = newest[line];
            check(make(&alone));
            let mut but = newest.clone();
            but[line] = 0;
            check(make(&but));
            made += 2;
        }
        while made < limit {
            chosen
                .iter_mut()
                .zip(&choices)
                .for_each(|(digit, count)| *digit = random.below(*count as u64) as usize);
            check(make(&chosen));
            made += 1;
        }
        made
    }

    /// What is durable at a moment, and for each line stored to since, all that it may hold.
    fn pending(&self, moment: usize) -> (Vec<u64>, Vec<(usize, Versions)>) {
        let log = self.log.borrow();
        let mut durable = self.start.clone();
        let mut lines: BTreeMap<usize, Versions> = BTreeMap::new();
        for step in &log[..moment] {
            match *step {
                Step::Store(word, value) => {
                    let line = word / 8 * 8;
                    let versions = lines
                        .entry(line)
                        .or_insert_with(|| vec![durable[line..line + 8].try_into().unwrap()]);
                    let mut next = *versions.last().unwrap();
                    next[word % 8] = value;
                    versions.push(next);
                }
                Step::Sync(at, len) => {
                    let pages = at / PAGE * PAGE / 8..(at + len).div_ceil(PAGE) * PAGE / 8;
                    let synced: Vec<usize> = lines.range(pages).map(|(line, _)| *line).collect();
                    for line in synced {
                        let versions = lines.remove(&line).unwrap_or_default();
                        durable[line..line + 8].copy_from_slice(versions.last().unwrap());
                    }
                }
                Step::Note(_) => {}
            }
        }
        (durable, lines.into_iter().collect())
    }
}

/// The memory of one process on a [`Disk`].
#[derive(Clone, Debug)]
pub struct Logged {
    disk: Rc<Disk>,
    process: u32,
}

impl Logged {
    fn store(&self, word: usize, value: u64) {
        self.disk.words.borrow_mut()[word] = value;
        self.disk.log.borrow_mut().push(Step::Store(word, value));
    }

    fn load(&self, word: usize) -> u64 {
        self.disk.words.borrow()[word]
    }

    fn half(&self, at: usize, value: Option<u32>) -> u32 {
        let (word, shift) = (at / 8, at % 8 * 8);
        let old = self.load(word);
        if let Some(value) = value {
            self.store(
                word,
                old & !(0xffff_ffff << shift) | u64::from(value) << shift,
            );
        }
        (old >> shift) as u32
    }
}

// SAFETY: every access goes through a bounds-checked vector, whose length never changes.
unsafe impl Memory for Logged {
    fn len(&self) -> usize {
        self.disk.start.len() * 8
    }

    unsafe fn load32(&self, at: usize, _: Ordering) -> u32 {
        self.half(at, None)
    }

    unsafe fn store32(&self, at: usize, value: u32, _: Ordering) {
        self.half(at, Some(value));
    }

    unsafe fn exchange32(&self, at: usize, old: u32, new: u32, _: Ordering) -> Result<u32, u32> {
        let found = self.half(at, None);
        if found == old {
            Ok(self.half(at, Some(new)))
        } else {
            Err(found)
        }
    }

    unsafe fn load64(&self, at: usize, _: Ordering) -> u64 {
        self.load(at / 8)
    }

    unsafe fn store64(&self, at: usize, value: u64, _: Ordering) {
        self.store(at / 8, value);
    }

    unsafe fn exchange64(&self, at: usize, old: u64, new: u64, _: Ordering) -> Result<u64, u64> {
        let found = self.load(at / 8);
        if found == old {
            self.store(at / 8, new);
            Ok(found)
        } else {
            Err(found)
        }
    }

    unsafe fn add64(&self, at: usize, value: u64, _: Ordering) -> u64 {
        let old = self.load(at / 8);
        self.store(at / 8, old.wrapping_add(value));
        old
    }

    unsafe fn read(&self, at: usize, into: &mut [u8]) {
        for (at, byte) in (at..).zip(into) {
            *byte = self.load(at / 8).to_ne_bytes()[at % 8];
        }
    }

    unsafe fn write(&self, at: usize, from: &[u8]) {
        let (mut at, mut from) = (at, from);
        while !from.is_empty() {
            let (piece, rest) = from.split_at(from.len().min(8 - at % 8));
            let mut bytes = self.load(at / 8).to_ne_bytes();
            bytes[at % 8..][..piece.len()].copy_from_slice(piece);
            self.store(at / 8, u64::from_ne_bytes(bytes));
            at += piece.len();
            from = rest;
        }
    }

    fn fence(&self, _: Ordering) {}

    fn takes_part_in_fences(&self) -> bool {
        false
    }

    fn fence_everyone(&self) -> bool {
        false
    }

    fn pause(&self) {}

    fn now(&self) -> Duration {
        // Each look at the clock lets some time pass, so that every wait comes to its deadline.
        self.disk.clock.set(self.disk.clock.get() + 1);
        Duration::from_millis(self.disk.clock.get())
    }

    unsafe fn sleep(&self, _: usize, _: u32, timeout: Duration) {
        self.disk
            .clock
            .set(self.disk.clock.get() + timeout.as_millis() as u64);
    }

    unsafe fn wake(&self, _: usize, _: u32) -> u32 {
        0
    }

    unsafe fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        if self.disk.full.get() {
            return Err(io::Error::from_raw_os_error(5));
        }
        if !self.disk.lies {
            self.disk.log.borrow_mut().push(Step::Sync(at, len));
        }
        Ok(())
    }

    fn instance(&self) -> u64 {
        self.disk.instance
    }

    fn try_lock(&self, byte: LockByte) -> bool {
        let mut held = self.disk.held.borrow_mut();
        let free = !held.contains_key(&byte.offset());
        if free {
            held.insert(byte.offset(), self.process);
        }
        free
    }

    fn unlock(&self, byte: LockByte) {
        let mut held = self.disk.held.borrow_mut();
        if held.get(&byte.offset()) == Some(&self.process) {
            held.remove(&byte.offset());
        }
    }

    fn is_locked(&self, byte: LockByte) -> bool {
        self.disk.held.borrow().contains_key(&byte.offset())
    }

    fn identity(&self) -> Identity {
        Identity {
            pid: self.process,
            ..Identity::default()
        }
    }

    fn is_gone(&self, _: &Identity) -> bool {
        false
    }
}

/// How many images a run makes at least: `IPC_TEST_IMAGES`, or the quick number.
pub fn wanted() -> usize {
    std::env::var("IPC_TEST_IMAGES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000)
}

/// A small generator whose seed is printed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `IPC_TEST_SEED`, or the time; prints it.
    pub fn seeded() -> Self {
        let given = std::env::var("IPC_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let now = || {
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default()
                .as_nanos() as u64
        };
        let seed = given.unwrap_or_else(now) | 1;
        println!("IPC_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
