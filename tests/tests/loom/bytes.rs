//! Byte rings, and lanes, which are several of them with one consumer.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_ring::bytes::{Receiver, Shared};
use ipc_ring::side::{Peek, Refusal, Side, Whole};
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
    TWO_LANES,
    FOLLOWED,
    LED_ON,
];

/// Bytes of an arena: one record of eight bytes and its header.
const CAPACITY: usize = 16;

/// Where a lane lies.
fn lane(index: usize) -> usize {
    256 + index * 640
}

fn memory(weakening: Option<Weakening>, lanes: usize) -> LoomMemory {
    LoomMemory::new(places(lanes), weakening)
}

fn places(lanes: usize) -> Places {
    let all = || (0..lanes).map(lane);
    Places {
        // Tail, records pushed, the head that was seen, head, records popped, what was lent; and the header of a record.
        words64: all()
            .flat_map(|at| [0, 8, 16, 128, 136, 144, 512].map(|word| at + word))
            .collect(),
        // The event of the consumer, and whether all is closed; of each lane the event of its producer.
        words32: [0, 4].into_iter().chain(all().map(|at| at + 256)).collect(),
        cells: all().map(|at| at + 520).collect(),
        len: lane(lanes),
        ..Places::default()
    }
}

fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    let area = memory.area();
    Shared::new(
        &area,
        (area.len() - lane(0)) / (lane(1) - lane(0)),
        CAPACITY,
    )
    .unwrap()
}

/// The nth record: each is longer than the one before, or its header was not seen.
fn record(n: usize) -> Vec<u8> {
    vec![n as u8; 3 * n - 2]
}

/// Pushes a record as soon as there is room.
fn push(memory: &LoomMemory, lane: usize, n: usize) {
    let mut sender = ring(memory).sender(lane).unwrap();
    while sender.try_push_batch(&[record(n)]).is_err() {
        thread::yield_now();
    }
}

/// Takes the next record, which is the nth.
fn try_pop(receiver: &mut Receiver<LoomMemory>, n: usize) -> Result<(), Refusal> {
    let place = receiver.try_next()?;
    let mut bytes = vec![0; record(n).len()];
    receiver.read(&place, 0, &mut bytes);
    receiver.commit(place);
    assert_eq!(bytes, record(n));
    Ok(())
}

/// The same, as soon as it is there.
fn pop(receiver: &mut Receiver<LoomMemory>, n: usize) {
    while let Err(refusal) = try_pop(receiver, n) {
        assert_eq!(refusal, Refusal::NotYet);
        thread::yield_now();
    }
}

/// Two laps of an arena that has room for one record.
fn two_laps(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let mut sender = ring(&other).sender(0).unwrap();
        for n in 1..=2 {
            while sender.try_push_batch(&[record(n)]).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut receiver = ring(&memory).receiver().unwrap();
    pop(&mut receiver, 1);
    pop(&mut receiver, 2);
    producer.join().unwrap();
}

const TWO_LAPS: Claim = Claim {
    model: two_laps,
    needs: &[
        "bytes_sender::publish: Release",
        "bytes_receiver::refresh: Acquire",
        "bytes_receiver::commit: Release",
        "bytes_sender::refresh: Acquire",
    ],
};

/// Catches a record whose header or payload is not visible with the position, or is written over before it has been read.
#[test]
fn a_record_is_visible_with_its_position() {
    TWO_LAPS.prove();
}

/// A consumer that has promised not to sleep, and a producer that closes behind its record.
fn closed(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1).registered();
    let mut receiver = ring(&memory).receiver().unwrap();
    receiver.event().start_streaming();
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        push(&other, 0, 1);
        ring(&other).close();
    });
    pop(&mut receiver, 1);
    producer.join().unwrap();
}

const CLOSED: Claim = Claim {
    model: closed,
    needs: &[
        "bytes_lane::close: Release",
        "bytes_receiver::turn: Acquire",
    ],
};

/// Catches a consumer that is told of the end before it has had everything.
#[test]
fn the_end_comes_behind_the_last_record() {
    CLOSED.prove();
}

/// A producer that comes after another, while the consumer takes what that one left.
fn producer_follows(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    push(&memory, 0, 1);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&other, 0, 2));
    let mut receiver = ring(&memory).receiver().unwrap();
    pop(&mut receiver, 1);
    pop(&mut receiver, 2);
    producer.join().unwrap();
}

const PRODUCER_FOLLOWS: Claim = Claim {
    model: producer_follows,
    needs: &["bytes_lane::positions: Acquire"],
};

