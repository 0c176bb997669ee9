//! Processes that are killed, those that go on, and those that come after.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ipc_core::region::Region;
use ipc_core::segment::Place;
use ipc_core::{Layout, Shared};
use ipc_ring::{PopError, PushError};
use ipc_tests::adapters::{Consumer, KINDS, Kind, Producer};
use ipc_tests::child::Child;
use nix::sys::signal::Signal;

use crate::backing::{Backing, Made};

/// What becomes of each message, written down by whoever knows.
#[derive(Layout, Shared)]
#[repr(C)]
struct Ledger {
    /// The next number to be pushed.
    next: AtomicU64,
    /// One before the push, two after it.
    pushed: [AtomicU64; MESSAGES],
    /// How often it was taken.
    taken: [AtomicU64; MESSAGES],
    /// How often it was taken as a message that had been taken before.
    redelivered: [AtomicU64; MESSAGES],
}

const MESSAGES: usize = 1 << 20;

/// Pushes until the ring is closed, or the ledger is full.
fn keep_pushing(producer: &mut dyn Producer, ledger: &Ledger) {
    loop {
        let number = ledger.next.fetch_add(1, SeqCst) as usize;
        if number >= MESSAGES {
            return;
        }
        ledger.pushed[number].store(1, SeqCst);
        loop {
            match producer.push(number as u64) {
                Ok(()) => break,
                // The consumer was killed: another one comes.
                Err(PushError::PeerDead(())) => {}
                Err(PushError::Closed(())) => return,
                Err(error) => panic!("{error}"),
            }
        }
        ledger.pushed[number].store(2, SeqCst);
    }
}

