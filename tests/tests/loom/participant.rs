//! Participants: what is taken over from whoever left or died is complete.

use std::time::Duration;

use ipc_core::memory::{LockByte, Word32};
use ipc_core::participant::{Arrivals, Life, Participants, ROW};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places, identity};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[IDENTITY, LEFT, RECOVERED, EXCLUSIVE, ALIVE, TOLD];

/// What stands for every claim that names the participant. Whose it is, touches it alone.
const CLAIM: usize = ROW;
const ARRIVALS: usize = ROW + 8;

/// A table of one row, and a claim.
fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words64: vec![0, 8, 16, 24, 32, 40],
        words32: vec![ARRIVALS],
        cells: vec![CLAIM],
        locks: vec![LockByte::Life(1), LockByte::Recovery(1)],
        len: ROW + 16,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn table(memory: &LoomMemory) -> Participants<LoomMemory> {
    Participants::new(memory.area().part(0, ROW).unwrap()).unwrap()
}

/// Joins, where nobody has died.
fn join(memory: &LoomMemory) -> bool {
    table(memory)
        .join(|_| unreachable!("nobody has died"))
        .is_ok()
}

/// Somebody joins, and somebody looks who that is.
fn identity_is_whole(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let member = thread::spawn(move || assert!(join(&other)));
    match table(&memory).life(id(1)) {
        Life::Free => {}
        Life::Alive(who) | Life::Dead(who) => assert_eq!(who, identity(2)),
    }
    member.join().unwrap();
}

const IDENTITY: Claim = Claim {
    model: identity_is_whole,
    needs: &["participant::take 3: Release", "participant::life: Acquire"],
};

/// Catches a row that is in use before it says by whom: its holder would never be proven gone.
#[test]
fn who_is_attached_is_known() {
    IDENTITY.prove();
}

/// Somebody gives its claim back and leaves, and somebody sees the row free.
fn left(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    assert!(join(&other));
    other.set(CLAIM, 1);
    let member = thread::spawn(move || {
        other.set(CLAIM, 0);
        table(&other).leave(id(1));
    });
    if table(&memory).life(id(1)) == Life::Free {
        assert_eq!(memory.get(CLAIM), 0);
    }
    member.join().unwrap();
}

const LEFT: Claim = Claim {
    model: left,
    needs: &["participant::leave: Release", "participant::life: Acquire"],
};

/// Catches a row that is free before its holder's claims are given back.
#[test]
fn who_has_left_has_no_claims() {
    LEFT.prove();
}

/// Somebody joins, claims, and dies; one clears up, and another joins.
fn recovered(weakening: Option<Weakening>) {
    fn resolve(memory: &LoomMemory) -> bool {
        memory.set(CLAIM, 0);
        true
    }
    let memory = memory(weakening);
    let (dead, other) = (memory.of(2), memory.of(3));
    let recoverer = thread::spawn(move || {
        if join(&dead) {
            dead.set(CLAIM, 1);
            dead.die();
            table(&other).recover(id(1), |_| resolve(&other));
        }
    });
    if table(&memory).join(|_| resolve(&memory)).is_ok() {
        assert_eq!(memory.get(CLAIM), 0);
        memory.set(CLAIM, 3);
    }
    recoverer.join().unwrap();
}

const RECOVERED: Claim = Claim {
    model: recovered,
    needs: &[
        "participant::recover: Release",
        "participant::take: Acquire",
    ],
};

/// Catches a newcomer that inherits a claim of the dead one, and two that clear up at once.
#[test]
fn a_row_is_used_again_after_its_claims_are_resolved() {
    RECOVERED.prove();
}

/// Two that want the only row.
fn exclusive(weakening: Option<Weakening>) {
    fn member(memory: &LoomMemory) {
        if join(memory) {
            assert_eq!(memory.get(CLAIM), 0);
            memory.set(CLAIM, 1);
            memory.set(CLAIM, 0);
            table(memory).leave(id(1));
        }
    }
    let memory = memory(weakening);
    let other = memory.of(2);
    let other = thread::spawn(move || member(&other));
    member(&memory);
    other.join().unwrap();
}

const EXCLUSIVE: Claim = Claim {
    model: exclusive,
    needs: &[],
};

/// Catches a row that two have at a time.
#[test]
fn a_row_is_never_held_twice() {
    EXCLUSIVE.prove();
}

/// One leaves, another joins, and a third looks whether anybody has died.
fn alive(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let (old, new) = (memory.of(2), memory.of(3));
    assert!(join(&old));
    let old = thread::spawn(move || table(&old).leave(id(1)));
    let new = thread::spawn(move || join(&new));
    let life = table(&memory).life(id(1));
    assert!(!matches!(life, Life::Dead(_)), "{life:?}");
    old.join().unwrap();
    new.join().unwrap();
}

const ALIVE: Claim = Claim {
    model: alive,
    needs: &["participant::take 2: fence", "participant::life 2: fence"],
};

/// Catches a row that changes hands, and counts as left by a death.
#[test]
fn who_leaves_has_not_died() {
    ALIVE.prove();
}

/// Somebody joins, and dies; somebody sleeps until that is so, and does nothing but sleep once all are watched.
fn told(weakening: Option<Weakening>) {
    fn arrivals(memory: &LoomMemory) -> Arrivals<LoomMemory> {
        Arrivals::new(memory.area().word32(ARRIVALS).unwrap())
    }
    let memory = memory(weakening);
    let other = memory.of(2);
    let newcomer = thread::spawn(move || {
        assert!(join(&other));
        arrivals(&other).announce();
        other.die();
    });
    let table = table(&memory);
    loop {
        let vigil = arrivals(&memory).vigil(&table);
        match (table.life(id(1)), vigil) {
            (Life::Dead(_), _) => break,
            (_, Some(vigil)) => {
                let deaths = Some(vigil.deaths());
                Word32::sleep_any([vigil.word()].into_iter(), deaths, Duration::MAX);
            }
            // It died while it was looked at.
            (_, None) => thread::yield_now(),
        }
    }
    newcomer.join().unwrap();
}

const TOLD: Claim = Claim {
    model: told,
    needs: &["arrivals::announce: Release", "vigil::begin: Acquire"],
};

/// Catches a newcomer that nobody watches: whoever watches all others sleeps on when it dies.
#[test]
fn the_death_of_a_newcomer_is_told() {
    TOLD.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_participants_is_needed() {
    for module in ["participant", "arrivals", "vigil"] {
        cover(module, &[CLAIMS], &[]);
    }
}
