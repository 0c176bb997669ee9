//! Broadcast rings of records.

use ipc_ring::broadcast_bytes::{Sender, Shared, Start};
use ipc_ring::bytes::{ReceiveRecords, SendRecords};
use ipc_ring::side::{End, Moved, Refusal, Whole};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover};
use super::follower::follow;

/// Where rows begin, and where the arena does: one record of eight bytes and its header.
const ROWS: usize = 512;
const ARENA: usize = ROWS + 32 * 128;
const CAPACITY: usize = 16;

/// A ring for one record, read by one whom the producer waits for, or only by others.
fn memory(weakening: Option<Weakening>, lossless: bool) -> LoomMemory {
    memory_of(weakening, 1, lossless)
}

/// The same for so many records.
fn memory_of(weakening: Option<Weakening>, records: usize, lossless: bool) -> LoomMemory {
    let headers = (0..records).map(|record| ARENA + record * CAPACITY);
    let payloads: Vec<_> = headers.clone().map(|header| header + 8).collect();
    let mark = |at: usize| (0..7).map(move |word| at + 8 * word);
    let (row, still, racing, cells) = match lossless {
        true => (
            ROWS + 8,
            vec![ROWS..ROWS + 8, ROWS + 128..ARENA],
            vec![],
            payloads,
        ),
        false => (0, vec![ROWS..ARENA], payloads, vec![]),
    };
    let mut words64: Vec<_> = mark(0)
        .chain(mark(64))
        .chain([136, 144])
        .chain(headers)
        .collect();
    if lossless {
        words64.push(row);
        words64.extend(mark(row + 8));
    }
    let places = Places {
        words64,
        words32: vec![128, 132, 256],
        still: [384..392].into_iter().chain(still).collect(),
        racing,
        cells,
        len: ARENA + records * CAPACITY,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn ring(memory: &LoomMemory) -> Shared<LoomMemory> {
    Shared::new(&memory.area(), CAPACITY).unwrap()
}

/// The record at a position: each is longer than the one before, or its header was not seen.
fn record(position: u64) -> Vec<u8> {
    let n = position as usize / CAPACITY + 1;
    vec![n as u8; 2 * n]
}

/// Pushes so many records, each as soon as there is room.
fn push(sender: &mut Sender<LoomMemory>, count: u64) {
    for n in 0..count {
        while let Err(refusal) = sender.try_push_batch(&[record(16 * n)]) {
            assert_eq!(refusal, Refusal::NotYet);
            thread::yield_now();
        }
    }
}

/// Takes the next record as soon as there is one; where it begins.
fn take(reader: &mut impl ReceiveRecords) -> Result<u64, Refusal> {
    let place = reader.try_next()?;
    let mut bytes = vec![0; place.len()];
    reader.read(&place, 0, &mut bytes);
    let start = place.start();
    reader.commit(place)?;
    assert_eq!(bytes, record(start));
    Ok(start)
}

/// Reads until so many records have gone by, each of them taken or counted.
fn read(reader: &mut impl ReceiveRecords, count: u64) {
    let mut number = 0;
    while number < count {
        match take(reader) {
            Ok(start) => {
                assert_eq!(start, 16 * number);
                number += 1;
            }
            Err(Refusal::Lagged(missed)) => number += missed,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotYet);
                thread::yield_now();
            }
        }
    }
    assert_eq!(number, count);
}

/// A producer of two laps, and a reader that it does not wait for.
fn torn(weakening: Option<Weakening>) {
    let memory = memory(weakening, false);
    let mut watcher = ring(&memory).watcher(Start::Oldest, false).unwrap();
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender().unwrap(), 2));
    read(&mut watcher, 2);
    producer.join().unwrap();
}

const TORN: Claim = Claim {
    model: torn,
    needs: &[
        "broadcast_bytes_sender::give_up_oldest: fence",
        "broadcast_bytes_readers::is_whole: fence",
        "broadcast_bytes_mark::position: Acquire",
        "broadcast_bytes_mark::set 2: Release",
    ],
};

/// Catches a record that is torn, another than that of its position, or missed without being counted.
#[test]
fn a_record_is_whole_or_missed() {
    TORN.prove();
}

