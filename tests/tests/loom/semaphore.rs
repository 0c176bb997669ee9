//! Semaphores.

use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::sync::Permits;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[EXCLUSIVE, DEATH];

/// What the one permit is for.
const VALUE: usize = 136;

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words32: vec![0, 128],
        cells: vec![VALUE],
        len: VALUE + 8,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn permits(memory: &LoomMemory) -> Permits<LoomMemory> {
    Permits::new(&memory.area(), 1).unwrap()
}

/// Takes the permit, waiting for it as `Semaphore::acquire` does, adds one to the value, and gives it back.
fn add(memory: &LoomMemory, me: u64) {
    let permits = permits(memory);
    let freed = Event::new(&memory.area(), 0, Waiters::Many).unwrap();
    let attempt = || Ok::<_, ()>(permits.try_acquire(id(me)));
    let got = wait_until(&freed, Wait::Block, None, attempt, || Ok(()))
        .unwrap()
        .got;
    memory.set(VALUE, memory.get(VALUE) + 1);
    permits.release(id(me), got.unwrap());
}

/// Two that want the one permit.
fn exclusive(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let other = thread::spawn(move || add(&other, 2));
    add(&memory, 1);
    other.join().unwrap();
    assert_eq!(memory.get(VALUE), 2);
}

const EXCLUSIVE: Claim = Claim {
    model: exclusive,
    needs: &[
        "semaphore::try_acquire: Acquire",
        "semaphore::release: Release",
    ],
};

/// Catches a permit that two have at a time, and a sleep beside a free one.
#[test]
fn a_permit_is_never_held_twice() {
    EXCLUSIVE.prove();
}

/// One dies while it has the permit, and another waits for it.
fn death(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let dying = memory.of(2);
    permits(&dying).try_acquire(id(2)).unwrap();
    let other = memory.clone();
    let next = thread::spawn(move || add(&other, 1));
    // The kernel tells of its death behind its last instruction, which the join stands for.
    thread::spawn(move || dying.set(VALUE, 1)).join().unwrap();
    permits(&memory).recover(id(2));
    next.join().unwrap();
    assert_eq!(memory.get(VALUE), 2);
}

const DEATH: Claim = Claim {
    model: death,
    needs: &[
        "semaphore::try_acquire: Acquire",
        "semaphore::recover: Release",
    ],
};

/// Catches a permit of the dead that nobody is woken for, or that comes back before what was done with it.
#[test]
fn a_permit_of_the_dead_comes_back() {
    DEATH.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_semaphores_is_needed() {
    cover("semaphore", &[CLAIMS], &[]);
}
