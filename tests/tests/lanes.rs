//! Lanes: what many producers with one consumer may count on.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::role::Holder;
use ipc_ring::{ClaimError, PopError, PushError, Ring, lanes};
use ipc_tests::child::Child;
use ipc_tests::peers::eventually;

/// Where `docs/layout.md` draws what the tests reach for, with an arena of 4,096 bytes.
mod field {
    pub(crate) const LANE: usize = 256;
    pub(crate) const LANE_SIZE: usize = 512 + 4096;
    pub(crate) const TAIL: usize = 0;
}

fn ring(lanes: usize) -> lanes::Ring {
    lanes::Ring::options()
        .capacity(4096)
        .lanes(lanes)
        .create(Place::Memfd("lanes".into()))
        .unwrap()
}

/// A record: who sent it, its number, and bytes that depend on both.
fn record(producer: u64, number: u64) -> Vec<u8> {
    let len = (producer * 7 + number * 13) % 480;
    let filler = (0..len).map(|at| (at ^ number ^ producer << 4) as u8);
    let head = [producer, number].into_iter().flat_map(u64::to_ne_bytes);
    head.chain(filler).collect()
}

fn parse(received: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_ne_bytes(received[at..at + 8].try_into().unwrap());
    let (producer, number) = (word(0), word(8));
    assert_eq!(received, record(producer, number), "a torn record");
    (producer, number)
}

/// Catches a record that is lost, doubled, torn or out of the order of its producer, with eight processes on two CPUs.
#[test]
fn each_producer_is_first_in_first_out() {
    const PRODUCERS: u64 = 8;
    const RECORDS: u64 = 3000;
    let ring = ring(PRODUCERS as usize);
    let mut consumer = ring.consumer().unwrap();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let ring = &ring;
            Child::run(move || {
                let mut end = ring.rejoin().unwrap().producer().unwrap();
                for number in 0..RECORDS {
                    end.push(&record(producer, number)).unwrap();
                }
            })
        })
        .collect();
    let (mut next, mut received) = ([0; PRODUCERS as usize], Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..PRODUCERS * RECORDS {
        consumer.pop_until(&mut received, deadline).unwrap();
        let (producer, number) = parse(&received);
        assert_eq!(number, next[producer as usize], "of producer {producer}");
        next[producer as usize] += 1;
    }
    producers.into_iter().for_each(Child::join);
    assert_eq!(consumer.try_pop(&mut received), Err(PopError::Empty));
}

/// Catches a consumer that stays with one lane for as long as it has something.
#[test]
fn a_lane_that_is_never_empty_does_not_starve_another() {
    let ring = ring(2);
    let mut consumer = ring.consumer().unwrap();
    let (mut loud, mut quiet) = (ring.producer().unwrap(), ring.producer().unwrap());
    let mut received = Vec::new();
    for number in 0..2 {
        loud.push(&record(0, number)).unwrap();
    }
    consumer.pop(&mut received).unwrap();
    quiet.push(&record(1, 0)).unwrap();
    let mut bytes = 0;
    for number in 2.. {
        loud.push(&record(0, number)).unwrap();
        consumer.pop(&mut received).unwrap();
        if parse(&received).0 == 1 {
            break;
        }
        bytes += received.len();
        assert!(
            bytes < 65 << 10,
            "{bytes} bytes of one lane, none of the other"
        );
    }
}

/// Catches a lane that is lost with its producer, records of the dead that are lost, and a producer without a lane that is not told why.
#[test]
fn the_lane_of_a_dead_producer_serves_the_next_one() {
    let ring = ring(2);
    let mut consumer = ring.consumer().unwrap();
    let mut received = Vec::new();
    for generation in 0..20_u64 {
        let producers: Vec<_> = (0..2)
            .map(|lane| {
                let ring = &ring;
                Child::run(move || {
                    let mut end = ring.rejoin().unwrap().producer().unwrap();
                    end.push(&record(generation * 2 + lane, 0)).unwrap();
                    std::thread::sleep(Duration::from_secs(60));
                })
            })
            .collect();
        eventually("both have pushed", || ring.len() == 2);
        let refused = ring.producer().unwrap_err();
        assert!(matches!(refused, ClaimError::NoLane { lanes: 2 }));
        assert_eq!(
            refused.to_string(),
            "all 2 lanes have a producer that lives; end one of them, or create the ring anew with more lanes"
        );
        producers.into_iter().for_each(Child::kill);
        // What the dead have published comes out, and their lanes can be had before and after.
        let mut end = ring.producer().unwrap();
        end.push(&record(1000, generation)).unwrap();
        drop(end);
        let mut seen = Vec::new();
        while consumer.try_pop(&mut received).is_ok() {
            seen.push(parse(&received));
        }
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                (generation * 2, 0),
                (generation * 2 + 1, 0),
                (1000, generation)
            ]
        );
    }
}

/// Catches a producer that is put behind the records of another while an empty lane is free.
#[test]
fn an_empty_lane_goes_first() {
    let ring = ring(3);
    let mut first = ring.producer().unwrap();
    first.push(b"left behind").unwrap();
    drop(first);
    let end = ring.producer().unwrap();
    assert_eq!(ring.producer_role(0), Holder::Left);
    assert!(matches!(ring.producer_role(1), Holder::Present(_)));
    drop(end);
}

/// Catches one hostile producer that stops all the others, and a consumer that is told of it more than once.
#[test]
fn a_lane_of_rubbish_is_told_once_and_left_alone() {
    let ring = ring(3);
    let mut consumer = ring.consumer().unwrap();
    let mut ends: Vec<_> = (0..3).map(|_| ring.producer().unwrap()).collect();
    let tail = field::LANE + field::LANE_SIZE + field::TAIL;
    let object = ring.segment().object(ipc_ring::ONLY).unwrap();
    object.area().word64(tail).unwrap().store(u64::MAX, Relaxed);
    let (mut corrupt, mut received) = (0, Vec::new());
    for number in 0..100 {
        for end in [0, 2] {
            ends[end].push(&record(end as u64, number)).unwrap();
        }
        let mut left = 2;
        while left > 0 {
            match consumer.try_pop(&mut received) {
                Ok(_) => {
                    assert_eq!(parse(&received).1, number);
                    left -= 1;
                }
                Err(PopError::Corrupt) => corrupt += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(corrupt, 1);
    assert_eq!(consumer.try_pop(&mut received), Err(PopError::Empty));
}

/// Catches a closed ring that says so before everything in all lanes has been taken.
#[test]
fn closed_means_that_all_lanes_are_empty() {
    let ring = ring(4);
    let mut consumer = ring.consumer().unwrap();
    let mut ends: Vec<_> = (0..4).map(|_| ring.producer().unwrap()).collect();
    for (producer, end) in ends.iter_mut().enumerate() {
        end.push(&record(producer as u64, 0)).unwrap();
    }
    ring.close();
    assert_eq!(ends[0].try_push(b"late"), Err(PushError::Closed(())));
    let mut received = Vec::new();
    for _ in 0..4 {
        consumer.pop(&mut received).unwrap();
        parse(&received);
    }
    assert_eq!(consumer.pop(&mut received), Err(PopError::Closed));
}

/// Catches a number of lanes that cannot be served.
#[test]
fn impossible_numbers_of_lanes_are_refused() {
    for lanes in [0, 1025, usize::MAX] {
        let options = lanes::Ring::options().capacity(64).lanes(lanes);
        let error = options.create(Place::Anonymous).unwrap_err();
        assert!(error.to_string().contains("1 to 1024 lanes"), "{error}");
    }
}
