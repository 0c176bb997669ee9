//! MPMC rings.

use ipc_ring::mpmc::Shared;
use ipc_ring::side::{LendSide, ReceiveSide, SendSide, Whole};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, id};
use super::follower::follow;

const SLOT: usize = 512;

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words64: vec![0, 128, SLOT],
        words32: vec![256, 260, 384],
        cells: vec![SLOT + 8],
        len: SLOT + 64,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

/// A ring of one slot for messages of one word.
fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    Shared::new(&memory.area(), 1, 8, 8).unwrap()
}

/// Takes a message, when there is one.
fn pop(memory: &LoomMemory, me: u64) -> u64 {
    let mut receiver = ring(memory).receiver(id(me));
    let mut message = [0; 8];
    while receiver.try_pop_one(&mut message).is_err() {
        thread::yield_now();
    }
    u64::from_ne_bytes(message)
}

/// Two laps of one slot.
fn two_laps(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let mut sender = ring(&other).sender(id(2));
        for message in 1..=2u64 {
            while sender.try_push_one(&message.to_ne_bytes()).is_err() {
                thread::yield_now();
            }
        }
    });
    assert_eq!([pop(&memory, 1), pop(&memory, 1)], [1, 2]);
    producer.join().unwrap();
}

const TWO_LAPS: Claim = Claim {
    model: two_laps,
    needs: &[],
};

/// Catches a payload that is not visible with the word of its slot, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_word() {
    TWO_LAPS.prove();
}

/// Somebody pushes a message, takes it, and dies while it holds it. Another consumer learns of the message from the
/// recovery alone.
fn comes_back(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let (dying, next) = (memory.of(1), memory.of(2));
    let dying = thread::spawn(move || {
        let ring = ring(&dying);
        let message = 7u64.to_ne_bytes();
        ring.sender(id(1)).try_push_one(&message).unwrap();
        ring.receiver(id(1)).try_read().is_ok()
    });
    let next = thread::spawn(move || assert_eq!(pop(&next, 2), 7));
    // The kernel frees the dead one's byte after its last instruction, which the join stands for.
    if dying.join().unwrap() {
        ring(&memory).recover(id(1));
    }
    next.join().unwrap();
}

const COMES_BACK: Claim = Claim {
    model: comes_back,
    needs: &[],
};

/// Catches a recovery that cuts the release of the producer off.
#[test]
fn a_message_that_comes_back_is_visible() {
    COMES_BACK.prove();
}

/// Two laps of one slot for messages of two words, and somebody who looks on.
fn followed(weakening: Option<Weakening>) {
    let places = Places {
        words64: vec![0, 128, SLOT],
        words32: vec![256, 260, 384],
        racing: vec![SLOT + 8, SLOT + 16],
        len: SLOT + 64,
        ..Places::default()
    };
    let memory = LoomMemory::new(places, weakening);
    let ring = |memory: &LoomMemory| Shared::new(&memory.area(), 1, 16, 8).unwrap();
    let message = |position: u64| [position + 1; 2].map(u64::to_ne_bytes).concat();
    let other = memory.of(2);
    let both = thread::spawn(move || {
        let ring = ring(&other);
        let (mut sender, mut receiver) = (ring.sender(id(2)), ring.receiver(id(2)));
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
        "mpmc_producer::claim 2: fence",
        "mpmc::peek: fence",
        "mpmc_producer::publish: Release",
        "mpmc::state: Acquire",
    ],
};

/// Catches an onlooker that sees a message which is torn or another's.
#[test]
fn an_onlooker_sees_whole_messages() {
    FOLLOWED.prove();
}
