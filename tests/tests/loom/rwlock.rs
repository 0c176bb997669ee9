//! Read-write locks.

use ipc_core::event::Wait;
use ipc_core::sync::Readers;
use ipc_core::sync::lock::{Leave, Lock, Taken};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[EXCLUSIVE, READER_DIES, WRITER_DIES];

/// What the lock protects.
const VALUE: usize = 256;

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words32: vec![0, 4, 128, 192],
        cells: vec![VALUE],
        len: VALUE + 8,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn readers(memory: &LoomMemory) -> Readers<LoomMemory> {
    Readers::new(&memory.area(), 2).unwrap()
}

/// Takes the lock for writing, and adds one to the value.
fn write(memory: &LoomMemory, me: u64) -> Taken {
    let readers = readers(memory);
    let taken = readers.write(id(me), Wait::Block, None, |_| {}).unwrap();
    memory.set(VALUE, memory.get(VALUE) + 1);
    let lock = Lock::new(&memory.area(), 0).unwrap();
    if taken == Taken::OwnerDied {
        lock.mark_consistent();
    }
    lock.unlock(id(me), Leave::Free);
    taken
}

/// A writer, and a reader that reads twice.
fn exclusive(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let writer = thread::spawn(move || write(&other, 2));
    let readers = readers(&memory);
    let mut last = 0;
    for _ in 0..2 {
        let taken = readers.read(id(1), Wait::Block, None, |_| {});
        assert_eq!(taken, Ok(Taken::Clean));
        let value = memory.get(VALUE);
        assert!(value >= last);
        last = value;
        readers.leave(id(1));
    }
    writer.join().unwrap();
}

const EXCLUSIVE: Claim = Claim {
    model: exclusive,
    needs: &[
        "rwlock::try_read: fence",
        "rwlock::write: fence",
        "rwlock::leave: Release",
        "rwlock::is_drained: Acquire",
        "lock::is_free: Acquire",
    ],
};

/// Catches a reader and a writer that are in together, and either of them left asleep.
#[test]
fn readers_and_a_writer_are_never_in_together() {
    EXCLUSIVE.prove();
}

/// A reader dies; a writer waits for it.
fn reader_dies(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let dying = memory.of(2);
    assert!(readers(&dying).try_read(id(2)));
    let other = memory.clone();
    let writer = thread::spawn(move || write(&other, 1));
    // The kernel tells of its death behind its last instruction, which the join stands for.
    thread::spawn(move || dying.get(VALUE)).join().unwrap();
    readers(&memory).recover(id(2));
    assert_eq!(writer.join().unwrap(), Taken::Clean);
}

const READER_DIES: Claim = Claim {
    model: reader_dies,
    needs: &["rwlock::recover: Release", "rwlock::is_drained: Acquire"],
};

/// Catches a writer that is not told that a dead reader is gone, or is told too early.
#[test]
fn a_dead_reader_lets_the_writer_in() {
    READER_DIES.prove();
}

/// A writer dies while it changes the value; a reader waits for it.
fn writer_dies(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let dying = memory.of(2);
    readers(&dying)
        .write(id(2), Wait::Block, None, |_| {})
        .unwrap();
    let other = memory.clone();
    let reader = thread::spawn(move || readers(&other).read(id(1), Wait::Block, None, |_| {}));
    thread::spawn(move || dying.set(VALUE, 1)).join().unwrap();
    readers(&memory).recover(id(2));
    assert_eq!(reader.join().unwrap(), Ok(Taken::OwnerDied));
    assert_eq!(write(&memory, 1), Taken::OwnerDied);
}

const WRITER_DIES: Claim = Claim {
    model: writer_dies,
    needs: &[],
};

/// Catches a reader that is given what a dead writer left half changed.
#[test]
fn the_death_of_a_writer_is_told_to_readers() {
    WRITER_DIES.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_read_write_locks_is_needed() {
    cover("rwlock", &[CLAIMS], &[]);
}
