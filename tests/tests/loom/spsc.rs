//! SPSC rings.

use ipc_ring::side::{ReceiveSide, Refusal, SendSide, Side, Whole};
use ipc_ring::spsc::{Receiver, Shared};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover};

pub(crate) const CLAIMS: &[Claim] = &[TWO_LAPS, CLOSED, PRODUCER_FOLLOWS, CONSUMER_FOLLOWS];

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words64: vec![0, 8, 128],
        words32: vec![256, 260, 384],
        cells: vec![640],
        len: 648,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

/// A ring of one slot for messages of one word.
fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    Shared::new(&memory.area(), 1, 8).unwrap()
}

/// Pushes messages, each as soon as there is room.
fn push(memory: &LoomMemory, messages: &[u64]) {
    let mut sender = ring(memory).sender().unwrap();
    for message in messages {
        while sender.try_push_one(&message.to_ne_bytes()).is_err() {
            thread::yield_now();
        }
    }
}

/// Takes a message as soon as there is one. Nobody has closed the ring before.
fn pop(receiver: &mut Receiver<LoomMemory>) -> u64 {
    let mut message = [0; 8];
    while let Err(refusal) = receiver.try_pop_one(&mut message) {
        assert_eq!(refusal, Refusal::NotYet);
        thread::yield_now();
    }
    u64::from_ne_bytes(message)
}

/// Two laps of one slot.
fn two_laps(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&other, &[1, 2]));
    let mut receiver = ring(&memory).receiver().unwrap();
    assert_eq!([pop(&mut receiver), pop(&mut receiver)], [1, 2]);
    producer.join().unwrap();
}

const TWO_LAPS: Claim = Claim {
    model: two_laps,
    needs: &[
        "spsc::advance: Release",
        "spsc::refresh 2: Acquire",
        "spsc::advance 2: Release",
        "spsc::refresh: Acquire",
    ],
};

/// Catches a payload that is not visible with the tail, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_tail() {
    TWO_LAPS.prove();
}

/// A consumer that has promised not to sleep, and a producer that closes behind its message.
fn closed(weakening: Option<Weakening>) {
    let memory = memory(weakening).registered();
    let mut receiver = ring(&memory).receiver().unwrap();
    receiver.event().start_streaming();
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        push(&other, &[1]);
        ring(&other).close();
    });
    assert_eq!(pop(&mut receiver), 1);
    producer.join().unwrap();
}

const CLOSED: Claim = Claim {
    model: closed,
    needs: &["spsc::close: Release", "spsc::closed_or_empty: Acquire"],
};

/// Catches a consumer that is told of the end before it has had everything.
#[test]
fn the_end_comes_behind_the_last_message() {
    CLOSED.prove();
}

/// A producer that comes after another, while the consumer takes what that one left.
fn producer_follows(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    push(&memory, &[1]);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&other, &[2]));
    let mut receiver = ring(&memory).receiver().unwrap();
    assert_eq!([pop(&mut receiver), pop(&mut receiver)], [1, 2]);
    producer.join().unwrap();
}

const PRODUCER_FOLLOWS: Claim = Claim {
    model: producer_follows,
    needs: &["spsc::positions: Acquire"],
};

/// Catches a new producer that writes over what has not been read.
#[test]
fn a_new_producer_goes_on_behind_the_last() {
    PRODUCER_FOLLOWS.prove();
}

/// A consumer that comes while a message is pushed.
fn consumer_follows(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let consumer = thread::spawn(move || pop(&mut ring(&other).receiver().unwrap()));
    push(&memory, &[1]);
    assert_eq!(consumer.join().unwrap(), 1);
}

const CONSUMER_FOLLOWS: Claim = Claim {
    model: consumer_follows,
    needs: &["spsc::positions 2: Acquire"],
};

/// Catches a new consumer that finds a message before it is there.
#[test]
fn a_new_consumer_sees_what_it_finds() {
    CONSUMER_FOLLOWS.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_spsc_rings_is_needed() {
    let onlooker = "only who has neither role comes here, and he reads no message";
    let peeking = "only who looks on needs it, for whom there is no model yet";
    let compared = "what was pushed before the end is seen by the load before it, and this one is only compared";
    cover(
        "spsc",
        &[CLAIMS],
        &[
            ("positions 3: Acquire", onlooker),
            ("show: Release", peeking),
            ("show 2: fence", peeking),
            ("oldest: Acquire", peeking),
            ("newest: Acquire", peeking),
            ("peek: Acquire", peeking),
            ("peek 2: fence", peeking),
            ("peek 3: Acquire", peeking),
            ("counts: Acquire", onlooker),
            ("counts 2: Acquire", onlooker),
            ("closed_or_empty 2: Acquire", compared),
        ],
    );
}
