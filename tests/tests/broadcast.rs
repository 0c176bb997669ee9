//! What readers of a broadcast ring are promised beyond what every ring promises.

use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::broadcast::{Ring, Start};
use ipc_ring::{ClaimError, PopError, PushError, Ring as _, broadcast, spsc};
use ipc_tests::adapters::{KINDS, Message, STARTS, message, number};
use ipc_tests::child::Child;
use nix::sys::signal::{Signal, raise};

fn ring(capacity: usize) -> Ring<Message> {
    Ring::options()
        .capacity(capacity)
        .create(Place::Anonymous)
        .unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Pushes the numbers of a range, one by one or in runs.
fn push(producer: &mut broadcast::Producer<Message>, numbers: std::ops::Range<u64>, batch: usize) {
    let messages: Vec<_> = numbers.map(message).collect();
    for run in messages.chunks(batch) {
        producer.push_slice(run).unwrap();
    }
}

#[test]
fn a_lossy_reader_is_told_exactly_how_many_messages_it_has_missed() {
    // Catches a count that is off by one, at every distance from nothing missed to several rings, and across every place where
    // positions or words wrap; and a reader of the latest message that takes another one for it there.
    let kind = KINDS.iter().find(|kind| kind.name == "broadcast").unwrap();
    for (capacity, start) in [1, 2, 4, 8, 32]
        .into_iter()
        .flat_map(|capacity| STARTS.map(|start| (capacity, start)))
    {
        for pushed in 0..3 * capacity as u64 + 2 {
            let ring = ring(capacity);
            kind.start_at.unwrap()(ring.segment(), start);
            let mut reader = ring.lossy(Start::Newest).unwrap();
            push(&mut ring.producer().unwrap(), 0..pushed, 3);
            let missed = pushed.saturating_sub(capacity as u64);
            if missed > 0 {
                assert_eq!(reader.try_pop(), Err(PopError::Lagged(missed)));
            }
            let mut late = ring.lossy(Start::Oldest).unwrap();
            for expected in missed..pushed {
                assert_eq!(number(&reader.try_pop().unwrap()), expected);
                assert_eq!(number(&late.try_pop().unwrap()), expected);
            }
            assert_eq!(reader.try_pop(), Err(PopError::Empty));
            assert_eq!(late.try_pop(), Err(PopError::Empty));
            let latest = ring.latest().unwrap().try_pop();
            let latest = latest.map(|latest| number(&latest));
            assert_eq!(latest, pushed.checked_sub(1).ok_or(PopError::Empty));
        }
    }
}

#[test]
fn what_lossy_readers_got_and_missed_adds_up() {
    // Catches a torn message, one that is delivered twice or out of order, and a count that does not tell all that was
    // missed, with a producer that never waits and is at times faster.
    const MESSAGES: u64 = 300_000;
    for capacity in [1, 2, 64] {
        let ring = ring(capacity);
        let mut readers = [(); 2].map(|()| ring.lossy(Start::Newest).unwrap());
        let child = Child::run(|| {
            let mut producer = ring.rejoin().unwrap().producer().unwrap();
            push(&mut producer, 0..MESSAGES, 5);
            producer.close();
        });
        for (index, reader) in readers.iter_mut().enumerate() {
            let (mut next, mut got) = (0, 0);
            loop {
                // One reader takes them one by one, the other in runs.
                let mut run = [[0; 5]; 7];
                let popped = match index {
                    0 => reader.pop().map(|message| vec![message]),
                    _ => reader.pop_into(&mut run).map(|count| run[..count].to_vec()),
                };
                match popped {
                    Ok(messages) => {
                        for message in messages {
                            assert_eq!(number(&message), next);
                            next += 1;
                            got += 1;
                        }
                    }
                    Err(PopError::Lagged(missed)) => next += missed,
                    Err(PopError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(next, MESSAGES, "{got} messages");
        }
        child.join();
    }
}

#[test]
fn a_reader_of_the_latest_message_gets_the_latest_one() {
    // Catches one that gets an old message, the same one twice, or waits although there is one.
    let ring = ring(4);
    let mut reader = ring.latest().unwrap();
    assert_eq!(reader.try_pop(), Err(PopError::Empty));
    let mut producer = ring.producer().unwrap();
    for (from, to) in [(0, 1), (1, 3), (3, 4), (4, 40)] {
        push(&mut producer, from..to, 1);
        assert_eq!(number(&reader.pop().unwrap()), to - 1);
        assert_eq!(reader.try_pop(), Err(PopError::Empty));
    }
    // Who comes late gets it at once.
    assert_eq!(number(&ring.latest().unwrap().pop().unwrap()), 39);
    producer.close();
    assert_eq!(reader.pop(), Err(PopError::Closed));
}

#[test]
fn readers_of_all_sorts_share_a_ring() {
    // Catches a lossless reader that misses something because of the others, and a producer that waits for one that may
    // miss messages.
    let ring = ring(4);
    let mut producer = ring.producer().unwrap();
    let mut lossless = [(); 2].map(|()| ring.lossless(Start::Newest).unwrap());
    let mut lossy = ring.lossy(Start::Newest).unwrap();
    let mut latest = ring.latest().unwrap();
    push(&mut producer, 0..4, 2);
    assert_eq!(
        producer.try_push(message(4)),
        Err(PushError::Full(message(4)))
    );
    assert_eq!(ring.len(), 4);
    assert_eq!(lossless[0].drain().count(), 4);
    // The other one has still to take the oldest message.
    assert!(producer.try_push(message(4)).is_err());
    assert_eq!(number(&lossless[1].try_pop().unwrap()), 0);
    producer.try_push(message(4)).unwrap();
    assert!(producer.try_push(message(5)).is_err());
    // One that leaves is not waited for.
    let [first, second] = lossless;
    drop(second);
    push(&mut producer, 5..8, 1);
    assert!(producer.try_push(message(8)).is_err());
    assert_eq!(lossy.try_pop(), Err(PopError::Lagged(4)));
    assert_eq!(number(&latest.try_pop().unwrap()), 7);
    let mut first = first;
    let numbers: Vec<_> = first.drain().map(|message| number(&message)).collect();
    assert_eq!(numbers, [4, 5, 6, 7]);
}

#[test]
fn a_lossless_reader_that_comes_at_any_time_misses_nothing_from_then_on() {
    // Catches a producer that writes over the first messages of a reader which it has not noticed yet.
    for (capacity, batch) in [(1, 1), (4, 3), (64, 64)] {
        let ring = ring(capacity);
        let child = Child::run(|| {
            let mut producer = ring.rejoin().unwrap().producer().unwrap();
            for number in 0.. {
                let messages: Vec<_> = (0..batch).map(|i| message(number * batch + i)).collect();
                match producer.push_slice(&messages) {
                    Ok(()) => {}
                    Err(PushError::Closed(_)) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut witness = ring.latest().unwrap();
        for round in 0..300 {
            let start = [Start::Newest, Start::Oldest][round % 2];
            // The producer stood still while the last reader went: let it run first.
            for _ in 0..3 {
                witness.pop_until(soon()).unwrap();
            }
            let mut reader = ring.lossless(start).unwrap();
            let first = number(&reader.pop_until(soon()).unwrap());
            for expected in first + 1..first + 20 {
                assert_eq!(number(&reader.pop_until(soon()).unwrap()), expected);
            }
        }
        ring.close();
        child.join();
    }
}

#[test]
fn a_dead_lossless_reader_is_let_go_and_a_slow_one_is_not() {
    // Catches a producer that waits for the dead, or one that gives up on a reader which merely takes its time.
    let ring = ring(4);
    let mut producer = ring.producer().unwrap();
    let mut slow = ring.lossless(Start::Newest).unwrap();
    Child::run(|| {
        let _reader = ring.rejoin().unwrap().lossless(Start::Newest).unwrap();
        raise(Signal::SIGKILL).unwrap();
    })
    .join_killed();
    push(&mut producer, 0..4, 4);
    assert_eq!(slow.drain().count(), 4);
    let start = Instant::now();
    producer.push_until(message(4), soon()).unwrap();
    println!("the dead reader was let go after {:?}", start.elapsed());
    push(&mut producer, 5..8, 1);
    let patience = Instant::now() + Duration::from_millis(200);
    assert_eq!(
        producer.push_until(message(8), patience),
        Err(PushError::TimedOut(message(8)))
    );
    let numbers: Vec<_> = slow.drain().map(|message| number(&message)).collect();
    assert_eq!(numbers, [4, 5, 6, 7]);
}

#[test]
fn a_slow_lossless_reader_is_let_go_when_patience_is_exhausted() {
    // Catches a producer that waits for longer than the ring's creator wants, or lets a reader go before; a reader that is
    // not told exactly what it has missed; and one that is not waited for again after it has come back.
    for patience in [Duration::ZERO, Duration::from_millis(80)] {
        let ring = Ring::<Message>::options()
            .capacity(4)
            .patience(patience)
            .create(Place::Anonymous)
            .unwrap();
        let mut producer = ring.producer().unwrap();
        let mut slow = ring.lossless(Start::Newest).unwrap();
        let mut quick = ring.lossless(Start::Newest).unwrap();
        let mut next = 0;
        for round in 0..3 {
            push(&mut producer, next..next + 4, 4);
            quick.drain().for_each(drop);
            let start = Instant::now();
            producer.push_until(message(next + 4), soon()).unwrap();
            let held_up = start.elapsed();
            println!("{patience:?}: let go after {held_up:?}");
            assert!(held_up >= patience, "before its time");
            // Nobody waits for it now.
            push(&mut producer, next + 5..next + 8, 1);
            for expected in next + 4..next + 8 {
                assert_eq!(number(&quick.pop_until(soon()).unwrap()), expected);
            }
            let mut expected = next;
            while expected < next + 8 {
                match slow.try_pop() {
                    Ok(message) => {
                        assert_eq!(number(&message), expected, "round {round}");
                        expected += 1;
                    }
                    Err(PopError::Lagged(missed)) => expected += missed,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(slow.try_pop(), Err(PopError::Empty));
            assert_eq!(quick.try_pop(), Err(PopError::Empty));
            next += 8;
        }
        if !patience.is_zero() {
            // It has come back: there is patience with it again.
            push(&mut producer, next..next + 4, 4);
            quick.drain().for_each(drop);
            let full = producer.try_push(message(next + 4));
            assert_eq!(full, Err(PushError::Full(message(next + 4))));
        }
    }
}

#[test]
fn a_stopped_reader_that_was_let_go_harms_nobody() {
    // Catches a row that is taken from a process which is merely stopped, and one that goes on and is told nothing.
    let ring = Ring::<Message>::options()
        .capacity(4)
        .patience(Duration::from_millis(1))
        .create(Place::Anonymous)
        .unwrap();
    let mut producer = ring.producer().unwrap();
    let told = spsc::Ring::<u64>::options()
        .create(Place::Anonymous)
        .unwrap();
    let mut heard = told.consumer().unwrap();
    let child = Child::run(|| {
        let mut reader = ring.rejoin().unwrap().lossless(Start::Newest).unwrap();
        let mut told = told.rejoin().unwrap().producer().unwrap();
        told.push(0).unwrap();
        raise(Signal::SIGSTOP).unwrap();
        let mut expected = 0;
        loop {
            match reader.pop_until(soon()) {
                Ok(message) => {
                    assert_eq!(number(&message), expected);
                    expected += 1;
                }
                Err(PopError::Lagged(missed)) => {
                    expected += missed;
                    told.push(missed).unwrap();
                }
                Err(PopError::Closed) => return assert_eq!(expected, 30),
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(heard.pop_until(soon()), Ok(0));
    let mut other = ring.lossless(Start::Newest).unwrap();
    for pushed in 0..30 {
        producer.push_until(message(pushed), soon()).unwrap();
        assert_eq!(number(&other.pop_until(soon()).unwrap()), pushed);
    }
    child.signal(Signal::SIGCONT);
    assert!(heard.pop_until(soon()).unwrap() >= 26);
    producer.close();
    child.join();
}

#[test]
fn a_successor_goes_on_where_the_dead_reader_stopped() {
    // Catches a successor that gets a message twice or misses one in silence.
    for pushed_after in [0, 3, 20] {
        let ring = ring(8);
        let mut producer = ring.producer().unwrap();
        let joined = spsc::Ring::<u64>::options()
            .create(Place::Anonymous)
            .unwrap();
        let child = Child::run(|| {
            let mut reader = ring.rejoin().unwrap().lossless(Start::Newest).unwrap();
            let mut joined = joined.rejoin().unwrap().producer().unwrap();
            joined.push(1).unwrap();
            for expected in 0..2 {
                assert_eq!(number(&reader.pop().unwrap()), expected);
            }
            raise(Signal::SIGKILL).unwrap();
        });
        joined.consumer().unwrap().pop_until(soon()).unwrap();
        push(&mut producer, 0..5, 5);
        child.join_killed();
        for number in 5..5 + pushed_after {
            producer.push_until(message(number), soon()).unwrap();
        }
        let mut successor = ring.lossless(Start::Successor).unwrap();
        let mut expected = 2;
        loop {
            match successor.try_pop() {
                Ok(message) => {
                    assert_eq!(number(&message), expected);
                    expected += 1;
                }
                Err(PopError::Lagged(missed)) => {
                    assert!(pushed_after > 3 && missed > 0);
                    expected += missed;
                }
                Err(PopError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(expected, 5 + pushed_after);
    }
}

#[test]
fn a_killed_producer_is_replaced() {
    // Catches a successor that starts at another position than its predecessor ended, also if that died while it was
    // writing a message.
    let ring = ring(8);
    let mut reader = ring.lossy(Start::Newest).unwrap();
    for life in 0..5 {
        Child::run(|| {
            let mut producer = ring.rejoin().unwrap().producer().unwrap();
            push(&mut producer, 10 * life..10 * life + 3, 2);
            let mut place = producer.reserve().unwrap();
            place.write(&[u64::MAX; 5]);
            raise(Signal::SIGKILL).unwrap();
        })
        .join_killed();
        for expected in 10 * life..10 * life + 3 {
            assert_eq!(number(&reader.try_pop().unwrap()), expected);
        }
        assert_eq!(reader.try_pop(), Err(PopError::Empty));
        assert_eq!(reader.pop_until(soon()), Err(PopError::PeerDead));
    }
}

#[test]
fn there_is_one_producer_and_a_limit_to_lossless_readers() {
    // Catches a role that is given twice, and a row that is not given back.
    let ring = ring(2);
    for _ in 0..2 {
        let _producer = ring.producer().unwrap();
        assert!(matches!(ring.producer(), Err(ClaimError::Taken { .. })));
        let readers: Vec<_> = (0..broadcast::LOSSLESS)
            .map(|_| ring.lossless(Start::Oldest).unwrap())
            .collect();
        let refused = ring.lossless(Start::Oldest);
        assert!(matches!(refused, Err(ClaimError::Taken { .. })));
        drop(readers);
    }
}
