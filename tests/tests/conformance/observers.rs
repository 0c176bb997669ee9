//! Following a ring without taking part in it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ipc_core::segment::{SegmentError, SegmentOptions};
use ipc_ring::{Follower, Observer, PopError, Ring, bytes, mpmc, spsc};
use ipc_tests::adapters::{KINDS, message};
use ipc_tests::child::Child;

use crate::backing::{Backing, Made};

/// The number of a message, of which every word must be right.
fn number(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let words: Vec<_> = words
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    let expected = message(words[0]);
    let whole = words.iter().zip(expected.iter().cycle());
    assert!(
        whole.clone().all(|(word, expected)| word == expected),
        "a torn message"
    );
    words[0]
}

/// What a follower sees until there is nothing new: numbers, and how many it missed.
fn see(follower: &mut Follower, seen: &mut Vec<u64>) -> (u64, PopError) {
    let (mut missed, mut bytes) = (0, Vec::new());
    loop {
        match follower.try_next(&mut bytes) {
            Ok(_) => seen.push(number(&bytes)),
            Err(PopError::Lagged(more)) => missed += more,
            Err(end) => return (missed, end),
        }
    }
}

#[test]
fn a_follower_sees_what_is_published_and_takes_nothing() {
    // Catches a follower that begins elsewhere, takes a message, or does not find the end.
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Path, 8);
        let (mut consumer, mut producer) = (made.ring.consumer(), made.ring.producer());
        producer.push_slice(&[1, 2]).unwrap();
        let observer = Observer::open(made.path()).unwrap();
        let (mut follower, mut late) = (observer.follow_from_oldest(), observer.follow());
        producer.push_slice(&[3, 4]).unwrap();
        let (mut all, mut rest) = (Vec::new(), Vec::new());
        assert_eq!(see(&mut follower, &mut all), (0, PopError::Empty));
        assert_eq!(see(&mut late, &mut rest), (0, PopError::Empty));
        assert_eq!((all, rest), (vec![1, 2, 3, 4], vec![3, 4]), "{}", kind.name);
        assert_eq!(consumer.try_pop_into(8), Ok(vec![1, 2, 3, 4]));
        made.ring.close();
        assert_eq!(see(&mut late, &mut Vec::new()), (0, PopError::Closed));
    }
}

#[test]
fn a_follower_that_looks_away_is_told_what_it_missed() {
    // Catches a count that is off by one, and messages that are shown although they may have been written over.
    for kind in KINDS {
        for total in 1..40 {
            let made = Made::new(*kind, Backing::Path, 4);
            let (mut consumer, mut producer) = (made.ring.consumer(), made.ring.producer());
            let mut follower = Observer::open(made.path()).unwrap().follow();
            for number in 0..total {
                producer.push(number).unwrap();
                assert_eq!(consumer.pop(), Ok(number));
            }
            let mut seen = Vec::new();
            let (missed, _) = see(&mut follower, &mut seen);
            assert_eq!(missed + seen.len() as u64, total, "{}", kind.name);
            assert!(
                seen.iter().copied().eq(missed..total),
                "{}: {seen:?}",
                kind.name
            );
            producer.push(total).unwrap();
            let (missed, _) = see(&mut follower, &mut seen);
            assert_eq!((missed, seen.last()), (0, Some(&total)), "{}", kind.name);
        }
    }
}

