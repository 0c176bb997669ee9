//! What readers of a broadcast of bytes are promised beyond what every ring promises.

use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::broadcast_bytes::{self, Ring, Start};
use ipc_ring::{PopError, PushError, Ring as _};
use ipc_tests::adapters::{KINDS, STARTS};
use ipc_tests::child::Child;
use nix::sys::signal::{Signal, raise};

fn ring(capacity: usize) -> Ring {
    let options = Ring::options().capacity(capacity);
    options.create(Place::Anonymous).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A record whose bytes all depend on its number, of any length up to `longest`.
fn record(number: u64, longest: usize) -> Vec<u8> {
    let len = 8 + (number * 37) as usize % (longest - 7);
    let filler = (8..len).map(|at| (number.wrapping_mul(31) ^ at as u64) as u8);
    number.to_ne_bytes().into_iter().chain(filler).collect()
}

fn number(received: &[u8], longest: usize) -> u64 {
    let number = u64::from_ne_bytes(received[..8].try_into().unwrap());
    assert_eq!(received, record(number, longest), "a torn record");
    number
}

/// Takes everything up to the end. Tells how many records came, and how many were missed.
fn take_all(reader: &mut broadcast_bytes::Lossy, longest: usize) -> (u64, u64) {
    let (mut next, mut got, mut missed, mut received) = (0, 0, 0, Vec::new());
    loop {
        match reader.try_pop(&mut received) {
            Ok(_) => {
                assert_eq!(number(&received, longest), next);
                next += 1;
                got += 1;
            }
            Err(PopError::Lagged(count)) => {
                next += count;
                missed += count;
            }
            Err(PopError::Empty | PopError::Closed) => return (got, missed),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_lossy_reader_is_told_exactly_how_many_records_it_has_missed() {
    // Catches a count that is off by one, at every distance, at every place of the seam, and across every place where positions
    // wrap.
    let mut kinds = KINDS.iter();
    let kind = kinds.find(|kind| kind.name == "broadcast_bytes").unwrap();
    for (capacity, start) in [64, 256, 4096]
        .into_iter()
        .flat_map(|capacity| STARTS.map(|start| (capacity, start)))
    {
        let longest = capacity / 2;
        for pushed in (0..200).step_by(if start == 0 { 1 } else { 7 }) {
            let ring = ring(capacity);
            kind.start_at.unwrap()(ring.segment(), start);
            let mut reader = ring.lossy(Start::Newest).unwrap();
            let mut producer = ring.producer().unwrap();
            for number in 0..pushed {
                producer.push(&record(number, longest)).unwrap();
            }
            let (got, missed) = take_all(&mut reader, longest);
            assert_eq!(got + missed, pushed);
            assert!(pushed == 0 || got > 0, "the newest record is always there");
            if pushed > 0 {
                let mut received = Vec::new();
                ring.latest().unwrap().try_pop(&mut received).unwrap();
                assert_eq!(number(&received, longest), pushed - 1);
            }
        }
    }
}

#[test]
fn what_lossy_readers_got_and_missed_adds_up() {
    // Catches a record that is torn, doubled or missed in silence, with a producer that never waits and is killed time and
    // again, half-way through whatever it does.
    const RECORDS: u64 = 40_000;
    for capacity in [64, 4096] {
        let longest = capacity / 2;
        let ring = ring(capacity);
        let mut reader = ring.lossy(Start::Newest).unwrap();
        let mut latest = ring.latest().unwrap();
        let child = Child::run(|| {
            let mut producer = ring.rejoin().unwrap().producer().unwrap();
            for number in 0..RECORDS {
                producer.push(&record(number, longest)).unwrap();
            }
            let mut place = producer.reserve(longest).unwrap();
            place.write_at(0, &vec![0xff; longest]);
            raise(Signal::SIGKILL).unwrap();
        });
        let (mut next, mut last, mut received) = (0, None, Vec::new());
        let mut told = false;
        while !told {
            match reader.pop_until(&mut received, soon()) {
                Ok(_) => {
                    assert_eq!(number(&received, longest), next);
                    next += 1;
                }
                Err(PopError::Lagged(count)) => next += count,
                Err(PopError::PeerDead) => told = true,
                Err(error) => panic!("{error}"),
            }
            if latest.try_pop(&mut received).is_ok() {
                let newest = Some(number(&received, longest));
                assert!(newest > last, "{newest:?} after {last:?}");
                last = newest;
            }
        }
        child.join_killed();
        // The successor goes on with the number of the one that was not published, though its room may have cost all others.
        let mut producer = ring.producer().unwrap();
        for number in RECORDS..RECORDS + 3 {
            producer.push(&record(number, longest)).unwrap();
        }
        while next < RECORDS + 3 {
            match reader.try_pop(&mut received) {
                Ok(_) => {
                    assert_eq!(number(&received, longest), next);
                    next += 1;
                }
                Err(PopError::Lagged(count)) => next += count,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(next, RECORDS + 3);
        assert_eq!(reader.try_pop(&mut received), Err(PopError::Empty));
    }
}

#[test]
fn readers_of_all_sorts_share_a_ring() {
    // Catches a lossless reader that misses something, a producer that waits for a lossy one, and one that does not wait.
    let ring = ring(64);
    let mut lossless = ring.lossless(Start::Newest).unwrap();
    let mut lossy = ring.lossy(Start::Newest).unwrap();
    let mut latest = ring.latest().unwrap();
    let mut producer = ring.producer().unwrap();
    let mut received = Vec::new();
    for number in 0..4 {
        producer.try_push(&[number; 8]).unwrap();
    }
    assert_eq!(producer.try_push(&[4; 8]), Err(PushError::Full(())));
    assert_eq!(ring.len(), 4);
    for expected in 0..4 {
        lossless.try_pop(&mut received).unwrap();
        assert_eq!(received, [expected; 8]);
    }
    for number in 4..8 {
        producer.try_push(&[number; 8]).unwrap();
    }
    latest.try_pop(&mut received).unwrap();
    assert_eq!(received, [7; 8]);
    assert_eq!(latest.try_pop(&mut received), Err(PopError::Empty));
    assert!(matches!(
        lossy.try_pop(&mut received),
        Err(PopError::Lagged(4..=7))
    ));
    // One that leaves is not waited for.
    drop(lossless);
    producer.try_push(&[8; 8]).unwrap();
    let longest = [9; 32];
    producer.try_push(&longest).unwrap();
    let too_long = producer.try_push(&[0; 33]).unwrap_err();
    assert!(matches!(too_long, PushError::TooLong { max: 32, .. }));
    latest.try_pop(&mut received).unwrap();
    assert_eq!(received, longest);
}

#[test]
fn a_dead_lossless_reader_is_let_go_and_its_successor_told_what_it_missed() {
    // Catches a producer that waits for the dead, and a successor that gets a record twice or misses one in silence.
    let ring = ring(256);
    let joined = ring_of_words();
    let child = Child::run(|| {
        let mut reader = ring.rejoin().unwrap().lossless(Start::Newest).unwrap();
        let mut joined = joined.rejoin().unwrap().producer().unwrap();
        joined.push(1).unwrap();
        let mut received = Vec::new();
        for expected in 0..2 {
            reader.pop(&mut received).unwrap();
            assert_eq!(number(&received, 64), expected);
        }
        raise(Signal::SIGKILL).unwrap();
    });
    joined.consumer().unwrap().pop_until(soon()).unwrap();
    let mut producer = ring.producer().unwrap();
    for number in 0..40 {
        producer.push_until(&record(number, 64), soon()).unwrap();
    }
    child.join_killed();
    let mut successor = ring.lossless(Start::Successor).unwrap();
    let (mut next, mut received) = (2, Vec::new());
    while next < 40 {
        match successor.try_pop(&mut received) {
            Ok(_) => {
                assert_eq!(number(&received, 64), next);
                next += 1;
            }
            Err(PopError::Lagged(count)) => next += count,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(successor.try_pop(&mut received), Err(PopError::Empty));
}

fn ring_of_words() -> ipc_ring::spsc::Ring<u64> {
    let options = ipc_ring::spsc::Ring::options();
    options.create(Place::Anonymous).unwrap()
}

#[test]
fn a_slow_lossless_reader_is_let_go_when_patience_is_exhausted() {
    // Catches a reader that is not told exactly what it has missed, and one that is not waited for after it has come back.
    let options = Ring::options().capacity(256);
    let ring = options
        .patience(Duration::from_millis(30))
        .create(Place::Anonymous)
        .unwrap();
    let mut slow = ring.lossless(Start::Newest).unwrap();
    let mut producer = ring.producer().unwrap();
    let (mut next, mut pushed, mut received) = (0, 0, Vec::new());
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..40 {
            producer.push_until(&record(pushed, 64), soon()).unwrap();
            pushed += 1;
        }
        assert!(start.elapsed() >= Duration::from_millis(30), "no patience");
        let mut missed = 0;
        while next < pushed {
            match slow.try_pop(&mut received) {
                Ok(_) => {
                    assert_eq!(number(&received, 64), next);
                    next += 1;
                }
                Err(PopError::Lagged(count)) => {
                    next += count;
                    missed += count;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(missed > 0);
        assert_eq!(slow.try_pop(&mut received), Err(PopError::Empty));
    }
}
