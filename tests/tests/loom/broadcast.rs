//! Broadcast rings.

use std::sync::atomic::Ordering::Relaxed;

use ipc_ring::broadcast::{Receiver, Sender, Shared, Start, full};
use ipc_ring::side::{Peek, ReceiveSide, Refusal, SendSide, Side, Whole};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover};
use super::follower::follow;

/// Where rows begin, what is in one, and where slots begin.
const ROWS: usize = 512;
const ROW: usize = 128;
const SLOTS: usize = ROWS + 32 * ROW;

/// A ring of so many slots for messages of two words, read by whoever the producer waits for, or by whoever it does not.
fn memory(weakening: Option<Weakening>, slots: usize, lossless: bool) -> LoomMemory {
    let payload = (0..slots)
        .flat_map(|slot| [8, 16].map(|word| SLOTS + 64 * slot + word))
        .collect();
    let (racing, cells) = match lossless {
        true => (vec![], payload),
        false => (payload, vec![]),
    };
    let places = Places {
        words64: [0, 136, ROWS + 8, ROWS + 16]
            .into_iter()
            .chain((0..slots).map(|slot| SLOTS + 64 * slot))
            .collect(),
        words32: vec![128, 132, 256],
        // Roles, and the rows of the other readers.
        still: vec![384..392, ROWS..ROWS + 8, ROWS + ROW..SLOTS],
        racing,
        cells,
        len: SLOTS + 64 * slots,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    let slots = (memory.area().len() - SLOTS) / 64;
    Shared::new(&memory.area(), slots, 16, 8).unwrap()
}

/// The message of a position.
fn message(position: u64) -> [u8; 16] {
    let word = (position + 1).to_ne_bytes();
    [word, word].concat().try_into().unwrap()
}

/// Pushes the messages of so many positions, each as soon as there is room.
fn push(sender: &mut Sender<LoomMemory>, positions: std::ops::Range<u64>) {
    for position in positions {
        while let Err(refusal) = sender.try_push_one(&message(position)) {
            assert_eq!(refusal, Refusal::NotYet);
            thread::yield_now();
        }
    }
}

/// Takes the message of a position, which nobody else may overtake.
fn pop(receiver: &mut Receiver<LoomMemory>, position: u64) {
    let mut found = [0; 16];
    while let Err(refusal) = receiver.try_pop_one(&mut found) {
        assert_eq!(refusal, Refusal::NotYet);
        thread::yield_now();
    }
    assert_eq!(found, message(position));
}

/// A producer of two laps, and a reader that it does not wait for.
fn torn(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let mut watcher = ring(&memory).watcher(Start::Oldest, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..2));
    let mut position = 0;
    let mut found = [0; 16];
    while position < 2 {
        match watcher.try_pop_one(&mut found) {
            Ok(()) => {
                assert_eq!(found, message(position));
                position += 1;
            }
            Err(Refusal::Lagged(missed)) => position += missed,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotYet);
                thread::yield_now();
            }
        }
    }
    assert_eq!(position, 2);
    producer.join().unwrap();
}

const TORN: Claim = Claim {
    model: torn,
    needs: &[
        "broadcast::begin: fence",
        "broadcast_readers::copy 2: fence",
        "broadcast::publish: Release",
        "broadcast_readers::copy: Acquire",
    ],
};

/// Catches a message that is torn, another than that of its position, or missed without being counted.
#[test]
fn a_message_is_whole_or_missed() {
    TORN.prove();
}

/// A producer of two laps, and a reader that it waits for.
fn waited_for(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, true);
    let mut receiver = ring(&memory).receiver(0, Start::Oldest);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..2));
    pop(&mut receiver, 0);
    pop(&mut receiver, 1);
    producer.join().unwrap();
}

const WAITED_FOR: Claim = Claim {
    model: waited_for,
    needs: &[
        "broadcast::publish: Release",
        "broadcast_readers::copy: Acquire",
        "broadcast_readers::advance: Release",
        "audience::heeded 2: Acquire",
    ],
};

/// Catches a message that is written over before the reader that is waited for has read it.
#[test]
fn a_reader_that_is_waited_for_gets_all() {
    WAITED_FOR.prove();
}