#[test]
fn a_follower_beside_a_stream_sees_no_torn_message() {
    // Catches a copy that counts although its message was written over, and one that is seen twice or out of order.
    const MESSAGES: u64 = 40_000;
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Path, 16);
        let mut consumer = made.ring.consumer();
        let mut follower = Observer::open(made.path()).unwrap().follow();
        let child = Child::run(|| {
            let mut producer = made.attach().producer();
            let numbers: Vec<_> = (0..MESSAGES).collect();
            numbers
                .chunks(7)
                .for_each(|run| producer.push_slice(run).unwrap());
        });
        let (mut seen, mut missed, mut taken) = (Vec::new(), 0, 0);
        let end = Instant::now() + Duration::from_secs(60);
        while taken < MESSAGES {
            taken += consumer.pop_into(5).unwrap().len() as u64;
            missed += see(&mut follower, &mut seen).0;
            assert!(Instant::now() < end, "{}: for ever", kind.name);
        }
        child.join();
        missed += see(&mut follower, &mut seen).0;
        assert!(seen.is_sorted_by(|a, b| a < b), "{}", kind.name);
        let all = missed + seen.len() as u64;
        // Where a lane moves on while its position and its count are read, the count is off by one.
        let slack = match kind.name {
            "bytes" | "lanes" | "channel" => MESSAGES / 100,
            _ => 0,
        };
        assert!(all.abs_diff(MESSAGES) <= slack, "{}: {all}", kind.name);
    }
}

/// What a follower of numbers sees until there is nothing new, without having missed any.
fn numbers(follower: &mut Follower) -> (Vec<u64>, PopError) {
    let (mut seen, mut bytes) = (Vec::new(), Vec::new());
    loop {
        match follower.try_next(&mut bytes) {
            Ok(_) => seen.push(u64::from_ne_bytes(bytes[..].try_into().unwrap())),
            Err(end) => return (seen, end),
        }
    }
}

#[test]
fn a_place_that_nobody_filled_is_no_message() {
    // Catches a follower that shows what lies in a place that was given back, or whose producer died, or counts it as missed;
    // and one that is told of the end while a message is still being written.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let ring = mpmc::Ring::<u64>::options()
        .capacity(4)
        .create(path.as_path())
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut follower = Observer::open(path.as_path()).unwrap().follow();
    for number in 0..20 {
        for _ in 0..number % 3 {
            drop(producer.reserve().unwrap());
        }
        producer.push(number).unwrap();
        assert_eq!(consumer.pop(), Ok(number));
        assert_eq!(numbers(&mut follower), (vec![number], PopError::Empty));
    }
    Child::run(|| {
        let ring = mpmc::Ring::<u64>::open(path.as_path()).unwrap();
        let mut producer = ring.producer().unwrap();
        std::mem::forget(producer.reserve().unwrap());
        std::process::exit(0);
    })
    .join();
    producer.push(20).unwrap();
    assert_eq!(consumer.pop(), Ok(20));
    assert_eq!(numbers(&mut follower), (vec![20], PopError::Empty));

    let mut place = producer.reserve().unwrap();
    ring.close();
    assert_eq!(numbers(&mut follower), (vec![], PopError::Empty));
    place.write(&21);
    place.commit();
    assert_eq!(numbers(&mut follower), (vec![21], PopError::Closed));
}

#[test]
fn a_count_that_is_off_is_not_taken_for_a_huge_one() {
    // Catches a follower that is told of 2^64 missed records, where the counts of a ring's two ends do not fit each other:
    // a producer that is killed between its count and its position leaves a batch in the one and not in the other.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let ring = bytes::Ring::options()
        .capacity(64)
        .create(path.as_path())
        .unwrap();
    // The count of what was pushed, as docs/layout.md draws it.
    let at = ring.object().entry().offset + 264;
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&100_u64.to_ne_bytes(), at).unwrap();
    let mut follower = Observer::open(path.as_path()).unwrap().follow();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut record = Vec::new();
    for _ in 0..20 {
        producer.push(b"8 bytes.").unwrap();
        consumer.pop(&mut record).unwrap();
    }
    match follower.try_next(&mut record) {
        Err(PopError::Lagged(missed)) => assert!((1..=20).contains(&missed), "{missed}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_version_is_not_looked_at() {
    // Catches an observer that reads the words of a ring that is laid out in another way.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut spec = spsc::Ring::<u64>::spec(8).unwrap();
    spec.version += 1;
    let options = SegmentOptions::new().object("ring", spec);
    options.create(path.as_path()).unwrap();
    match Observer::open(path.as_path()) {
        Err(SegmentError::OtherVersion { .. }) => {}
        other => panic!("{other:?}"),
    }
}