/// Takes messages by copy until the ring is closed.
fn keep_popping(consumer: &mut dyn Consumer, ledger: &Ledger) {
    loop {
        match consumer.pop() {
            Ok(number) => {
                ledger.taken[number as usize].fetch_add(1, SeqCst);
            }
            Err(PopError::PeerDead) => {}
            Err(PopError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes messages where they lie until the ring is closed, and writes them down before it releases them.
fn keep_reading(consumer: &mut dyn Consumer, ledger: &Ledger) {
    loop {
        let read = consumer.read_and_release(&mut |number, redelivered| {
            let number = number as usize;
            ledger.taken[number].fetch_add(1, SeqCst);
            ledger.redelivered[number].fetch_add(redelivered.into(), SeqCst);
        });
        match read {
            Ok(()) | Err(PopError::PeerDead) => {}
            Err(PopError::Empty | PopError::Pending(_)) => std::thread::yield_now(),
            Err(PopError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Kills producers and consumers at random moments, and puts others in their place. Tells the ledger, and how many of
/// each were killed.
fn massacre(kind: Kind, consume: fn(&mut dyn Consumer, &Ledger)) -> (Region<Ledger>, u64, u64) {
    let made = Made::new(kind, Backing::Memfd, 16);
    let ledger = Region::<Ledger>::create(Place::Anonymous).unwrap();
    let new_producer = || {
        Child::run(|| {
            let ledger = ledger.rejoin().unwrap();
            keep_pushing(&mut *made.attach().producer(), &ledger);
        })
    };
    let new_consumer = || {
        Child::run(|| {
            let ledger = ledger.rejoin().unwrap();
            consume(&mut *made.attach().consumer(), &ledger);
        })
    };
    let number = |many| if many { 3 } else { 1 };
    let mut producers: Vec<_> = (0..number(kind.many_producers))
        .map(|_| new_producer())
        .collect();
    let mut consumers: Vec<_> = (0..number(kind.many_consumers))
        .map(|_| new_consumer())
        .collect();
    let (mut killed_producers, mut killed_consumers) = (0, 0);
    // Moments between 0.1 and 3 ms, scattered by a generator of our own: the same ones in each run.
    let mut random = 1_u64;
    for round in 0..150 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros(100 + (random >> 33) % 2900));
        if round % 2 == 0 {
            producers.remove(0).kill();
            producers.push(new_producer());
            killed_producers += 1;
        } else {
            consumers.remove(0).kill();
            consumers.push(new_consumer());
            killed_consumers += 1;
        }
    }
    made.ring.close();
    producers.into_iter().for_each(Child::join);
    // Whoever is left takes what is left; this process stands in for those who were killed last.
    consumers.into_iter().for_each(Child::join);
    consume(&mut *made.ring.consumer(), &ledger);
    (ledger, killed_producers, killed_consumers)
}

#[test]
fn every_message_is_committed_once_whoever_is_killed() {
    // Catches a message that is lost or delivered twice, one that was never pushed, and a ring that gets stuck, whoever is
    // killed at whatever moment. One killed between its commit and its note takes one message with it.
    for kind in KINDS.iter().filter(|kind| kind.keeps) {
        let (ledger, killed_producers, killed) = massacre(*kind, keep_popping);
        let (mut lost, mut unsure, mut total) = (0, 0, 0);
        for number in 0..MESSAGES {
            let pushed = ledger.pushed[number].load(SeqCst);
            let taken = ledger.taken[number].load(SeqCst);
            match (pushed, taken) {
                (0, 0) => {}
                // Its producer was killed, or told that the ring is closed.
                (1, 0 | 1) => unsure += 1,
                (2, 1) => total += 1,
                (2, 0) => lost += 1,
                other => panic!("{}: message {number}: {other:?}", kind.name),
            }
        }
        println!(
            "{}: {total} delivered, {unsure} of {killed_producers} killed producers, {lost} gone with {killed} killed consumers",
            kind.name
        );
        assert!(
            lost <= killed,
            "{}: {lost} lost by {killed} kills",
            kind.name
        );
        assert!(
            unsure <= killed_producers + 3,
            "{}: {unsure} pushes without an end",
            kind.name
        );
        assert!(total > killed, "{}: hardly anything was sent", kind.name);
    }
}

#[test]
fn a_message_that_is_read_in_place_is_delivered_at_least_once_and_says_when_again() {
    // Catches a message that is lost with the consumer that was reading it, and one that comes again without saying so
    // where others may have taken it meanwhile.
    for kind in KINDS.iter().filter(|kind| kind.keeps && kind.lends) {
        let (ledger, _, killed) = massacre(*kind, keep_reading);
        let mut again = 0;
        for number in 0..MESSAGES {
            let pushed = ledger.pushed[number].load(SeqCst);
            let taken = ledger.taken[number].load(SeqCst);
            assert!(
                pushed != 2 || taken > 0,
                "{}: message {number} is lost",
                kind.name
            );
            assert!(
                pushed != 0 || taken == 0,
                "{}: message {number} out of nothing",
                kind.name
            );
            if kind.marks_redelivery {
                let redelivered = ledger.redelivered[number].load(SeqCst);
                assert!(
                    taken <= 1 + redelivered,
                    "{}: message {number} taken again in silence",
                    kind.name
                );
            }
            again += taken.saturating_sub(1);
        }
        assert!(
            again <= killed,
            "{}: {again} taken again after {killed} kills",
            kind.name
        );
    }
}

#[test]
fn a_newcomer_goes_on_where_the_dead_one_stopped() {
    // Catches a successor that starts at another position than its predecessor ended: after every kill all that was
    // published is there, in order, without a gap, followed by what the successor pushes.
    for kind in KINDS.iter().filter(|kind| kind.keeps) {
        for backing in crate::backing::ALL {
            let made = Made::new(*kind, backing, 8);
            for life in 0..3_u64 {
                let child = Child::run(|| {
                    let mut producer = made.attach().producer();
                    producer.push_slice(&[10 * life, 10 * life + 1]).unwrap();
                    producer.reserve_and_forget().unwrap();
                    nix::sys::signal::raise(Signal::SIGKILL).unwrap();
                });
                child.join_killed();
                let child = Child::run(|| {
                    let mut consumer = made.attach().consumer();
                    assert_eq!(consumer.pop().unwrap(), 10 * life);
                    if kind.lends {
                        consumer.read_and_forget().unwrap();
                    }
                    nix::sys::signal::raise(Signal::SIGKILL).unwrap();
                });
                child.join_killed();
                let mut consumer = made.ring.consumer();
                let start = Instant::now();
                let deadline = start + Duration::from_secs(10);
                assert_eq!(
                    consumer.pop_until(deadline),
                    Ok(10 * life + 1),
                    "{} {backing:?}",
                    kind.name
                );
                made.ring.producer().push(10 * life + 2).unwrap();
                loop {
                    match consumer.pop_until(deadline) {
                        // The dead producer's; told once.
                        Err(PopError::PeerDead) => {}
                        popped => break assert_eq!(popped, Ok(10 * life + 2)),
                    }
                }
            }
        }
    }
}

#[test]
fn whoever_only_tries_is_not_held_up_by_the_dead() {
    // Catches a claim of a dead process that only waiting calls would resolve: a program that polls would be told
    // "pending" for ever.
    for kind in KINDS.iter().filter(|kind| kind.keeps) {
        let made = Made::new(*kind, Backing::Anonymous, 4);
        Child::run(|| {
            let mut producer = made.attach().producer();
            producer.reserve_and_forget().unwrap();
            nix::sys::signal::raise(Signal::SIGKILL).unwrap();
        })
        .join_killed();
        made.ring.producer().push(7).unwrap();
        let mut consumer = made.ring.consumer();
        let start = Instant::now();
        loop {
            match consumer.try_pop() {
                Ok(number) => break assert_eq!(number, 7),
                Err(PopError::Empty | PopError::Pending(_)) => {
                    assert!(
                        start.elapsed() < Duration::from_secs(10),
                        "{}: held up",
                        kind.name
                    );
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_stopped_process_loses_nothing() {
    // Catches a claim that is taken from a process that is merely stopped: it would go on to write into somebody else's
    // message.
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Anonymous, 2);
        let ready = Region::<[AtomicU64; 1]>::create(Place::Anonymous).unwrap();
        let mut consumer = made.ring.consumer();
        let child = Child::run(|| {
            let ready = ready.rejoin().unwrap();
            let mut producer = made.attach().producer();
            for number in 0.. {
                match producer.push(number) {
                    Ok(()) => ready[0].store(number + 1, SeqCst),
                    Err(PushError::Closed(())) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut expected = 0;
        for _ in 0..20 {
            child.signal(Signal::SIGSTOP);
            // All that was published can be taken; what is under way is waited for in vain, and is not lost.
            let deadline = Instant::now() + Duration::from_millis(50);
            loop {
                match consumer.pop_until(deadline) {
                    Ok(number) => {
                        assert_eq!(number, expected, "{}", kind.name);
                        expected += 1;
                    }
                    Err(PopError::TimedOut) => break,
                    Err(error) => panic!("{}: {error}", kind.name),
                }
            }
            assert!(expected >= ready[0].load(SeqCst));
            child.signal(Signal::SIGCONT);
            for _ in 0..100 {
                assert_eq!(consumer.pop(), Ok(expected), "{}", kind.name);
                expected += 1;
            }
        }
        made.ring.close();
        child.join();
    }
}
