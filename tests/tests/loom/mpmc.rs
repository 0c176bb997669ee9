//! MPMC rings.

use ipc_ring::mpmc::Shared;
use ipc_ring::side::{LendSide, ReceiveSide, Refusal, SendSide, Side, Whole};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};
use super::follower::follow;

const SLOT: usize = 512;

fn memory(weakening: Option<Weakening>, slots: usize) -> LoomMemory {
    let slot = |word: usize| (0..slots).map(move |slot| SLOT + 64 * slot + word);
    let places = Places {
        words64: [0, 128].into_iter().chain(slot(0)).collect(),
        words32: vec![256, 260, 384],
        cells: slot(8).collect(),
        len: SLOT + 64 * slots,
        ..Places::default()
    };
    // Everybody streams, so that no push or pop passes the fence of `notify`.
    let memory = LoomMemory::new(places, weakening).never_asked();
    let ring = ring(&memory);
    ring.sender(id(1)).event().start_streaming();
    ring.receiver(id(1)).event().start_streaming();
    memory
}

/// A ring of messages of one word.
fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    let slots = (memory.area().len() - SLOT) / 64;
    Shared::new(&memory.area(), slots, 8, 8).unwrap()
}

/// Pushes a message, as soon as there is room.
fn push(memory: &LoomMemory, me: u64, message: u64) {
    let mut sender = ring(memory).sender(id(me));
    while sender.try_push_one(&message.to_ne_bytes()).is_err() {
        thread::yield_now();
    }
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
    let memory = memory(weakening, 1);
    let other = memory.of(2);
    let producer = thread::spawn(move || [1, 2].map(|message| push(&other, 2, message)));
    assert_eq!([pop(&memory, 1), pop(&memory, 1)], [1, 2]);
    producer.join().unwrap();
}

const TWO_LAPS: Claim = Claim {
    model: two_laps,
    needs: &[
        "mpmc_producer::publish: Release",
        "mpmc_consumer::finish: Release",
    ],
};

/// Catches a payload that is not visible with the word of its slot, or written over before it has been read.
#[test]
fn a_message_is_visible_with_its_word() {
    TWO_LAPS.prove();
}

/// Somebody pushes a message, takes it, and dies while it holds it. Another consumer learns of the message from the
/// recovery alone.
fn comes_back(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
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
    needs: &["mpmc::recover_slot: exchange"],
};

/// Catches a recovery that cuts the release of the producer off.
#[test]
fn a_message_that_comes_back_is_visible() {
    COMES_BACK.prove();
}

/// Somebody begins to write, and dies. Another producer learns of the place from the recovery alone.
fn skipped(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let (dying, next) = (memory.of(1), memory.of(2));
    let dying = thread::spawn(move || {
        let mut sender = ring(&dying).sender(id(1));
        let place = sender.try_reserve();
        if let Ok(place) = place {
            sender.payload().write(place, &7u64.to_ne_bytes());
        }
        place.is_ok()
    });
    let next = thread::spawn(move || push(&next, 2, 8));
    if dying.join().unwrap() {
        ring(&memory).recover(id(1));
        assert_eq!(pop(&memory, 3), 8);
    }
    next.join().unwrap();
}

const SKIPPED: Claim = Claim {
    model: skipped,
    needs: &["mpmc::recover_slot: Release"],
};

/// Catches a place that is written by its next owner while what the dead one wrote there is still on its way.
#[test]
fn the_place_of_a_dead_producer_is_free_of_it() {
    SKIPPED.prove();
}

/// Somebody gives a place back that he has written to, and another takes it.
fn given_back(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let other = memory.of(2);
    let other = thread::spawn(move || {
        let mut sender = ring(&other).sender(id(2));
        if let Ok(place) = sender.try_reserve() {
            sender.payload().write(place, &7u64.to_ne_bytes());
            sender.abort(place);
        }
    });
    push(&memory, 1, 8);
    other.join().unwrap();
    assert_eq!(pop(&memory, 1), 8);
}

const GIVEN_BACK: Claim = Claim {
    model: given_back,
    needs: &["mpmc_producer::abort: Release"],
};

/// Catches a place that is written by its next owner while what the one before wrote there is still on its way.
#[test]
fn a_place_that_was_given_back_is_free() {
    GIVEN_BACK.prove();
}

/// Somebody pushes a message, another takes it and puts it back, and a third one learns of it from that alone.
fn put_back(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let (pushing, undecided) = (memory.of(2), memory.of(3));
    let pushing = thread::spawn(move || push(&pushing, 2, 7));
    let undecided = thread::spawn(move || {
        let mut receiver = ring(&undecided).receiver(id(3));
        if let Ok(taken) = receiver.try_read() {
            receiver.put_back(taken.place);
        }
    });
    assert_eq!(pop(&memory, 1), 7);
    pushing.join().unwrap();
    undecided.join().unwrap();
}

const PUT_BACK: Claim = Claim {
    model: put_back,
    needs: &["mpmc_consumer::put_back: Release"],
};

/// Catches a message that was put back and is not visible with its word.
#[test]
fn a_message_that_is_put_back_is_visible() {
    PUT_BACK.prove();
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
        "mpmc_producer::take 2: fence",
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

/// Two producers, the second of which then takes a message.
fn own_message(weakening: Option<Weakening>) {
    let memory = memory(weakening, 2);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&other, 2, 1));
    push(&memory, 1, 2);
    let mut message = [0; 8];
    match ring(&memory).receiver(id(1)).try_pop_one(&mut message) {
        Ok(()) => {}
        Err(refusal) => assert_eq!(refusal, Refusal::Held(id(2)), "its own message is there"),
    }
    producer.join().unwrap();
}

const OWN_MESSAGE: Claim = Claim {
    model: own_message,
    needs: &["mpmc_producer::tail: Acquire"],
};

/// Catches a ring that looks empty to somebody whose message is in it, behind a place of which he knows by a hint alone.
#[test]
fn a_ring_is_not_empty_for_who_has_pushed() {
    OWN_MESSAGE.prove();
}

const CLAIMS: &[Claim] = &[
    TWO_LAPS,
    COMES_BACK,
    SKIPPED,
    GIVEN_BACK,
    PUT_BACK,
    FOLLOWED,
    OWN_MESSAGE,
];

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_mpmc_rings_is_needed() {
    let rough = "a length by the hints is rough in any case";
    let closing = "for the sake of Closing, which loom cannot show: it knows no sequentially consistent access";
    let state = "that of `state`, right before it, carries the same";
    let hint = "what the head says stays true, and is checked against the words";
    let passed_on = "only passed on: a walk begins at a hint that has been acquired";
    cover(
        "mpmc",
        &[CLAIMS],
        &[
            (
                "recover_slot: Acquire",
                "the lock byte carries what the dead one did",
            ),
            ("state: Release", closing),
            ("len: Acquire", rough),
            ("len 2: Acquire", rough),
            ("is_closed: Acquire", closing),
            ("is_closed: Release", closing),
            ("close: Acquire", closing),
            ("close: Release", closing),
        ],
    );
    cover(
        "mpmc_producer",
        &[CLAIMS],
        &[
            ("take: Acquire", state),
            ("take: Release", closing),
            (
                "take 3: Release",
                "the fence right before it carries the same",
            ),
        ],
    );
    cover(
        "mpmc_consumer",
        &[CLAIMS],
        &[
            ("head: Acquire", hint),
            ("take: Acquire", state),
            ("take: Release", passed_on),
            ("walk: Release", hint),
            ("finish 2: Release", hint),
        ],
    );
}