/// A producer of two laps, and a reader that it waits for.
fn waited_for(weakening: Option<Weakening>) {
    let memory = memory(weakening, true);
    let mut receiver = ring(&memory).receiver(0, Start::Oldest).unwrap();
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender().unwrap(), 2));
    for position in [0, 16] {
        loop {
            match take(&mut receiver) {
                Ok(start) => break assert_eq!(start, position),
                Err(refusal) => assert_eq!(refusal, Refusal::NotYet),
            }
            thread::yield_now();
        }
    }
    producer.join().unwrap();
}

const WAITED_FOR: Claim = Claim {
    model: waited_for,
    needs: &[
        "broadcast_bytes_mark::position: Acquire",
        "audience::heeded 2: Acquire",
    ],
};

/// Catches a record that is written over before the reader that is waited for has read it.
#[test]
fn a_reader_that_is_waited_for_gets_all() {
    WAITED_FOR.prove();
}

/// A producer that closes behind its record.
fn closed(weakening: Option<Weakening>) {
    let memory = memory(weakening, true);
    let mut receiver = ring(&memory).receiver(0, Start::Oldest).unwrap();
    let other = memory.of(2);
    let producer = thread::spawn(move || {
        let ring = ring(&other);
        push(&mut ring.sender().unwrap(), 1);
        ring.close();
    });
    read(&mut receiver, 1);
    producer.join().unwrap();
}

const CLOSED: Claim = Claim {
    model: closed,
    needs: &["broadcast_bytes_sender::is_closed: Acquire"],
};

/// Catches a reader that is told of the end before it has had everything.
#[test]
fn the_end_comes_behind_the_last_record() {
    CLOSED.prove();
}

/// A producer of two laps, and somebody who looks on.
fn followed(weakening: Option<Weakening>) {
    let memory = memory(weakening, false);
    let other = memory.of(2);
    let producer = thread::spawn(move || push(&mut ring(&other).sender().unwrap(), 2));
    follow(&ring(&memory), 32, record);
    producer.join().unwrap();
}

const FOLLOWED: Claim = Claim {
    model: followed,
    needs: &[
        "broadcast_bytes_sender::give_up_oldest: fence",
        "broadcast_bytes_sender::peek: fence",
        "broadcast_bytes_mark::position: Acquire",
    ],
};

/// Catches an onlooker that sees a record which is torn or another's.
#[test]
fn an_onlooker_sees_whole_records() {
    FOLLOWED.prove();
}

/// A producer that never laps itself, and somebody who looks how far it is.
fn counted(weakening: Option<Weakening>) {
    let memory = memory_of(weakening, 2, false);
    let ring = |memory: &LoomMemory| Shared::new(&memory.area(), 2 * CAPACITY).unwrap();
    let other = memory.of(2);
    // In one call: between two of them there is a fence in any case.
    let producer = thread::spawn(move || {
        let records = [record(0), record(16)];
        ring(&other).sender().unwrap().try_push_batch(&records)
    });
    let Moved { messages, bytes } = ring(&memory).moved(End::Producer, 0, Moved::default());
    assert_eq!(bytes, 16 * messages);
    assert_eq!(producer.join().unwrap(), Ok(2));
}

const COUNTED: Claim = Claim {
    model: counted,
    needs: &[
        "broadcast_bytes_mark::look: fence",
        "broadcast_bytes_mark::set: fence",
    ],
};

/// Catches a mark that is seen with the number of another record than that at its position.
#[test]
fn a_mark_has_the_number_of_its_position() {
    COUNTED.prove();
}

const CLAIMS: &[Claim] = &[TORN, WAITED_FOR, CLOSED, FOLLOWED, COUNTED];

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_broadcast_rings_of_records_is_needed() {
    let explored = "nobody but the explorer asks whether a reader is settled, and there each step is seen at once";
    cover("broadcast_bytes_mark", &[CLAIMS], &[]);
    cover(
        "broadcast_bytes_sender",
        &[CLAIMS],
        &[("look_at_readers: Release", explored)],
    );
    cover(
        "broadcast_bytes_readers",
        &[CLAIMS],
        &[("is_settled: Acquire", explored)],
    );
}
