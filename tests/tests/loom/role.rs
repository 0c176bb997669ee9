//! Roles: whoever has one next sees all that the last one did.

use ipc_ring::role::Role;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[EXCLUSIVE];

/// What the role is for.
const VALUE: usize = 8;

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words64: vec![0],
        cells: vec![VALUE],
        len: 16,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

/// Claims the role as soon as it is free, adds one to the value, and gives the role up.
fn add(memory: &LoomMemory, me: u64) {
    let role = Role::new(&memory.area(), 0).unwrap();
    while role.claim(id(me)).is_err() {
        thread::yield_now();
    }
    memory.set(VALUE, memory.get(VALUE) + 1);
    role.give_up(id(me));
}

/// Two that want the role.
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
    needs: &["role::claim 2: Acquire", "role::end 2: Release"],
};

/// Catches a role that two have at a time, and one that is handed on without what was done in it.
#[test]
fn a_role_is_never_held_twice() {
    EXCLUSIVE.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_roles_is_needed() {
    let looked = "only looked at: what follows from it goes through a claim, or through the kernel";
    cover(
        "role",
        &[CLAIMS],
        &[
            ("claim: Acquire", "the exchange behind it acquires the same"),
            (
                "claim 2: Release",
                "what a claim names, nobody reads anything of",
            ),
            ("end: Acquire", looked),
            ("holder: Acquire", looked),
            ("claims: Acquire", looked),
        ],
    );
}
