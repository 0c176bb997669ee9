//! Loans and reservations that nobody gives back.

use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::PopError;
use ipc_tests::adapters::{Consumer, KINDS, Kind, Producer, Ring};

/// Fills the ring and empties it: every place is there, and nothing else.
fn assert_whole(
    kind: &Kind,
    ring: &dyn Ring,
    producer: &mut dyn Producer,
    consumer: &mut dyn Consumer,
) {
    let numbers: Vec<_> = (100..).take(ring.capacity()).collect();
    let pushed = producer.try_push_slice(&numbers).unwrap();
    assert!(
        pushed == numbers.len() || !kind.exact,
        "{}: {pushed} fit in",
        kind.name
    );
    assert!(producer.try_push(0).is_err(), "more than the capacity");
    assert_eq!(consumer.drain(), numbers[..pushed]);
}

#[test]
fn what_was_forgotten_is_given_back_with_its_handle() {
    // Catches a place that is lost for good with a reservation or a loan that was forgotten, and one that is lost with a
    // handle that was dropped meanwhile.
    for kind in KINDS {
        for capacity in [1, 4] {
            let ring = (kind.create)(Place::Anonymous, capacity).unwrap();
            let mut consumer = ring.consumer();
            for _ in 0..3 * capacity {
                let mut producer = ring.producer();
                producer.reserve_and_forget().unwrap();
                drop(producer);
                // A place that was skipped may be free only behind a look at it.
                assert_eq!(consumer.try_pop(), Err(PopError::Empty), "{}", kind.name);
            }
            let mut producer = ring.producer();
            assert_whole(kind, &*ring, &mut *producer, &mut *consumer);
            for _ in 0..3 * capacity as u64 {
                if kind.lends {
                    producer.try_push(7).unwrap();
                    assert_eq!(consumer.read_and_forget(), Ok(7));
                    drop(consumer);
                    consumer = ring.consumer();
                    // Released, or not taken: the documentation of the kind says which.
                    let left = consumer.drain();
                    assert!(left.is_empty() || left == [7], "{}: {left:?}", kind.name);
                }
            }
            assert_whole(kind, &*ring, &mut *producer, &mut *consumer);
        }
    }
}

#[test]
fn what_one_handle_forgets_costs_the_others_nothing() {
    // Catches a reservation that was forgotten and holds up other producers after its handle's next call, where a ring
    // has several.
    for kind in KINDS.iter().filter(|kind| kind.many_producers) {
        let ring = (kind.create)(Place::Anonymous, 8).unwrap();
        let (mut careless, mut other) = (ring.producer(), ring.producer());
        let mut consumer = ring.consumer();
        let deadline = Instant::now() + Duration::from_secs(10);
        for number in 0..100 {
            careless.reserve_and_forget().unwrap();
            other.push_until(2 * number, deadline).unwrap();
            careless.push_until(2 * number + 1, deadline).unwrap();
            let mut popped = [(); 2].map(|()| consumer.pop_until(deadline).unwrap());
            popped.sort_unstable();
            assert_eq!(popped, [2 * number, 2 * number + 1], "{}", kind.name);
        }
    }
}
