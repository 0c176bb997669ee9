//! Something that is done once: a lock that is ended when it is done.

use ipc_core::sync::lock::{Leave, Refused};
use ipc_tests::loom_memory::LoomMemory;
use ipc_tests::loom_memory::orderings::Weakening;
use loom::thread;

use super::claims::{Claim, id};
use super::lock::{lock, memory, take};

pub(crate) const CLAIMS: &[Claim] = &[ONE_WINS, AGAIN];

/// What is done.
const DONE: usize = 8;

/// As `Once::call`: true if this one did it.
fn call(memory: &LoomMemory, me: u64) -> bool {
    let lock = lock(memory);
    let wins = !lock.is_ended()
        && match take(&lock, me) {
            Ok(_) => {
                assert_eq!(memory.get(DONE), 0);
                memory.set(DONE, me);
                lock.unlock(id(me), Leave::Ended);
                true
            }
            Err(refused) => {
                assert_eq!(refused, Refused::Ended);
                false
            }
        };
    assert_ne!(memory.get(DONE), 0);
    wins
}

/// Three that want it done.
fn one_wins(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = |process| {
        let memory = memory.of(process);
        thread::spawn(move || call(&memory, process.into()))
    };
    let others = [other(2), other(3)];
    let mine = call(&memory, 1);
    let won = others.map(|other| other.join().unwrap());
    assert_eq!([mine, won[0], won[1]].iter().filter(|won| **won).count(), 1);
}

const ONE_WINS: Claim = Claim {
    model: one_wins,
    needs: &[
        "lock::is_ended: Acquire",
        "lock::try_lock_slow: fence",
        "lock::unlock_slow: Release",
    ],
};

/// Catches something that is done twice, or that counts as done before it can be seen.
#[test]
fn one_of_many_wins_once() {
    ONE_WINS.prove();
}

/// One dies while it does it; another waits.
fn again(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    take(&lock(&memory.of(2)), 2).unwrap();
    let next = memory.of(3);
    let next = thread::spawn(move || call(&next, 3));
    lock(&memory).recover(id(2));
    let mine = call(&memory, 1);
    assert_ne!(mine, next.join().unwrap());
}

const AGAIN: Claim = Claim {
    model: again,
    needs: &[],
};

/// Catches something that is left undone, or that nobody waits for, after a death.
#[test]
fn who_comes_after_a_death_does_it_again() {
    AGAIN.prove();
}
