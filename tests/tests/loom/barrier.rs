//! Barriers.

use std::time::Duration;

use ipc_core::event::Wait;
use ipc_core::sync::{BarrierError, Seats};
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover, id};

pub(crate) const CLAIMS: &[Claim] = &[SEEN, TAKEN_OVER, BROKEN, STOOD_UP, DEADLINE];

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

/// Takes a seat as soon as there is one.
fn sit(seats: &Seats<LoomMemory>, me: u64) -> usize {
    loop {
        match seats.sit(id(me)) {
            Some(seat) => return seat,
            None => thread::yield_now(),
        }
    }
}

/// Who had the only seat has died; while that is cleared, a newcomer takes it.
fn taken_over(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let only = |memory: &LoomMemory| Seats::new(&memory.area(), 1).unwrap();
    only(&memory.of(2)).sit(id(2)).unwrap();
    let other = memory.of(3);
    let newcomer = thread::spawn(move || {
        let seats = only(&other);
        let seat = sit(&seats, 3);
        let ended = seats.wait(id(3), seat, Wait::Block, None, |_| {});
        assert_eq!(ended, Ok(true));
    });
    only(&memory).recover(id(2));
    newcomer.join().unwrap();
}

const TAKEN_OVER: Claim = Claim {
    model: taken_over,
    needs: &["barrier::sit: Acquire"],
};

/// Catches a newcomer who is told of a round that was broken by a death before he sat down.
#[test]
fn a_death_breaks_no_round_of_a_newcomer() {
    TAKEN_OVER.prove();
}

/// One of two has died in its seat, and the other waits.
fn broken(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let seat = seats(&memory).sit(id(1)).unwrap();
    seats(&memory.of(2)).sit(id(2)).unwrap();
    let first = memory.clone();
    let first = thread::spawn(move || complete(&first, 1, seat));
    seats(&memory).recover(id(2));
    // For whom it waits then, if it has not come behind the break.
    complete(&memory, 3, seats(&memory).sit(id(3)).unwrap());
    first.join().unwrap();
}

const BROKEN: Claim = Claim {
    model: broken,
    needs: &[],
};

/// Catches somebody who goes on waiting for the dead.
#[test]
fn a_death_breaks_the_round() {
    BROKEN.prove();
}

/// Waits until a round is complete. Nobody breaks more than one.
fn complete(memory: &LoomMemory, me: u64, seat: usize) {
    let seats = seats(memory);
    let wait = || seats.wait(id(me), seat, Wait::Block, None, |_| {});
    if let Err(error) = wait() {
        assert_eq!(error, BarrierError::Broken);
        wait().unwrap();
    }
}

/// Two wait, whose deadlines are over before they begin. One that is told of the other stands up, and a newcomer takes the
/// seat, and waits as well.
fn stood_up(weakening: Option<Weakening>) {
    fn once(seats: &Seats<LoomMemory>, me: u64, seat: usize) -> Result<bool, BarrierError> {
        seats.wait(id(me), seat, Wait::Block, Some(Duration::ZERO), |_| {})
    }
    let memory = memory(weakening);
    let (told, other) = (memory.of(2), memory.of(3));
    let mine = seats(&memory).sit(id(1)).unwrap();
    let theirs = seats(&told).sit(id(2)).unwrap();
    let told = thread::spawn(move || {
        let seats = seats(&told);
        if once(&seats, 2, theirs) == Err(BarrierError::Broken) {
            seats.stand(id(2), theirs);
        }
    });
    let newcomer = thread::spawn(move || {
        let seats = seats(&other);
        if let Some(seat) = seats.sit(id(3)) {
            assert_ne!(once(&seats, 3, seat), Err(BarrierError::Broken));
        }
    });
    let _ = once(&seats(&memory), 1, mine);
    told.join().unwrap();
    newcomer.join().unwrap();
}

const STOOD_UP: Claim = Claim {
    model: stood_up,
    needs: &["barrier::stand: Release", "barrier::sit: Acquire"],
};

/// Catches a newcomer who is told of a round that was broken before he sat down by somebody who gave up.
#[test]
fn who_gives_up_breaks_no_round_of_a_newcomer() {
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
        complete(&other, 2, theirs);
        assert_eq!(other.get(WORK[0]), 1);
    });
    memory.set(WORK[0], 1);
    let ended = one.wait(id(1), seat, Wait::Block, Some(Duration::ZERO), |_| {});
    if ended.is_err() {
        complete(&memory, 1, seat);
    }
    assert_eq!(memory.get(WORK[1]), 2);
    second.join().unwrap();
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
    let fence = "whoever ends the round, complete or broken, goes through the full fence of `notify` behind it";
    cover(
        "barrier",
        &[CLAIMS],
        &[
            (
                "wait: Acquire",
                "who has a seat has seen the turn, by `sit` or by the round before",
            ),
            ("all_arrived: Acquire", fence),
            ("end: Acquire", fence),
            ("recover: Release", fence),
        ],
    );
}