/// A producer that closes behind its message.
fn closed(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, true);
    let mut receiver = ring(&memory).receiver(0, Start::Oldest);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let ring = ring(&other);
        push(&mut ring.sender(), 0..1);
        ring.close();
    });
    pop(&mut receiver, 0);
    producer.join().unwrap();
}

const CLOSED: Claim = Claim {
    model: closed,
    needs: &["broadcast_readers::nothing 2: Acquire"],
};

/// Catches a reader that is told of the end before it has had everything.
#[test]
fn the_end_comes_behind_the_last_message() {
    CLOSED.prove();
}

/// A reader that comes while messages are pushed, and from then on is waited for.
fn comes(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let ring = ring(&other);
        push(&mut ring.sender(), 0..2);
        ring.close();
    });
    let mut receiver = ring(&memory).receiver(0, Start::Newest);
    let (mut next, mut found) = (None, [0; 16]);
    loop {
        match receiver.try_pop_one(&mut found) {
            Ok(()) => {
                let position = next.unwrap_or_else(|| u64::from(found == message(1)));
                assert_eq!(found, message(position));
                next = Some(position + 1);
            }
            Err(Refusal::Closed) => break,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotYet);
                thread::yield_now();
            }
        }
    }
    assert!(next.is_none_or(|next| next == 2), "the last one is missing");
    producer.join().unwrap();
}

const COMES: Claim = Claim {
    model: comes,
    needs: &["audience::join 3: fence"],
};

/// Catches a producer that writes over a message of a reader which it has not noticed.
#[test]
fn a_reader_that_comes_misses_nothing_from_then_on() {
    COMES.prove();
}

/// A reader that comes while a message is pushed, and wants the oldest.
fn oldest(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..1));
    let mut watcher = ring(&memory).watcher(Start::Oldest, false);
    producer.join().unwrap();
    let mut found = [0; 16];
    assert_eq!(watcher.try_pop_one(&mut found), Ok(()));
    assert_eq!(found, message(0));
}

const OLDEST: Claim = Claim {
    model: oldest,
    needs: &[
        "broadcast::publish 2: Release",
        "broadcast_readers::watcher: Acquire",
    ],
};

/// Catches a newcomer that is told by the tail of a message which it then does not find.
#[test]
fn a_newcomer_finds_the_oldest_message() {
    OLDEST.prove();
}

/// A reader that leaves, and the producer, which has waited for it.
fn leaves(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, true);
    let mut receiver = ring(&memory).receiver(0, Start::Oldest);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..2));
    pop_or_not(&mut receiver);
    receiver.leave();
    producer.join().unwrap();
}

/// Takes the first message, if it is there.
fn pop_or_not(receiver: &mut Receiver<LoomMemory>) {
    let mut found = [0; 16];
    if receiver.try_pop_one(&mut found).is_ok() {
        assert_eq!(found, message(0));
    }
}

const LEAVES: Claim = Claim {
    model: leaves,
    needs: &["audience::heeded: Acquire"],
};

/// Catches a message that is written over while a reader that leaves is still at it.
#[test]
fn a_reader_that_leaves_has_read() {
    LEAVES.prove();
}

/// A producer of two laps, and somebody who looks on.
fn followed(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..2));
    follow(&ring(&memory), 2, |position| message(position).to_vec());
    producer.join().unwrap();
}

const FOLLOWED: Claim = Claim {
    model: followed,
    needs: &[
        "broadcast::begin: fence",
        "broadcast_readers::copy 2: fence",
        "broadcast::publish: Release",
        "broadcast_readers::copy: Acquire",
    ],
};

/// Catches an onlooker that sees a message which is torn or another's.
#[test]
fn an_onlooker_sees_whole_messages() {
    FOLLOWED.prove();
}

/// A producer that finds a message whose predecessor died before it had moved the tail, and a reader that comes meanwhile.
fn succeeded(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        // What the predecessor left, of which its successor learns with the role.
        ring(&other).sender().payload().write(0, &message(0));
        let word = other.area().word64(SLOTS).unwrap();
        word.store(full(0), Relaxed);
        ring(&other).sender();
    });
    let mut watcher = ring(&memory).watcher(Start::Oldest, false);
    producer.join().unwrap();
    let mut found = [0; 16];
    assert_eq!(watcher.try_pop_one(&mut found), Ok(()));
    assert_eq!(found, message(0));
}

