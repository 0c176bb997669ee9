//! A peer that writes anything anywhere.

use std::time::{Duration, Instant};

use ipc_core::segment::{Place, Segment};
use ipc_ring::ONLY;
use ipc_tests::adapters::{KINDS, expect_rubbish};

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
