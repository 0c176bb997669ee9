//! What is counted in a ring: by whom, how much, and that it outlives whoever counted.

use std::time::{Duration, Instant};

use ipc_ring::role::Holder;
use ipc_ring::side::End;
use ipc_ring::{Counters, Observer, PopError, Statistics};
use ipc_tests::adapters::{KINDS, Kind};
use ipc_tests::child::Child;
use nix::sys::signal::{Signal, raise};

use crate::backing::{Backing, Made};

fn look(made: &Made) -> Statistics {
    Observer::open(made.path()).unwrap().statistics()
}

/// Bytes that a message takes where it is counted.
fn bytes(kind: &Kind) -> u64 {
    match kind.name {
        "spsc" | "mpmc" | "broadcast" => 40,
        _ => 64,
    }
}

#[test]
fn everything_is_counted_where_it_happens() {
    // Catches a count that is left out, made twice, or made at the other end.
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Path, 4);
        let (mut consumer, mut producer) = (made.ring.consumer(), made.ring.producer());
        assert_eq!(consumer.try_pop(), Err(PopError::Empty));
        assert_eq!(consumer.try_pop(), Err(PopError::Empty));
        producer.push_slice(&[1, 2, 3]).unwrap();
        producer.reserve_and_commit(4).unwrap();
        assert!(producer.try_push(5).is_err());
        let deadline = Instant::now() + Duration::from_millis(2);
        assert!(producer.push_until(5, deadline).is_err());
        assert_eq!(consumer.pop(), Ok(1));
        assert_eq!(consumer.try_pop_into(2), Ok(vec![2, 3]));

        let found = look(&made);
        let expected = |messages| (messages, messages * bytes(kind));
        let moved = |counters: Counters| (counters.messages, counters.bytes);
        assert_eq!(moved(found.produced), expected(4), "{}", kind.name);
        assert_eq!(moved(found.consumed), expected(3), "{}", kind.name);
        let Counters {
            full, empty, waits, ..
        } = found.produced;
        assert_eq!((full, empty, waits), (2, 0, 1), "{}", kind.name);
        let Counters {
            full,
            empty,
            waits,
            wake_ups,
            ..
        } = found.consumed;
        assert_eq!(
            (full, empty, waits, wake_ups),
            (0, 2, 0, 0),
            "{}",
            kind.name
        );
        let ends: Vec<_> = found.parties.iter().map(|party| party.end).collect();
        assert_eq!(ends, [End::Producer, End::Consumer], "{}", kind.name);
        for party in &found.parties {
            assert!(matches!(party.holder, Holder::Present(_)));
            assert_eq!(party.now, party.ever);
        }
    }
}

#[test]
fn counts_outlive_whoever_counted() {
    // Catches counts that go with a handle or with a process, and a death that is not counted, or counted twice.
    for kind in KINDS {
        let made = Made::new(*kind, Backing::Path, 8);
        let mut consumer = made.ring.consumer();
        made.ring.producer().push_slice(&[1, 2]).unwrap();
        let child = Child::run(|| {
            let ring = made.attach();
            let mut producer = ring.producer();
            producer.push_slice(&[3, 4, 5]).unwrap();
            raise(Signal::SIGKILL).unwrap();
        });
        child.join_killed();
        for id in made.ring.segment().participants() {
            made.ring.segment().recover(id);
        }
        let mut producer = made.ring.producer();
        producer.push(6).unwrap();
        assert_eq!(consumer.try_pop_into(8).map(|got| got.len()), Ok(6));

        let found = look(&made);
        assert_eq!(found.produced.messages, 6, "{}", kind.name);
        assert_eq!(found.produced.recovered, 1, "{}", kind.name);
        assert_eq!(found.consumed.messages, 6, "{}", kind.name);
        assert_eq!(found.consumed.recovered, 0, "{}", kind.name);
        let present = |end| {
            let parties = found.parties.iter().filter(move |party| party.end == end);
            let holders = parties.filter(|party| matches!(party.holder, Holder::Present(_)));
            holders.map(|party| party.now.messages).collect::<Vec<_>>()
        };
        assert_eq!(present(End::Producer), [1], "{}", kind.name);
        assert_eq!(present(End::Consumer), [6], "{}", kind.name);
    }
}