const SUCCEEDED: Claim = Claim {
    model: succeeded,
    needs: &[
        "broadcast::sender 3: Release",
        "broadcast_readers::watcher: Acquire",
    ],
};

/// Catches a newcomer that is told by a successor's tail of a message which it then does not find.
#[test]
fn a_newcomer_finds_what_a_dead_producer_left() {
    SUCCEEDED.prove();
}

/// An onlooker that looks for the oldest message while it is pushed.
fn looked_for(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..1));
    let ring = ring(&memory);
    let spot = ring.oldest(0);
    producer.join().unwrap();
    let mut found = Vec::new();
    assert!(ring.peek(0, spot, &mut found).is_ok());
    assert_eq!(found, message(0));
}

const LOOKED_FOR: Claim = Claim {
    model: looked_for,
    needs: &[
        "broadcast::publish 2: Release",
        "broadcast_readers::oldest: Acquire",
    ],
};

/// Catches an onlooker that begins behind a message which is there.
#[test]
fn an_onlooker_finds_the_oldest_message() {
    LOOKED_FOR.prove();
}

/// A reader that is waited for, and comes while a message is pushed that it wants.
fn comes_for_the_oldest(weakening: Option<Weakening>) {
    let memory = memory(weakening, 2, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender(), 0..1));
    let mut receiver = ring(&memory).receiver(0, Start::Oldest);
    producer.join().unwrap();
    let mut found = [0; 16];
    assert_eq!(receiver.try_pop_one(&mut found), Ok(()));
    assert_eq!(found, message(0));
}

const COMES_FOR_THE_OLDEST: Claim = Claim {
    model: comes_for_the_oldest,
    needs: &[
        "broadcast::publish 2: Release",
        "broadcast_readers::join 2: Acquire",
    ],
};

/// Catches a newcomer that begins behind a message which nobody was about to write over.
#[test]
fn a_newcomer_that_is_waited_for_finds_the_oldest_message() {
    COMES_FOR_THE_OLDEST.prove();
}

const CLAIMS: &[Claim] = &[
    TORN,
    WAITED_FOR,
    CLOSED,
    COMES,
    OLDEST,
    LEAVES,
    FOLLOWED,
    SUCCEEDED,
    LOOKED_FOR,
    COMES_FOR_THE_OLDEST,
];

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_broadcast_rings_is_needed() {
    let role = "the role carries what its last holder did";
    let rough = "a length is rough in any case";
    let compared = "only compared: the copy loads it again";
    let unread = "nothing has been read from there on";
    let one_slot = "in a ring of one slot the producer looks again before each message; of more there are too many executions";
    let noticed =
        "in these models nobody streams, so that the fence of the last notice stands before it";
    cover(
        "broadcast",
        &[CLAIMS],
        &[
            ("sender: Acquire", role),
            ("sender 2: Acquire", role),
            ("oldest: Acquire", compared),
            ("len: Acquire", rough),
        ],
    );
    cover(
        "broadcast_readers",
        &[CLAIMS],
        &[
            (
                "receiver: Acquire",
                "the tail is loaded again once it has joined",
            ),
            ("receiver 2: Acquire", role),
            ("newest: Acquire", unread),
            ("nothing: Acquire", compared),
            ("nothing 3: Acquire", compared),
            (
                "lag: Acquire",
                "the word tells how far ahead the producer is at least",
            ),
            ("lag 2: Acquire", compared),
            ("len: Acquire", rough),
            ("join: Release", unread),
            ("join 3: Release", unread),
            ("take_newest: Acquire", compared),
        ],
    );
    cover(
        "audience",
        &[CLAIMS],
        &[
            ("close: Release", noticed),
            ("leave: Release", noticed),
            ("recover: Release", "the dead one reads nothing any more"),
            ("heeds: Acquire", rough),
            (
                "join: Release",
                "the count carries it, and until that is seen the reader counts on nothing",
            ),
            ("join 2: Acquire", "it is only counted"),
            ("join 2: Release", one_slot),
            ("look: Acquire", one_slot),
            ("suffices: Acquire", "the look that follows loads it again"),
        ],
    );
}
