//! Several processes that push and pop as fast as they can, every message looked at.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ipc_core::event::Wait;
use ipc_core::region::Region;
use ipc_core::segment::Place;
use ipc_ring::{Observer, PopError, PushError};
use ipc_tests::adapters::{Consumer, KINDS, Kind, Producer};
use ipc_tests::child::Child;
use ipc_tests::peers::eventually;

use crate::backing::{ALL, Backing, Made};

pub(crate) const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Block];

/// Numbers tell their producer.
const SERIES: u64 = 1 << 32;

fn push_series(producer: &mut dyn Producer, series: u64, count: u64, batch: usize) {
    let numbers: Vec<_> = (0..count).map(|i| series * SERIES + i).collect();
    for run in numbers.chunks(batch) {
        match run {
            [one] => producer.push(*one).unwrap(),
            many => producer.push_slice(many).unwrap(),
        }
    }
}

/// Takes everything until the ring is closed. The numbers of each series ascend.
fn pop_all(consumer: &mut dyn Consumer, batch: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let popped = match batch {
            1 => consumer.pop().map(|number| vec![number]),
            most => consumer.pop_into(most),
        };
        match popped {
            Ok(popped) => numbers.extend(popped),
            Err(PopError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let mut last = [None; 64];
    for number in &numbers {
        let last = &mut last[(number / SERIES) as usize];
        assert!(*last < Some(*number), "{number:x} after {last:x?}");
        *last = Some(*number);
    }
    numbers
}

#[test]
fn two_processes_exchange_everything_in_order() {
    // Catches a message lost, doubled, torn or reordered on the way to a process that attached in the way of its memory,
    // and a wait that misses its wake-up: the ring of one slot makes each side wait for the other all the time.
    for kind in KINDS {
        for backing in ALL {
            for wait in WAITS {
                for (capacity, count, batch) in [(1, 100, 1), (2, 400, 3), (64, 6_000, 16)] {
                    // A pair that polls shares its CPUs with the other tests: it hands over at the end of time slices.
                    let count = if wait == Wait::Spin {
                        count / 10
                    } else {
                        count
                    };
                    let made = Made::new(*kind, backing, capacity);
                    let mut consumer = made.ring.consumer();
                    let child = Child::run(|| {
                        let mut producer = made.attach().producer();
                        producer.set_wait(wait);
                        push_series(&mut *producer, 0, count, batch);
                        producer.close();
                    });
                    consumer.set_wait(wait);
                    let numbers = pop_all(&mut *consumer, batch);
                    child.join();
                    assert!(
                        numbers.iter().copied().eq(0..count),
                        "{} {backing:?} {wait:?}",
                        kind.name
                    );
                }
            }
        }
    }
}

/// `producers` and `consumers` processes over one ring; what the consumers have taken comes back through a pipe of our own.
fn crowd(kind: Kind, producers: u64, consumers: u64, count: u64, batch: usize) {
    let made = Made::new(kind, Backing::Memfd, 64);
    let spsc = KINDS.iter().find(|kind| kind.name == "spsc").unwrap();
    let results: Vec<_> = (0..consumers)
        .map(|_| Made::new(*spsc, Backing::Anonymous, 1024))
        .collect();
    let pushing: Vec<_> = (0..producers)
        .map(|series| {
            let made = &made;
            Child::run(move || push_series(&mut *made.attach().producer(), series, count, batch))
        })
        .collect();
    let popping: Vec<_> = results
        .iter()
        .map(|result| {
            let made = &made;
            Child::run(move || {
                let numbers = pop_all(&mut *made.attach().consumer(), batch);
                let mut result = result.attach().producer();
                result.push_slice(&numbers).unwrap();
                result.close();
            })
        })
        .collect();
    pushing.into_iter().for_each(Child::join);
    made.ring.close();
    let mut numbers: Vec<_> = results
        .iter()
        .flat_map(|result| pop_all(&mut *result.ring.consumer(), 64))
        .collect();
    popping.into_iter().for_each(Child::join);
    numbers.sort_unstable();
    let pushed = (0..producers).flat_map(|series| (0..count).map(move |i| series * SERIES + i));
    assert!(
        numbers.into_iter().eq(pushed),
        "{} {producers}x{consumers}: not every message was taken by exactly one consumer",
        kind.name
    );
}

#[test]
fn a_crowd_loses_and_doubles_nothing() {
    // Catches a claim that two win, a wake-up that goes to the wrong one, and a message that overtakes another of its
    // producer, with many more processes than CPUs.
    for kind in KINDS.iter().filter(|kind| kind.keeps) {
        let many = |possible, many| if possible { many } else { 1 };
        let producers = many(kind.many_producers, 8);
        let consumers = many(kind.many_consumers, 8);
        crowd(*kind, producers, consumers, 4_000, 1);
        crowd(*kind, producers, consumers, 4_000, 7);
        crowd(*kind, producers, 1, 2_000, 1);
        crowd(*kind, 1, consumers, 8_000, 1);
    }
}

#[test]
fn every_reader_of_a_crowd_gets_everything() {
    // Catches a reader that the producer does not wait for, one that is given a message twice, and a wake-up that reaches
    // only some of those who sleep, with many more processes than CPUs.
    const READERS: u64 = 8;
    const COUNT: u64 = 4_000;
    let spsc = KINDS.iter().find(|kind| kind.name == "spsc").unwrap();
    for kind in KINDS.iter().filter(|kind| !kind.keeps) {
        for batch in [1, 7] {
            let made = Made::new(*kind, Backing::Memfd, 64);
            let ready: Vec<_> = (0..READERS)
                .map(|_| Made::new(*spsc, Backing::Anonymous, 1))
                .collect();
            let reading: Vec<_> = ready
                .iter()
                .map(|ready| {
                    let made = &made;
                    Child::run(move || {
                        let mut consumer = made.attach().consumer();
                        ready.attach().producer().push(1).unwrap();
                        let numbers = pop_all(&mut *consumer, batch);
                        assert!(numbers.into_iter().eq(0..COUNT));
                    })
                })
                .collect();
            for ready in &ready {
                assert_eq!(ready.ring.consumer().pop(), Ok(1), "{}", kind.name);
            }
            let mut producer = made.ring.producer();
            push_series(&mut *producer, 0, COUNT, batch);
            producer.close();
            reading.into_iter().for_each(Child::join);
        }
    }
}

#[test]
fn two_full_rings_do_not_hang() {
    // Catches a deadline that does not reach a wait in push. Two processes each push before they pop, over two rings that
    // are both full: neither can go on. The deadline ends it, both take what is there, and then both go on.
    for kind in KINDS {
        let there = Made::new(*kind, Backing::Anonymous, 2);
        let back = Made::new(*kind, Backing::Anonymous, 2);
        let exchange = |producer: &mut dyn Producer, consumer: &mut dyn Consumer| {
            let mut popped = Vec::new();
            for number in 0..50 {
                let mut pushed = false;
                while !pushed {
                    let deadline = Instant::now() + Duration::from_millis(20);
                    match producer.push_until(number, deadline) {
                        Ok(()) => pushed = true,
                        // The other side cannot take our messages while it waits for us to take its own.
                        Err(PushError::TimedOut(())) => popped.extend(consumer.drain()),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            while popped.len() < 50 {
                popped.push(consumer.pop().unwrap());
            }
            assert!(popped.into_iter().eq(0..50));
        };
        // Where messages do not wait for a consumer that comes later, both have to be there first.
        let (mut producer, mut consumer) = (there.ring.producer(), back.ring.consumer());
        let ready = Region::<[AtomicU64; 1]>::create(Place::Anonymous).unwrap();
        let child = Child::run(|| {
            let (mut producer, mut consumer) =
                (back.attach().producer(), there.attach().consumer());
            ready.rejoin().unwrap()[0].store(1, SeqCst);
            exchange(&mut *producer, &mut *consumer);
        });
        eventually("both are there", || ready[0].load(SeqCst) == 1);
        exchange(&mut *producer, &mut *consumer);
        child.join();
    }
}

#[test]
fn an_observer_sees_a_ring_and_leaves_no_trace() {
    // Catches an observer that stores something, takes a participant's row, or counts wrongly. The file is read-only for it.
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Path, 8);
        let _consumer = made.ring.consumer();
        made.ring.producer().push_slice(&[1, 2, 3]).unwrap();
        let before = made.bytes();
        let observer = Observer::open(made.path()).unwrap();
        // Of a ring of records the capacity is in bytes: 64 for each message.
        let capacity = match kind.name {
            "broadcast_bytes" | "bytes" | "channel" | "lanes" => 8 * 64,
            _ => 8,
        };
        assert_eq!(
            (observer.len(), observer.capacity()),
            (3, capacity),
            "{}",
            kind.name
        );
        assert!(!observer.is_closed());
        assert!(made.bytes() == before);
        made.ring.close();
        assert!(observer.is_closed());
    }
}

#[test]
fn an_inherited_handle_refuses_to_work() {
    // Catches a forked child that goes on with its parent's claims: two processes would then hold one role, or one claim.
    for kind in KINDS {
        let ring = (kind.create)(Place::Anonymous, 4).unwrap();
        let mut ends = Some((ring.producer(), ring.consumer()));
        ends.as_mut().unwrap().0.push(1).unwrap();
        Child::run(|| {
            let (mut producer, mut consumer) = ends.take().unwrap();
            assert_eq!(producer.push(2), Err(PushError::Forked(())));
            assert_eq!(consumer.pop(), Err(PopError::Forked));
            // Dropping them here must not give up the parent's roles.
            drop((producer, consumer));
        })
        .join();
        let (mut producer, mut consumer) = ends.take().unwrap();
        producer.push(3).unwrap();
        assert_eq!(consumer.drain(), [1, 3], "{}", kind.name);
    }
}
