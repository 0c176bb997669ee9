//! What the library's algorithms promise on weak memory, each claim a loom model of the shipped code.
//!
//! Run by `tests/loom.sh`. Behind each claim stand the orderings that it needs: forgotten one at a time, the model must
//! fail.
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, Memory};
use ipc_core::participant::ParticipantId;
use ipc_ring::side::{LendSide, ReceiveSide, SendSide, Whole};
use ipc_ring::{mpmc, spsc};
use ipc_tests::loom_memory::{LoomMemory, Places, Weakening};
use loom::thread;

/// Demands that a model holds, and that it fails with each of the weakenings.
fn needs(model: fn(Weakening), weakenings: &[Weakening]) {
    loom::model(move || model(Weakening::None));
    for &weakening in weakenings {
        let outcome = catch_unwind(AssertUnwindSafe(|| loom::model(move || model(weakening))));
        assert!(outcome.is_err(), "holds without {weakening:?} too");
    }
}

fn area(places: Places) -> (LoomMemory, usize) {
    let len = places.len;
    (LoomMemory::new(places), len)
}

/// Two laps of an SPSC ring of one slot: the message is visible with the tail, and has been read when the head says so.
fn two_laps_of_one_slot(weakening: Weakening) {
    let (memory, len) = area(Places {
        words64: vec![0, 8, 128, 512, 520],
        words32: vec![256, 260, 384],
        cells: vec![640],
        len: 648,
    });
    let ring = move |memory: &LoomMemory| {
        let area = Area::new(memory.clone(), 0, len).unwrap();
        spsc::Shared::new(&area, 1, 8).unwrap()
    };
    let other = memory.weakened(weakening);
    let producer = thread::spawn(move || {
        let mut sender = ring(&other).sender().unwrap();
        for message in 1..=2u64 {
            while sender.try_push_one(&message.to_ne_bytes()).is_err() {
                thread::yield_now();
            }
        }
    });
    let memory = memory.weakened(weakening);
    let mut receiver = ring(&memory).receiver().unwrap();
    for expected in 1..=2u64 {
        let mut message = [0; 8];
        while receiver.try_pop_one(&mut message).is_err() {
            thread::yield_now();
        }
        assert_eq!(u64::from_ne_bytes(message), expected);
    }
    producer.join().unwrap();
}

/// Catches a payload that is not visible with the tail, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_tail() {
    let (tail, head) = (0, 128);
    needs(
        two_laps_of_one_slot,
        &[
            Weakening::Stores(tail),
            Weakening::Loads(tail),
            Weakening::Stores(head),
            Weakening::Loads(head),
        ],
    );
}

/// A waiter sleeps until an item is there; a publisher puts it there and tells.
fn one_item(weakening: Weakening, waiters: Waiters) {
    let (memory, len) = area(Places {
        words64: vec![8],
        words32: vec![0],
        cells: vec![],
        len: 16,
    });
    let memory = memory.weakened(weakening);
    let other = memory.clone();
    let parts = move |memory: &LoomMemory| {
        let area = Area::new(memory.clone(), 0, len).unwrap();
        (
            Event::new(&area, 0, waiters).unwrap(),
            area.word64(8).unwrap(),
        )
    };
    let publisher = thread::spawn(move || {
        let (event, item) = parts(&other);
        item.store(1, Release);
        event.notify(1);
    });
    let (event, item) = parts(&memory);
    loop {
        let prepared = event.prepare();
        if item.load(Relaxed) != 0 {
            break;
        }
        event.sleep(prepared, Duration::MAX);
    }
    publisher.join().unwrap();
}

/// Catches a store of the publisher that passes its look for sleepers: the waiter then sleeps for ever, and loom says so.
#[test]
fn a_wake_is_never_lost() {
    needs(
        |weakening| one_item(weakening, Waiters::One),
        &[Weakening::Fences],
    );
}

/// The same for the protocol of several waiters.
#[test]
fn a_wake_of_many_is_never_lost() {
    needs(
        |weakening| one_item(weakening, Waiters::Many),
        &[Weakening::Fences],
    );
}

const SLOT_WORD: usize = 512;

/// An MPMC ring of one slot with messages of one word.
fn mpmc(memory: &LoomMemory) -> mpmc::Shared<LoomMemory> {
    let area = Area::new(memory.clone(), 0, memory.len()).unwrap();
    mpmc::Shared::new(&area, 1, 8, 8).unwrap()
}

fn mpmc_places() -> Places {
    Places {
        words64: vec![0, 128, SLOT_WORD],
        words32: vec![256, 260, 384],
        cells: vec![SLOT_WORD + 8],
        len: SLOT_WORD + 64,
    }
}

fn id(number: u64) -> ParticipantId {
    ParticipantId::new(number).unwrap()
}

/// Two laps of an MPMC ring of one slot.
fn two_laps_of_one_owned_slot(weakening: Weakening) {
    let (memory, _) = area(mpmc_places());
    let memory = memory.weakened(weakening);
    let other = memory.clone();
    let producer = thread::spawn(move || {
        let mut sender = mpmc(&other).sender(id(1));
        for message in 1..=2u64 {
            while sender.try_push_one(&message.to_ne_bytes()).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut receiver = mpmc(&memory).receiver(id(2));
    for expected in 1..=2u64 {
        let mut message = [0; 8];
        while receiver.try_pop_one(&mut message).is_err() {
            thread::yield_now();
        }
        assert_eq!(u64::from_ne_bytes(message), expected);
    }
    producer.join().unwrap();
}

/// Catches a payload that is not visible with the word of its slot, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_word() {
    needs(two_laps_of_one_owned_slot, &[Weakening::Stores(SLOT_WORD)]);
}

/// Somebody pushes a message, takes it, and dies while it holds it. Another consumer learns of the message from the
/// recovery alone.
fn a_message_comes_back(weakening: Weakening) {
    let (memory, _) = area(mpmc_places());
    let (dying, next) = (memory.clone(), memory.clone());
    let dying = thread::spawn(move || {
        let ring = mpmc(&dying);
        let message = 7u64.to_ne_bytes();
        ring.sender(id(1)).try_push_one(&message).unwrap();
        ring.receiver(id(1)).try_read().is_ok()
    });
    let next = thread::spawn(move || {
        let mut receiver = mpmc(&next).receiver(id(2));
        let mut message = [0; 8];
        while receiver.try_pop_one(&mut message).is_err() {
            thread::yield_now();
        }
        assert_eq!(u64::from_ne_bytes(message), 7);
    });
    // The kernel frees the dead one's byte after its last instruction, which the join stands for.
    if dying.join().unwrap() {
        mpmc(&memory.weakened(weakening)).recover(id(1));
    }
    next.join().unwrap();
}

/// Catches a recovery that cuts the release of the producer off.
#[test]
fn a_message_that_comes_back_is_visible() {
    needs(a_message_comes_back, &[Weakening::Stored(SLOT_WORD)]);
}
