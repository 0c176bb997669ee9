//! Locks, and mutexes, which are a lock and a value.

use ipc_core::event::Wait;
use ipc_core::sync::lock::{Entry, Leave, Lock, Refused, Taken};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[EXCLUSIVE, HANDED_OVER, DEATH];

/// What the lock protects.
const VALUE: usize = 8;

pub(crate) fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words32: vec![0],
        cells: vec![VALUE],
        len: 16,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

pub(crate) fn lock(memory: &LoomMemory) -> Lock<LoomMemory> {
    Lock::new(&memory.area(), 0).unwrap()
}

/// Takes the lock, asleep until then.
pub(crate) fn take(lock: &Lock<LoomMemory>, me: u64) -> Result<Taken, Refused> {
    lock.lock(id(me), Entry::AtOnce, Wait::Block, None, |_| {})
}

/// Adds one to the value, so often.
fn add(memory: &LoomMemory, me: u64, times: u64) {
    let lock = lock(memory);
    for _ in 0..times {
        assert_eq!(take(&lock, me), Ok(Taken::Clean));
        memory.set(VALUE, memory.get(VALUE) + 1);
        lock.unlock(id(me), Leave::Free);
    }
}

/// Two that add to the value.
fn exclusive(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let other = thread::spawn(move || add(&other, 2, 2));
    add(&memory, 1, 1);
    other.join().unwrap();
    assert_eq!(memory.get(VALUE), 3);
}

const EXCLUSIVE: Claim = Claim {
    model: exclusive,
    needs: &[
        "lock::try_lock: Acquire",
        "lock::try_lock_slow 2: Acquire",
        "lock::try_unlock: Release",
        "lock::unlock_slow: Release",
    ],
};

/// Catches a lock that two have at a time, a value whose changes the next holder does not see, and a sleep beside a free
/// lock.
#[test]
fn a_mutex_is_never_held_twice() {
    EXCLUSIVE.prove();
}

/// One has the lock, and another is impatient.
fn handed_over(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let mine = lock(&memory);
    take(&mine, 1).unwrap();
    let other = memory.of(2).ticking();
    let other = thread::spawn(move || {
        let lock = lock(&other);
        let taken = lock.lock(id(2), Entry::Later, Wait::Block, None, |_| {});
        assert_eq!(taken, Ok(Taken::Clean));
        other.set(VALUE, other.get(VALUE) + 1);
        lock.unlock(id(2), Leave::Free);
    });
    memory.set(VALUE, memory.get(VALUE) + 1);
    mine.unlock(id(1), Leave::Free);
    other.join().unwrap();
    assert_eq!(memory.get(VALUE), 2);
}

const HANDED_OVER: Claim = Claim {
    model: handed_over,
    needs: &["lock::accept: Acquire", "lock::unlock_slow: Release"],
};

/// Catches a lock that is handed over without what was done under it.
#[test]
fn a_mutex_that_is_handed_over_is_never_held_twice() {
    HANDED_OVER.prove();
}

/// One dies while it has the lock, and another waits for it.
fn death(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    take(&lock(&memory.of(2)), 2).unwrap();
    let (dying, next) = (memory.of(2), memory.of(3));
    let next = thread::spawn(move || {
        let lock = lock(&next);
        assert_eq!(take(&lock, 3), Ok(Taken::OwnerDied));
        assert_eq!(next.get(VALUE), 1);
        lock.mark_consistent();
        lock.unlock(id(3), Leave::Free);
    });
    // The kernel tells of its death behind its last instruction, which the join stands for.
    thread::spawn(move || dying.set(VALUE, 1)).join().unwrap();
    lock(&memory).recover(id(2));
    next.join().unwrap();
    let lock = lock(&memory);
    assert_eq!(take(&lock, 1), Ok(Taken::Clean));
}

const DEATH: Claim = Claim {
    model: death,
    needs: &["lock::recover: Release", "lock::try_lock_slow 2: Acquire"],
};

/// Catches a death that nobody is told of, and a value half changed that the next holder does not see.
#[test]
fn the_death_of_a_holder_is_told() {
    DEATH.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_locks_is_needed() {
    let holder =
        "only the holder changes these bits, and what it does next is carried by letting go";
    cover(
        "lock",
        &[CLAIMS, super::once::CLAIMS, super::rwlock::CLAIMS],
        &[("change: Acquire", holder), ("change: Release", holder)],
    );
}
