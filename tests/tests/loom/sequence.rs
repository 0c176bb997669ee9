//! Sequences, which order nothing but themselves.

use ipc_core::sync::Counter;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::Claim;

fn counter(memory: &LoomMemory) -> Counter<LoomMemory> {
    Counter::new(&memory.area(), 0).unwrap()
}

/// Three that draw numbers, one of which raises the counter.
fn once(weakening: Option<Weakening>) {
    let places = Places {
        words64: vec![0],
        len: 8,
        ..Places::default()
    };
    let memory = LoomMemory::new(places, weakening);
    let draw = |process| {
        let memory = memory.of(process);
        thread::spawn(move || counter(&memory).add(2))
    };
    let others = [draw(2), draw(3)];
    let counter = counter(&memory);
    counter.raise(3);
    let mine = counter.next();
    let [first, second] = others.map(|other| other.join().unwrap());
    assert!(mine >= 3, "{mine}");
    let mut all = [mine, first, first + 1, second, second + 1];
    all.sort_unstable();
    assert!(all.windows(2).all(|two| two[0] < two[1]), "{all:?}");
}

const ONCE: Claim = Claim {
    model: once,
    needs: &[],
};

/// Catches a number that is given to two, and one below what the counter was raised to.
#[test]
fn a_number_is_given_once() {
    ONCE.prove();
}
