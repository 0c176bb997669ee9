//! Many processes after one name.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ipc_core::region::Region;
use ipc_core::segment::{Segment, SegmentError, SegmentOptions};
use ipc_core::{Layout, Shared};

use crate::support::{Killed, child, files, is_root, scratch, small, word_spec};

const RACERS: u32 = 64;

/// Names that the racers go through between two meetings.
const STRETCH: u64 = 20;

/// The most rounds, in the long form.
const MOST: usize = 20_000;

#[derive(Layout, Shared)]
#[repr(C)]
struct Score {
    /// How many racers have come to a meeting, since the beginning.
    arrived: AtomicU64,
    /// How many rounds there are.
    rounds: AtomicU64,
    /// Racers who found another segment than the first one did.
    strangers: AtomicU64,
    /// Some bytes of the UUID that the first one found; for each round.
    found: [AtomicU64; MOST],
}

#[test]
fn f29_of_many_creators_one_wins() {
    // Catches a window in which two creators both succeed, or in which one finds a segment that is not complete.
    let rounds = match std::env::var("IPC_TEST_RACES") {
        Ok(rounds) => rounds.parse::<u64>().unwrap().min(MOST as u64),
        Err(_) if is_root() => 1000,
        Err(_) => 100,
    };
    let place = scratch();
    let score = Region::<Score>::create(place.path().join("score")).unwrap();
    score.rounds.store(rounds, SeqCst);
    let mut racers: Vec<_> = (0..RACERS)
        .map(|_| Killed(child("racer", place.path()).spawn().unwrap()))
        .collect();
    for racer in &mut racers {
        assert!(racer.0.wait().unwrap().success());
    }
    assert_eq!(score.strangers.load(SeqCst), 0);
    assert_eq!(
        files(place.path()).len() as u64,
        rounds + 1,
        "a file for each round, and the score"
    );
    for round in 0..rounds {
        let segment = Segment::open(place.path().join(round.to_string())).unwrap();
        assert_eq!(
            some_bytes(&segment),
            score.found[round as usize].load(SeqCst)
        );
    }
}

pub fn racer(place: &Path) {
    let score = Region::<Score>::open(place.join("score")).unwrap();
    for round in 0..score.rounds.load(SeqCst) {
        if round % STRETCH == 0 {
            score.arrived.fetch_add(1, SeqCst);
            let all = (round / STRETCH + 1) * u64::from(RACERS);
            while score.arrived.load(SeqCst) < all {
                std::thread::yield_now();
            }
        }
        let segment = small()
            .open_or_create(place.join(round.to_string()))
            .unwrap();
        let mine = some_bytes(&segment);
        let first = score.found[round as usize].compare_exchange(0, mine, SeqCst, SeqCst);
        if first.is_err_and(|first| first != mine) {
            score.strangers.fetch_add(1, SeqCst);
        }
    }
}

fn some_bytes(segment: &Segment) -> u64 {
    u64::from_ne_bytes(segment.header().uuid[..8].try_into().unwrap())
}

#[test]
fn f11_a_name_that_comes_and_goes_never_has_two_holders() {
    // Catches a lock that is taken on a file which is no longer, or not yet, the one of that name.
    let place = scratch();
    let mut churners: Vec<_> = (0..3)
        .map(|_| Killed(child("churner", place.path()).spawn().unwrap()))
        .collect();
    for churner in &mut churners {
        assert!(churner.0.wait().unwrap().success());
    }
    assert!(files(place.path()).iter().all(|name| name == "segment"));
}

/// Joins the segment of that name, which has room for one, and takes the name away again.
pub fn churner(place: &Path) {
    let path = place.join("segment");
    let options = SegmentOptions::new()
        .participants(1)
        .object("word", word_spec());
    let mut held: u32 = 0;
    for _ in 0..if is_root() { 2000 } else { 500 } {
        let segment = options.open_or_create(path.as_path()).unwrap();
        match segment.participant() {
            Ok(_) => {}
            Err(SegmentError::TableFull(_)) => continue,
            Err(error) => panic!("{error}"),
        }
        let holders = Region::<AtomicU64>::in_segment(&segment, "word").unwrap();
        assert_eq!(holders.fetch_add(1, SeqCst), 0, "two hold the one place");
        held += 1;
        if held.is_multiple_of(4) {
            match Segment::unlink(path.as_path()) {
                Ok(()) | Err(SegmentError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(holders.fetch_sub(1, SeqCst), 1);
    }
    assert!(held > 0);
}
