//! A peer that writes anything anywhere.
//!
//! # Safety
//!
//! Pages that nobody may touch are put beside the mapping of a ring, where nothing else is mapped: the kernel refuses
//! them otherwise.
#![allow(unsafe_code)]

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use ipc_core::segment::{Place, Segment};
use ipc_ring::{ONLY, Observer};
use ipc_tests::adapters::{Consumer, KINDS, Kind, Producer, Ring, expect_rubbish};
use ipc_tests::child::Child;

use crate::backing::{Backing, Made};

/// A generator of our own: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Overwrites a few words of the ring with values that hurt.
fn damage(segment: &Segment, random: &mut Random) {
    let object = segment.object(ONLY).unwrap();
    let words = object.area().len() as u64 / 8;
    for _ in 0..=random.below(4) {
        // The first kilobyte holds what steers the ring: every other time, there.
        let limit = if random.below(2) == 0 {
            words.min(128)
        } else {
            words
        };
        let at = 8 * random.below(limit) as usize;
        let word = object.area().word64(at).unwrap();
        let old = word.load(std::sync::atomic::Ordering::Relaxed);
        let new = match random.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => random.next(),
            3 => old ^ 1 << random.below(64),
            4 => old.wrapping_add(1),
            5 => old.wrapping_sub(1),
            6 => old.wrapping_add(1 << random.below(63)),
            _ => 1 << 63,
        };
        word.store(new, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn rubbish_in_any_word_is_an_error_and_nothing_worse() {
    // Catches a position or length from shared memory that is used unchecked: a panic, a wild access, an arithmetic
    // overflow, or a loop without an end.
    expect_rubbish();
    for kind in KINDS {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let slowest = (0..1500)
            .map(|round| {
                let capacity = [1, 2, 16][round % 3];
                let ring = (kind.create)(Place::Anonymous, capacity).unwrap();
                let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
                let start = Instant::now();
                for _ in 0..6 {
                    // Whatever comes of each call: it comes back.
                    let _ = producer.try_push_slice(&[1, 2, 3]);
                    damage(ring.segment(), &mut random);
                    let _ = producer.try_push(4);
                    let _ = consumer.try_pop();
                    let _ = producer.reserve_and_forget();
                    damage(ring.segment(), &mut random);
                    let _ = producer.reserve_and_commit(5);
                    let _ = consumer.try_pop_into(3);
                    if kind.lends {
                        let _ = consumer.read_and_forget();
                        damage(ring.segment(), &mut random);
                        let _ = consumer.read_and_put_back();
                    }
                    let _ = consumer.drain();
                    let _ = ring.len();
                }
                let soon = Instant::now() + Duration::from_micros(100);
                let _ = consumer.pop_until(soon);
                let _ = producer.push_until(6, soon);
                start.elapsed()
            })
            .max();
        assert!(
            slowest < Some(Duration::from_secs(10)),
            "{}: {slowest:?}",
            kind.name
        );
    }
}

/// Puts a page that nobody may touch on either side of every mapping of a file of that name, where nothing else is mapped.
/// Tells how many there are, those of earlier rings counted that lie there already.
fn guard(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        [start, end].map(|text| usize::from_str_radix(text, 16).unwrap())
    };
    let ranges = maps.lines().filter(|line| line.contains(name)).map(range);
    let closed: Vec<_> = maps
        .lines()
        .filter(|line| line.contains("---p"))
        .map(range)
        .collect();
    let guarded = |at: usize| {
        // SAFETY: with this flag nothing that is mapped is replaced.
        let placed = unsafe {
            libc::mmap(
                at as *mut _,
                4096,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        placed as usize == at
            || closed
                .iter()
                .any(|[start, end]| (*start..*end).contains(&at))
    };
    ranges
        .flat_map(|[start, end]| [start - 4096, end])
        .filter(|at| guarded(*at))
        .count()
}

/// Uses both ends for a while, and looks on, whatever comes of it. Tells how many calls came back, and how long the slowest took.
fn use_both_ends(
    kind: &Kind,
    ring: &dyn Ring,
    producer: &mut dyn Producer,
    consumer: &mut dyn Consumer,
    observer: &Observer,
) -> (u64, Duration) {
    let (mut follower, mut seen) = (observer.follow_from_oldest(), Vec::new());
    let (start, mut calls, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < Duration::from_millis(400) {
        let before = Instant::now();
        match calls % 11 {
            0 => drop(producer.try_push_slice(&[1, 2, 3])),
            1 => drop(producer.try_push(4)),
            2 => drop(consumer.try_pop()),
            3 => drop(producer.reserve_and_commit(5)),
            4 => drop(consumer.try_pop_into(3)),
            5 if kind.lends => drop(consumer.read_and_release(&mut |_, _| {})),
            6 if kind.lends => drop(consumer.read_and_put_back()),
            7 => drop(consumer.drain()),
            8 => drop(follower.try_next(&mut seen)),
            9 => drop(observer.statistics()),
            _ => drop(ring.len()),
        }
        slowest = slowest.max(before.elapsed());
        calls += 1;
    }
    (calls, slowest)
}

#[test]
fn a_mutator_at_full_speed_gets_nothing_but_errors() {
    // Catches a word that is read twice and changes between, and an access outside the ring: another process writes
    // anything anywhere as fast as it can, while both ends go on. Beside the mapping lie pages that nobody may touch.
    expect_rubbish();
    for kind in KINDS {
        for capacity in [1, 16] {
            let made = Made::new(*kind, Backing::Memfd, capacity);
            let file = made.ring.segment().as_fd().try_clone_to_owned().unwrap();
            let observer = Observer::open(Place::Fd(file)).unwrap();
            let guards = guard("conformance-");
            let (mut producer, mut consumer) = (made.ring.producer(), made.ring.consumer());
            let mutator = Child::run(|| {
                let ring = made.attach();
                let mut random = Random(0x2545_F491_4F6C_DD1D);
                loop {
                    damage(ring.segment(), &mut random);
                }
            });
            let (calls, slowest) =
                use_both_ends(kind, &*made.ring, &mut *producer, &mut *consumer, &observer);
            mutator.kill();
            println!(
                "{} of {capacity}: {calls} calls, the slowest {slowest:?}; {guards} guard pages",
                kind.name
            );
            assert!(
                calls > 100 && slowest < Duration::from_secs(5),
                "{}: {calls} calls, the slowest {slowest:?}",
                kind.name
            );
        }
    }
}