/// Catches a new producer that writes over what has not been read.
#[test]
fn a_new_producer_goes_on_behind_the_last() {
    PRODUCER_FOLLOWS.prove();
}

/// A consumer that comes while a record is pushed.
fn consumer_follows(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let other = memory.of(2);
    let consumer = thread::spawn(move || pop(&mut ring(&other).receiver().unwrap(), 1));
    push(&memory, 0, 1);
    consumer.join().unwrap();
}

const CONSUMER_FOLLOWS: Claim = Claim {
    model: consumer_follows,
    needs: &["bytes_lane::positions 2: Acquire"],
};

/// Catches a new consumer that finds a record before it is there.
#[test]
fn a_new_consumer_sees_what_it_finds() {
    CONSUMER_FOLLOWS.prove();
}

/// Two producers, each with a lane, and a consumer that sleeps while there is nothing.
fn two_lanes(weakening: Option<Weakening>) {
    let memory = memory(weakening, 2);
    let producers = [0, 1].map(|lane| {
        let memory = memory.of(2 + lane as u32);
        thread::spawn(move || push(&memory, lane, 1))
    });
    let mut receiver = ring(&memory).receiver().unwrap();
    for _ in 0..2 {
        loop {
            let prepared = receiver.event().prepare();
            if try_pop(&mut receiver, 1).is_ok() {
                break;
            }
            receiver.event().sleep(prepared, Duration::MAX);
        }
    }
    for producer in producers {
        producer.join().unwrap();
    }
}

const TWO_LANES: Claim = Claim {
    model: two_lanes,
    needs: &["event::notify_by 2: fence", "event::prepare 3: fence"],
};

/// Catches a consumer that sleeps beside a record in a lane that it looked at last.
#[test]
fn a_record_in_any_lane_wakes_the_consumer() {
    TWO_LANES.prove();
}

/// Two laps of an arena that has room for one record, and somebody who looks on.
fn followed(weakening: Option<Weakening>) {
    let mut places = places(1);
    std::mem::swap(&mut places.cells, &mut places.racing);
    let memory = LoomMemory::new(places, weakening);
    let other = memory.of(2);
    let both = thread::spawn(move || {
        let ring = ring(&other);
        let (mut sender, mut receiver) = (ring.sender(0).unwrap(), ring.receiver().unwrap());
        sender.try_push_batch(&[record(1)]).unwrap();
        try_pop(&mut receiver, 1).unwrap();
        sender.try_push_batch(&[record(2)]).unwrap();
    });
    follow(&ring(&memory), 32, |position| {
        record(position as usize / 16 + 1)
    });
    both.join().unwrap();
}

const FOLLOWED: Claim = Claim {
    model: followed,
    needs: &[
        "bytes_lane::show 2: fence",
        "bytes_lane::peek: Acquire",
        "bytes_lane::peek 2: fence",
        "bytes_lane::peek 3: Acquire",
    ],
};

/// Catches an onlooker that sees a record which is torn or another's, or that is sent back.
#[test]
fn an_onlooker_sees_whole_records() {
    FOLLOWED.prove();
}

/// A producer and a consumer, and somebody whose record is gone.
fn led_on(weakening: Option<Weakening>) {
    let memory = memory(weakening, 1);
    let (producing, consuming) = (memory.of(2), memory.of(3));
    let producer = thread::spawn(move || {
        let mut sender = ring(&producing).sender(0).unwrap();
        for n in 1..=2 {
            while sender.try_push_batch(&[record(n)]).is_err() {
                thread::yield_now();
            }
        }
    });
    let consumer = thread::spawn(move || pop(&mut ring(&consuming).receiver().unwrap(), 1));
    let seen = memory.area().word64(lane(0) + 16).unwrap();
    // As the second look does, without a copy.
    if seen.load(Acquire) != 0 {
        assert!(ring(&memory).oldest(0).position > 0);
    }
    consumer.join().unwrap();
    producer.join().unwrap();
}

const LED_ON: Claim = Claim {
    model: led_on,
    needs: &["bytes_lane::show: Release"],
};

/// Catches an onlooker that is sent back to a record which is gone.
#[test]
fn an_onlooker_is_led_on() {
    LED_ON.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_byte_rings_is_needed() {
    cover("bytes_sender", &[CLAIMS], &[]);
    cover("bytes_receiver", &[CLAIMS], &[]);
    let onlooker = "only who has neither role comes here, and he reads no record";
    let rough = "the count beside the position is rough in any case";
    cover(
        "bytes_lane",
        &[CLAIMS],
        &[
            ("positions 3: Acquire", onlooker),
            ("spot: Acquire", rough),
            ("spot 2: Acquire", rough),
        ],
    );
}
