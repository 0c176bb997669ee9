//! The byte ring: what it keeps to, at every wrap of its arena, and what it makes of rubbish.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_core::segment::{Place, Segment, SegmentError};
use ipc_ring::{ClaimError, PopError, PushError, Ring, bytes};
use ipc_tests::child::Child;
use proptest::prelude::*;

/// Where `docs/layout.md` draws what the tests reach for.
mod field {
    pub(crate) const LANE: usize = 256;
    pub(crate) const TAIL: usize = LANE;
    pub(crate) const HEAD: usize = LANE + 128;
    pub(crate) const ARENA: usize = LANE + 512;
}

fn ring(capacity: usize) -> bytes::Ring {
    bytes::Ring::options()
        .capacity(capacity)
        .create(Place::Memfd("bytes".into()))
        .unwrap()
}

/// A word of the ring's object, as a peer with other manners would see it.
fn poke(segment: &Segment, at: usize, value: u64) {
    let object = segment.object(ipc_ring::ONLY).unwrap();
    object.area().word64(at).unwrap().store(value, Relaxed);
}

/// `len` bytes that differ from those of any other seed.
fn payload(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index.wrapping_mul(31) ^ seed.wrapping_mul(167)) as u8)
        .collect()
}

/// Catches a record that is placed, found or copied wrongly anywhere: every length up to the limit, from every position
/// of tiny arenas, alone and behind another one.
#[test]
fn every_record_fits_at_every_position_of_tiny_arenas() {
    for capacity in [16, 32, 64, 128] {
        let ring = ring(capacity);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let mut popped = Vec::new();
        for position in 0..capacity / 8 {
            for len in 0..=capacity / 2 {
                for first in [None, Some(0), Some(len / 2)] {
                    // To the position: a record without bytes takes 8.
                    while ring_position(&ring) % capacity != position * 8 {
                        producer.push(&[]).unwrap();
                        assert_eq!(consumer.pop(&mut popped), Ok(0));
                    }
                    let first = first.map(|len| payload(len + 1, len));
                    let record = payload(len, len);
                    if let Some(first) = &first {
                        producer.try_push(first).unwrap();
                    }
                    match producer.try_push(&record) {
                        Ok(()) => {}
                        Err(PushError::Full(())) if first.is_some() => continue_with(&mut consumer),
                        Err(error) => panic!("{len} bytes at {position}: {error}"),
                    }
                    if let Some(first) = first.filter(|_| !ring.is_empty()) {
                        consumer.pop(&mut popped).unwrap();
                        assert_eq!(popped, first);
                    }
                    if !ring.is_empty() {
                        consumer.pop(&mut popped).unwrap();
                        assert_eq!(popped, record, "{len} bytes at {position}");
                    }
                    assert_eq!(consumer.try_pop(&mut popped), Err(PopError::Empty));
                }
            }
        }
    }

    fn continue_with(consumer: &mut bytes::Consumer) {
        consumer.pop(&mut Vec::new()).unwrap();
    }
}

fn ring_position(ring: &bytes::Ring) -> usize {
    let object = ring.segment().object(ipc_ring::ONLY).unwrap();
    object.area().word64(field::TAIL).unwrap().load(Relaxed) as usize
}

/// Catches large payloads that are moved to a cache line and then no longer fit, or cross the seam.
#[test]
fn a_large_record_fits_at_every_position() {
    const CAPACITY: usize = 4096;
    let ring = ring(CAPACITY);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut popped = Vec::new();
    for len in (1020..=CAPACITY / 2).step_by(41).chain([CAPACITY / 2]) {
        let record = payload(len, len);
        for _ in 0..CAPACITY / 8 {
            producer.try_push(&record).unwrap();
            consumer.pop(&mut popped).unwrap();
            assert!(popped == record, "{len} bytes");
            producer.push(&[]).unwrap();
            consumer.pop(&mut popped).unwrap();
        }
    }
}

