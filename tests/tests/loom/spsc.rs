//! SPSC rings.

use std::sync::atomic::Ordering::Acquire;

use ipc_ring::side::{Peek, ReceiveSide, Refusal, SendSide, Side, Whole};
use ipc_ring::spsc::{Receiver, Shared};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover};
use super::follower::follow;

pub(crate) const CLAIMS: &[Claim] = &[
    TWO_LAPS,
    CLOSED,
    PRODUCER_FOLLOWS,
    CONSUMER_FOLLOWS,
    FOLLOWED,
    LED_ON,
];

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

/// Two laps of one slot for messages of two words, and somebody who looks on.
fn followed(weakening: Option<Weakening>) {
    let places = Places {
        words64: vec![0, 8, 128],
        words32: vec![256, 260, 384],
        still: vec![512..528],
        racing: vec![640, 648],
        len: 656,
        ..Places::default()
    };
    let memory = LoomMemory::new(places, weakening);
    let ring = |memory: &LoomMemory| Shared::new(&memory.area(), 1, 16).unwrap();
    let message = |position: u64| [position + 1; 2].map(u64::to_ne_bytes).concat();
    let other = memory.of(2);
    let both = thread::spawn(move || {
        let ring = ring(&other);
        let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
        sender.try_push_one(&message(0)).unwrap();
        receiver.try_pop_one(&mut [0; 16]).unwrap();
        sender.try_push_one(&message(1)).unwrap();
    });
    follow(&ring(&memory), 2, message);
    both.join().unwrap();
}

const FOLLOWED: Claim = Claim {
    model: followed,
    needs: &[
        "spsc::show 2: fence",
        "spsc::peek: Acquire",
        "spsc::peek 2: fence",
        "spsc::peek 3: Acquire",
    ],
};

/// Catches an onlooker that sees a message which is torn or another's, or that is sent back.
#[test]
fn an_onlooker_sees_whole_messages() {
    FOLLOWED.prove();
}

/// A producer and a consumer, and somebody whose message is gone.
fn led_on(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let (producing, consuming) = (memory.of(2), memory.of(3));
    let producer = thread::spawn(move || push(&producing, &[1, 2]));
    let consumer = thread::spawn(move || pop(&mut ring(&consuming).receiver().unwrap()));
    let seen = memory.area().word64(8).unwrap();
    // As the second look does, without a copy.
    if seen.load(Acquire) != 0 {
        assert!(ring(&memory).oldest(0).position > 0);
    }
    assert_eq!(consumer.join().unwrap(), 1);
    producer.join().unwrap();
}

const LED_ON: Claim = Claim {
    model: led_on,
    needs: &["spsc::show: Release"],
};

/// Catches an onlooker that is sent back to a message which is gone.
#[test]
fn an_onlooker_is_led_on() {
    LED_ON.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_spsc_rings_is_needed() {
    let onlooker = "only who has neither role comes here, and he reads no message";
    let compared = "what was pushed before the end is seen by the load before it, and this one is only compared";
    cover(
        "spsc",
        &[CLAIMS],
        &[
            ("positions 3: Acquire", onlooker),
            ("counts: Acquire", onlooker),
            ("counts 2: Acquire", onlooker),
            ("closed_or_empty 2: Acquire", compared),
        ],
    );
}
