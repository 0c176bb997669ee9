//! Barriers.

use std::time::Duration;

use ipc_core::event::Wait;
use ipc_core::sync::{BarrierError, Seats};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[SEEN, BROKEN, STOOD_UP, DEADLINE];

/// What each of the two does before the barrier, and the other one looks at behind it.
const WORK: [usize; 2] = [144, 152];

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words32: vec![0],
        words64: vec![8, 128, 136],
        cells: WORK.to_vec(),
        len: 160,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

fn seats(memory: &LoomMemory) -> Seats<LoomMemory> {
    Seats::new(&memory.area(), 2).unwrap()
}

/// Works, waits, and looks at the other's work. True for the one that ended the round.
fn round(memory: &LoomMemory, me: u64) -> bool {
    let seats = seats(memory);
    let seat = seats.sit(id(me)).unwrap();
    let (mine, others) = (WORK[me as usize - 1], WORK[2 - me as usize]);
    memory.set(mine, me);
    let ended = seats.wait(id(me), seat, Wait::Block, None, |_| {}).unwrap();
    assert_eq!(memory.get(others), 3 - me);
    ended
}

/// A round of two.
fn seen(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let other = thread::spawn(move || round(&other, 2));
    let mine = round(&memory, 1);
    assert_ne!(mine, other.join().unwrap());
}

const SEEN: Claim = Claim {
    model: seen,
    needs: &[
        "barrier::wait 2: Release",
        "barrier::end: Release",
        "barrier::wait 3: Acquire",
    ],
};

/// Catches a barrier that lets one go on before the other's work can be seen, and one that leaves somebody asleep.
#[test]
fn behind_a_barrier_all_work_is_seen() {
    SEEN.prove();
}

/// Takes a seat as soon as there is one, and waits until a round is complete: nothing breaks any more.
fn sit_and_wait(memory: &LoomMemory, me: u64) {
    let seats = seats(memory);
    let seat = loop {
        match seats.sit(id(me)) {
            Some(seat) => break seat,
            None => thread::yield_now(),
        }
    };
    seats.wait(id(me), seat, Wait::Block, None, |_| {}).unwrap();
}

/// Waits until a round is complete, and tells how many were broken before.
fn complete(memory: &LoomMemory, me: u64, seat: usize) -> u32 {
    let seats = seats(memory);
    let mut broken = 0;
    while let Err(error) = seats.wait(id(me), seat, Wait::Block, None, |_| {}) {
        assert_eq!(error, BarrierError::Broken);
        broken += 1;
    }
    broken
}

/// One of two has died in its seat; while that is cleared, a third one takes it.
fn broken(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let seat = seats(&memory).sit(id(1)).unwrap();
    seats(&memory.of(2)).sit(id(2)).unwrap();
    let (first, other) = (memory.clone(), memory.of(3));
    let first = thread::spawn(move || complete(&first, 1, seat));
    let newcomer = thread::spawn(move || sit_and_wait(&other, 3));
    seats(&memory).recover(id(2));
    assert!(first.join().unwrap() <= 1);
    newcomer.join().unwrap();
}

const BROKEN: Claim = Claim {
    model: broken,
    needs: &["barrier::recover 3: Release", "barrier::sit: Acquire"],
};

/// Catches somebody who goes on waiting for the dead, and a newcomer who is told of a round that was broken before.
#[test]
fn a_death_breaks_the_round_and_no_other() {
    BROKEN.prove();
}

/// One of two gives up at its deadline and stands up; a third one takes the seat.
fn stood_up(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let one = seats(&memory);
    let seat = one.sit(id(1)).unwrap();
    let (second, other) = (memory.of(2), memory.of(3));
    let mine = seats(&second).sit(id(2)).unwrap();
    let second = thread::spawn(move || complete(&second, 2, mine));
    let newcomer = thread::spawn(move || sit_and_wait(&other, 3));
    // The deadline is over before it begins.
    let ended = one.wait(id(1), seat, Wait::Block, Some(Duration::ZERO), |_| {});
    if ended == Err(BarrierError::TimedOut) {
        one.stand(id(1), seat);
    } else {
        unreachable!("{ended:?}");
    }
    assert!(second.join().unwrap() <= 1);
    newcomer.join().unwrap();
}

const STOOD_UP: Claim = Claim {
    model: stood_up,
    needs: &["barrier::stand: Release", "barrier::sit: Acquire"],
};

/// Catches a newcomer who is told of a round that was broken before he sat down.
#[test]
fn who_gives_up_breaks_the_round_and_no_other() {
    STOOD_UP.prove();
}

/// Two that work, and wait; the deadline of one is over before it begins.
fn deadline(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let (one, other) = (seats(&memory), memory.of(2));
    let seat = one.sit(id(1)).unwrap();
    let theirs = seats(&other).sit(id(2)).unwrap();
    let second = thread::spawn(move || {
        other.set(WORK[1], 2);
        let ended = seats(&other).wait(id(2), theirs, Wait::Block, None, |_| {});
        if ended.is_ok() {
            assert_eq!(other.get(WORK[0]), 1);
        }
        ended
    });
    memory.set(WORK[0], 1);
    let mine = one.wait(id(1), seat, Wait::Block, Some(Duration::ZERO), |_| {});
    if mine.is_ok() {
        assert_eq!(memory.get(WORK[1]), 2);
    } else {
        // The other may arrive behind the break, and then waits for the next round.
        while one.wait(id(1), seat, Wait::Block, None, |_| {}).is_err() {}
    }
    second.join().unwrap().ok();
}

const DEADLINE: Claim = Claim {
    model: deadline,
    needs: &["barrier::wait 4: Acquire"],
};

/// Catches a round that ends at the deadline of one, who does not see what the other did.
#[test]
fn a_round_that_ends_at_the_deadline_is_whole() {
    DEADLINE.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_barriers_is_needed() {
    let fence = "whoever ends the round goes through the full fence of `notify` before it goes on";
    let kernel = "what the dead one did is behind the kernel's edge";
    cover(
        "barrier",
        &[CLAIMS],
        &[
            ("sit: Release", "nobody goes by who sits, only by who has arrived"),
            ("wait: Acquire", "who has a seat has seen the turn, by `sit` or by the round before"),
            ("all_arrived: Acquire", fence),
            ("end: Acquire", fence),
            ("recover: Acquire", kernel),
            ("recover 2: Acquire", kernel),
            ("recover 3: Acquire", kernel),
        ],
    );
}