/// Catches positions that are compared where they should be subtracted: at 2^32 and 2^64 they wrap.
#[test]
fn positions_may_wrap() {
    for start in [(1u64 << 32) - 4096, 0u64.wrapping_sub(4096)] {
        let ring = ring(1024);
        poke(ring.segment(), field::TAIL, start);
        poke(ring.segment(), field::HEAD, start);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let mut popped = Vec::new();
        for seed in 0..1000 {
            let record = payload(seed, seed % 400);
            producer.try_push(&record).unwrap();
            let loan = consumer.try_read().unwrap();
            assert!(!loan.is_redelivered());
            drop(loan);
            assert!(consumer.try_read().unwrap().is_redelivered());
            consumer.pop(&mut popped).unwrap();
            assert_eq!(popped, record);
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Batch(Vec<usize>),
    Vectored(Vec<usize>),
    Reserve { len: usize, commit: Option<usize> },
    ForgetReservation(usize),
    Pop,
    PopInto(usize),
    Read { release: bool },
    ForgetLoan,
    NewProducer,
    NewConsumer,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = 0..300usize;
    let op = prop_oneof![
        4 => len.clone().prop_map(Op::Push),
        1 => prop::collection::vec(0..100usize, 0..6).prop_map(Op::Batch),
        1 => prop::collection::vec(0..60usize, 0..6).prop_map(Op::Vectored),
        2 => (len.clone(), prop::option::of(0..300usize)).prop_map(|(len, commit)| Op::Reserve { len, commit }),
        1 => len.clone().prop_map(Op::ForgetReservation),
        4 => Just(Op::Pop),
        1 => (0..300usize).prop_map(Op::PopInto),
        2 => any::<bool>().prop_map(|release| Op::Read { release }),
        1 => Just(Op::ForgetLoan),
        1 => Just(Op::NewProducer),
        1 => Just(Op::NewConsumer),
    ];
    prop::collection::vec(op, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    /// Catches any sequence of calls after which the ring is not a queue of records.
    #[test]
    fn it_is_a_queue(shift in 4..10u32, ops in ops()) {
        let ring = ring(1 << shift);
        let max = ring.max_len();
        let (mut producer, mut consumer) = (Some(ring.producer().unwrap()), Some(ring.consumer().unwrap()));
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut popped = Vec::new();
        for (seed, op) in ops.into_iter().enumerate() {
            let tx = producer.as_mut().unwrap();
            let rx = consumer.as_mut().unwrap();
            match op {
                Op::Push(len) => {
                    let record = payload(seed, len);
                    match tx.try_push(&record) {
                        Ok(()) => model.push_back(record),
                        Err(PushError::Full(())) => prop_assert!(!model.is_empty() && len <= max),
                        Err(PushError::TooLong { .. }) => prop_assert!(len > max),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::Batch(lens) => {
                    let records: Vec<_> = lens.iter().map(|len| payload(seed, *len)).collect();
                    match tx.try_push_batch(&records) {
                        Ok(count) => model.extend(records.into_iter().take(count)),
                        Err(PushError::Full(0)) => prop_assert!(!model.is_empty()),
                        Err(PushError::TooLong { len, .. }) => prop_assert!(len > max),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::Vectored(lens) => {
                    let pieces: Vec<_> = lens.iter().map(|len| payload(seed, *len)).collect();
                    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                    match tx.try_push_vectored(&slices) {
                        Ok(()) => model.push_back(pieces.concat()),
                        Err(PushError::Full(())) => prop_assert!(!model.is_empty()),
                        Err(PushError::TooLong { len, .. }) => prop_assert!(len > max),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::Reserve { len, commit } => {
                    let record = payload(seed, len);
                    match tx.try_reserve(len) {
                        Ok(mut slot) => {
                            slot.write_all(&record).unwrap();
                            prop_assert_eq!(slot.written(), len);
                            if let Some(commit) = commit.map(|commit| commit.min(len)) {
                                slot.commit_len(commit).unwrap();
                                model.push_back(record[..commit].to_vec());
                            }
                        }
                        Err(PushError::Full(())) => prop_assert!(!model.is_empty() && len <= max),
                        Err(PushError::TooLong { .. }) => prop_assert!(len > max),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::ForgetReservation(len) => {
                    if let Ok(mut slot) = tx.try_reserve(len) {
                        slot.write_at(0, &payload(seed, len));
                        // To drop one does nothing either, so far.
                        #[allow(clippy::forget_non_drop)]
                        std::mem::forget(slot);
                    }
                }
                Op::Pop => match rx.try_pop(&mut popped) {
                    Ok(_) => prop_assert_eq!(Some(popped.clone()), model.pop_front()),
                    Err(error) => prop_assert!(error == PopError::Empty && model.is_empty()),
                },
                Op::PopInto(room) => {
                    let mut buffer = vec![0; room];
                    match rx.try_pop_into(&mut buffer) {
                        Ok(len) => prop_assert_eq!(Some(buffer[..len].to_vec()), model.pop_front()),
                        Err(PopError::TooSmall { len }) => {
                            prop_assert!(len > room);
                            prop_assert_eq!(Some(len), model.front().map(Vec::len));
                        }
                        Err(error) => prop_assert!(error == PopError::Empty && model.is_empty()),
                    }
                }
                Op::Read { release } => match rx.try_read() {
                    Ok(mut record) => {
                        popped.clear();
                        record.read_to_end(&mut popped).unwrap();
                        prop_assert_eq!(&popped, &record.to_vec());
                        prop_assert_eq!(Some(&popped), model.front());
                        if release {
                            record.release();
                            model.pop_front();
                        }
                    }
                    Err(error) => prop_assert!(error == PopError::Empty && model.is_empty()),
                },
                Op::ForgetLoan => {
                    if let Ok(record) = rx.try_read() {
                        #[allow(clippy::forget_non_drop)]
                        std::mem::forget(record);
                    }
                }
                Op::NewProducer => {
                    drop(producer.take());
                    producer = Some(ring.producer().unwrap());
                }
                Op::NewConsumer => {
                    drop(consumer.take());
                    consumer = Some(ring.consumer().unwrap());
                }
            }
            prop_assert_eq!(ring.len(), model.len());
            prop_assert_eq!(ring.is_empty(), model.is_empty());
        }
    }
}

/// Catches a limit that is not half the arena, and errors that do not say what is the matter.
#[test]
fn a_record_longer_than_half_the_arena_is_refused() {
    let ring = ring(64);
    let mut producer = ring.producer().unwrap();
    producer.push(&[1; 32]).unwrap();
    for error in [
        producer.push(&[1; 33]).unwrap_err(),
        producer.try_reserve(33).unwrap_err(),
        producer.push_batch(&[[1; 33]]).unwrap_err().map(|_| ()),
        producer
            .push_vectored(&[IoSlice::new(&[1; 16]), IoSlice::new(&[2; 17])])
            .unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "a record of 33 bytes is too long: this ring takes records of up to 32 bytes, half its capacity"
        );
    }
    assert_eq!(ring.len(), 1);
}

/// Catches a lent slice that is not the record, in both directions.
#[test]
#[allow(unsafe_code)]
fn slices_are_the_record() {
    let ring = ring(4096);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for seed in 0..100 {
        let record = payload(seed, seed * 20);
        let mut slot = producer.reserve(record.len()).unwrap();
        // SAFETY: nobody but this test has the ring.
        unsafe { slot.as_mut_slice() }.copy_from_slice(&record);
        slot.commit().unwrap();
        let loan = consumer.read().unwrap();
        // SAFETY: nobody but this test has the ring.
        assert_eq!(unsafe { loan.as_slice() }, record);
        loan.release();
    }
}

/// Catches a reader over a loan that does not end where the record ends.
#[test]
fn a_record_is_read_line_by_line() {
    let ring = ring(4096);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut slot = producer.reserve(100).unwrap();
    writeln!(slot, "one\ntwo").unwrap();
    assert!(
        slot.write_all(&[b'x'; 93]).is_err(),
        "it wrote past its end"
    );
    let written = 8;
    slot.commit_len(written).unwrap();
    producer.push(b"three\n").unwrap();
    let record = consumer.read().unwrap();
    let lines: Vec<_> = BufReader::new(record).lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["one", "two"]);
}

/// Catches a closed ring that takes records, or loses those it had.
#[test]
fn a_closed_ring_gives_what_it_has_and_takes_nothing() {
    let ring = ring(64);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    producer.push(b"last").unwrap();
    let slot = producer.reserve(4).unwrap();
    ring.close();
    assert_eq!(slot.commit(), Err(PushError::Closed(())));
    assert_eq!(producer.try_push(b"late"), Err(PushError::Closed(())));
    let mut popped = Vec::new();
    assert_eq!(consumer.pop(&mut popped), Ok(4));
    assert_eq!(popped, b"last");
    assert_eq!(consumer.pop(&mut popped), Err(PopError::Closed));
}

/// Catches a wait that does not end at its deadline, or ends before it.
#[test]
fn deadlines_end_waits() {
    let ring = ring(64);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let soon = || Instant::now() + Duration::from_millis(60);
    let (start, mut popped) = (Instant::now(), Vec::new());
    assert_eq!(
        consumer.pop_until(&mut popped, soon()),
        Err(PopError::TimedOut)
    );
    assert_eq!(consumer.read_until(soon()).err(), Some(PopError::TimedOut));
    producer.push(&[0; 32]).unwrap();
    assert_eq!(
        producer.push_until(&[0; 32], soon()),
        Err(PushError::TimedOut(()))
    );
    assert_eq!(
        producer.reserve_until(32, soon()).err(),
        Some(PushError::TimedOut(()))
    );
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(240) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

/// Catches capacities that the geometry cannot serve.
#[test]
fn impossible_capacities_are_refused() {
    for capacity in [0, 8, 17, 1000, (1 << 32) + 1, 1 << 33, usize::MAX] {
        let error = bytes::Ring::options()
            .capacity(capacity)
            .create(Place::Anonymous)
            .unwrap_err();
        assert!(matches!(error, SegmentError::Object(_)), "{error}");
    }
}

/// Catches a header that is believed without a check: each of these contradicts what is published or the arena.
#[test]
fn a_hostile_header_is_corrupt() {
    const CAPACITY: u64 = 256;
    let published = 40;
    let headers = [
        33,                            // longer than what is published
        CAPACITY,                      // the whole arena
        u64::from(u32::MAX),           // as long as can be said
        8 << 32 | 32,                  // moved past what is published
        1 << 32,                       // moved off the grid
        (CAPACITY - 8) << 32,          // moved around
        u64::from(u32::MAX - 7) << 32, // moved as far as can be said
        u64::MAX,
        1 << 63,
    ];
    for header in headers {
        let ring = ring(CAPACITY as usize);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        producer.push(&payload(1, published - 8)).unwrap();
        poke(ring.segment(), field::ARENA, header);
        let mut popped = Vec::new();
        assert_eq!(
            consumer.try_pop(&mut popped),
            Err(PopError::Corrupt),
            "{header:#x}"
        );
        assert_eq!(
            consumer.read().err(),
            Some(PopError::Corrupt),
            "{header:#x}"
        );
    }
}

/// Catches positions that are believed without a check, by either side, at work and at the claim.
#[test]
fn hostile_positions_are_corrupt() {
    for value in [1, 7, 300, 1 << 31, 1 << 63, u64::MAX, u64::MAX - 511] {
        let ring = ring(256);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        producer.push(&[0; 128]).unwrap();
        poke(ring.segment(), field::HEAD, value);
        let error = producer.try_push(&[0; 128]).unwrap_err();
        assert_eq!(error, PushError::Corrupt(()), "head {value:#x}");
        poke(ring.segment(), field::HEAD, 0);
        poke(ring.segment(), field::TAIL, value);
        let error = consumer.try_pop(&mut Vec::new()).unwrap_err();
        assert_eq!(error, PopError::Corrupt, "tail {value:#x}");
        drop((producer, consumer));
        let refused = ring.producer().unwrap_err();
        assert!(
            matches!(refused, ClaimError::Segment(SegmentError::Damaged(_))),
            "{refused}"
        );
        let refused = ring.consumer().unwrap_err();
        assert!(
            matches!(refused, ClaimError::Segment(SegmentError::Damaged(_))),
            "{refused}"
        );
    }
}

/// Catches a panic, a signal, an endless loop or a record beyond all measure, while somebody writes rubbish all over the
/// ring.
#[test]
fn rubbish_gives_errors_and_nothing_worse() {
    const CAPACITY: usize = 1024;
    let ring = ring(CAPACITY);
    let len = field::ARENA + CAPACITY;
    let (over, segment) = (AtomicBool::new(false), ring.segment().clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            while !over.load(Relaxed) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let mut at = (random >> 20) as usize % (len / 8) * 8;
                // Not the roles: with a role of rubbish there is nobody to write to.
                if (128..136).contains(&at) || (640..648).contains(&at) {
                    at = field::TAIL;
                }
                // Small values and near misses get further than wild ones.
                let value = match random % 4 {
                    0 => random >> 33,
                    1 => random >> 54 << 3,
                    2 => random >> 58 << 32 | random >> 56,
                    _ => random,
                };
                poke(&segment, at, value);
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        let (mut popped, mut rounds, mut corrupt) = (Vec::new(), 0u64, 0u64);
        while Instant::now() < end {
            poke(ring.segment(), field::TAIL, 0);
            poke(ring.segment(), field::HEAD, 0);
            poke(ring.segment(), 0, 0);
            let (Ok(mut producer), Ok(mut consumer)) = (ring.producer(), ring.consumer()) else {
                corrupt += 1;
                continue;
            };
            for turn in 0..64 {
                rounds += 1;
                let _ = producer.try_push(&[turn; 100]);
                if let Ok(mut slot) = producer.try_reserve(50) {
                    slot.write_at(0, &[turn; 50]);
                    let _ = slot.commit_len(20);
                }
                if let Ok(record) = consumer.try_read() {
                    assert!(record.to_vec().len() <= CAPACITY);
                    record.release();
                }
                match consumer.try_pop(&mut popped) {
                    Ok(len) => assert!(len <= CAPACITY),
                    Err(PopError::Corrupt) => corrupt += 1,
                    Err(_) => {}
                }
                let _ = (ring.len(), ring.used(), producer.len());
            }
        }
        over.store(true, Relaxed);
        assert!(
            rounds > 1000 && corrupt > 0,
            "{rounds} rounds, {corrupt} found corrupt"
        );
    });
}

/// Catches a forked child that writes into what its parent has reserved, or closes its parent's ring.
#[test]
fn f09_a_forked_child_leaves_the_ring_of_its_parent_alone() {
    let ring = bytes::Ring::options()
        .capacity(1024)
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let mut reservation = producer.reserve(4).unwrap();
    reservation.write_at(0, b"ours");
    Child::run(|| {
        ring.close();
        let written = AssertUnwindSafe(|| reservation.write_at(0, b"hers"));
        assert!(catch_unwind(written).is_err());
    })
    .join();
    reservation.commit().unwrap();
    let mut popped = Vec::new();
    assert_eq!(consumer.pop(&mut popped), Ok(4));
    assert_eq!(popped, b"ours");
}
