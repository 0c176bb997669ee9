//! Ids never repeat: among processes, through kills, through adoption, and with no gap where none is allowed.

use std::path::Path;
use std::time::{Duration, Instant};

use ipc_core::ids::protocol::{Counter, FIRST_STEP};
use ipc_core::ids::{BLOCK, EPOCH, Ids, IdsError};
use ipc_core::memory::{Area, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{ObjectSpec, Place, Segment, SegmentError, SegmentOptions};
use ipc_core::{Mapped, segment::Object};
use ipc_tests::child::Child;
use ipc_tests::powercut::{Disk, Logged, Random};

/// What each process was given, in memory that survives it: a count, then the ids.
struct Ledger {
    object: Object,
    room: usize,
}

impl Ledger {
    fn new(processes: usize, room: usize) -> Self {
        let len = processes * (room + 1) * 8;
        let spec = ObjectSpec {
            kind: *b"ledger\0\0",
            version: 1,
            len,
            schema: String::new(),
            parameters: [0; 2],
        };
        let segment = SegmentOptions::new()
            .object("ledger", spec)
            .create(Place::Anonymous)
            .unwrap();
        Self {
            object: segment.object("ledger").unwrap(),
            room,
        }
    }

    fn word(&self, process: usize, at: usize) -> Word64<Mapped> {
        let area: &Area<Mapped> = self.object.area();
        area.word64((process * (self.room + 1) + at) * 8).unwrap()
    }

    /// Adds an id; false when there is no more room.
    fn add(&self, process: usize, id: u64) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let count = self.word(process, 0);
        let at = count.load(Relaxed);
        if at as usize == self.room {
            return false;
        }
        self.word(process, 1 + at as usize).store(id, Relaxed);
        count.store(at + 1, Relaxed);
        true
    }

    fn count(&self, process: usize) -> usize {
        self.word(process, 0)
            .load(std::sync::atomic::Ordering::Acquire) as usize
    }

    fn ids(&self, process: usize) -> impl Iterator<Item = u64> + '_ {
        (0..self.count(process)).map(move |at| {
            self.word(process, 1 + at)
                .load(std::sync::atomic::Ordering::Relaxed)
        })
    }
}

/// `processes` processes draw until the ledger is full; each is killed at random moments and started again. Returns how
/// often one was killed.
fn fill(path: &Path, processes: usize, ledger: &Ledger, leased: bool, random: &mut Random) -> u64 {
    let worker = |process: usize| {
        let ids = Ids::open(path).expect("open");
        if leased {
            let mut lease = ids.lease().expect("lease");
            while ledger.add(process, lease.next().expect("an id")) {}
        } else {
            while ledger.add(process, ids.next().expect("an id")) {}
        }
    };
    let start = |process: usize| Child::run(|| worker(process));
    let mut workers: Vec<Option<Child>> = (0..processes).map(start).map(Some).collect();
    let mut kills = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while (0..processes).any(|process| ledger.count(process) < ledger.room) {
        assert!(
            Instant::now() < end,
            "the ledger was not full after a minute"
        );
        std::thread::sleep(Duration::from_micros(random.below(1500)));
        let process = random.below(processes as u64) as usize;
        if ledger.count(process) < ledger.room {
            workers[process].take().into_iter().for_each(Child::kill);
            kills += 1;
            workers[process] = Some(start(process));
        }
    }
    workers.into_iter().flatten().for_each(Child::join);
    kills
}

/// Fills ledgers until there were enough kills to prove something: on a busy machine one may be full before.
fn draw_under_fire(path: &Path, processes: usize, each: usize, leased: bool) -> (Vec<Ledger>, u64) {
    let mut random = Random::seeded();
    let (mut ledgers, mut kills) = (Vec::new(), 0);
    while kills < 25 {
        assert!(ledgers.len() < 20, "{kills} kills in 20 rounds");
        let ledger = Ledger::new(processes, each);
        kills += fill(path, processes, &ledger, leased, &mut random);
        ledgers.push(ledger);
    }
    (ledgers, kills)
}

/// How many ids are in the ledgers, of `drawn` in all; fails if one is there twice or was never drawn.
fn all_once(ledgers: &[Ledger], processes: usize, drawn: u64) -> u64 {
    let mut seen = vec![false; drawn as usize + 1];
    let mut count = 0;
    for ledger in ledgers {
        for id in (0..processes).flat_map(|process| ledger.ids(process)) {
            assert!((1..=drawn).contains(&id), "id {id} was never drawn");
            assert!(
                !std::mem::replace(&mut seen[id as usize], true),
                "id {id} came twice"
            );
            count += 1;
        }
    }
    count
}

// A counter that is read and written in two steps gives one id to two processes; one that is not recorded before it is
// given comes again after a kill.
#[test]
fn strict_ids_are_given_once_and_without_a_gap_but_for_the_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("strict");
    drop(Ids::create(path.as_path()).unwrap());
    let (processes, each) = (8, 1_000_000);
    let (ledgers, kills) = draw_under_fire(&path, processes, each, false);
    let ids = Ids::open(path.as_path()).unwrap();
    let drawn = ids.statistics().drawn;
    // The drawer of a missing id was killed holding it, or found the ledger full.
    let missing = drawn - all_once(&ledgers, processes, drawn);
    println!("{kills} kills, {missing} ids missing");
    assert!(
        missing <= kills + (processes * ledgers.len()) as u64,
        "{missing} ids are missing after {kills} kills"
    );
    assert_eq!(ids.next().unwrap(), ids.statistics().drawn);
}

// A lease that is found half way by its successor, or counted twice, gives ids twice; one that is forgotten loses blocks.
#[test]
fn leased_ids_are_given_once_and_blocks_are_not_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leased");
    drop(Ids::create(path.as_path()).unwrap());
    let (processes, each) = (8, 1_000_000);
    let (ledgers, kills) = draw_under_fire(&path, processes, each, true);
    let known = Ids::open(path.as_path()).unwrap().statistics();
    println!("{kills} kills, {known:?}");
    // Drawn is given, leased, lost in a counted block, or gone with the one id that a killed process held.
    let missing = known.drawn - all_once(&ledgers, processes, known.drawn) - known.leased;
    assert!(
        missing <= known.lost + kills + (processes * ledgers.len()) as u64,
        "{missing} ids are missing: {known:?}"
    );
    assert!(known.lost <= kills * BLOCK);
}

// What is left of a block on a clean leave must come back, or each short-lived process would waste most of a block.
#[test]
fn what_is_left_of_a_lease_is_given_out_later() {
    let ids = Ids::create(Place::Memfd("ids".into())).unwrap();
    let mut lease = ids.lease().unwrap();
    assert_eq!((lease.next().unwrap(), lease.next().unwrap()), (1, 2));
    assert!(matches!(ids.lease(), Err(IdsError::LeaseTaken)));
    drop(lease);
    assert_eq!(ids.lease().unwrap().next().unwrap(), 3);
    // Another attachment has another row, and takes what the first one leaves.
    let segment = || {
        use std::os::fd::AsFd;
        Segment::open(ids.segment().as_fd().try_clone_to_owned().unwrap()).unwrap()
    };
    let other = Ids::in_segment(&segment(), "ids").unwrap();
    assert_eq!(other.lease().unwrap().next().unwrap(), BLOCK + 1);
    drop(other);
    let third = Ids::in_segment(&segment(), "ids").unwrap();
    assert_eq!(third.lease().unwrap().next().unwrap(), BLOCK + 2);
    assert_eq!(third.statistics().drawn, 2 * BLOCK);
}

// A block that a killed process had drawn and not recorded must be known as lost, or nobody can tell a gap from a mistake.
#[test]
fn a_block_that_is_lost_with_its_drawer_is_counted() {
    use std::sync::atomic::Ordering::Relaxed;
    let ids = Ids::create(Place::Memfd("ids".into())).unwrap();
    drop(ids.lease().unwrap());
    // As a process leaves it that is killed between drawing a block and recording it.
    let object = ids.segment().object("ids").unwrap();
    let (next, lost) = (
        object.area().word64(0).unwrap(),
        object.area().word64(528).unwrap(),
    );
    next.add(BLOCK, Relaxed);
    lost.store(lost.load(Relaxed) | 1, Relaxed);
    assert_eq!(ids.statistics().lost, BLOCK);
    assert_eq!(ids.lease().unwrap().next().unwrap(), BLOCK + 1);
    let known = ids.statistics();
    assert_eq!((known.drawn, known.lost), (2 * BLOCK, BLOCK));
}

// A lease that outlives the handle it was made from: if its row were given back with that, others would take its block for
// one that was left behind, and give its ids a second time.
#[test]
fn a_lease_keeps_its_row_without_its_counter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lease");
    let mut lease = Ids::create(path.as_path()).unwrap().lease().unwrap();
    assert_eq!(lease.next().unwrap(), 1);
    let mut other = Ids::open(path.as_path()).unwrap().lease().unwrap();
    let theirs = other.next().unwrap();
    assert_eq!(lease.next().unwrap(), 2);
    assert_eq!(theirs, BLOCK + 1);
}

// A mark written for every lease would cost an msync each; the cost target is fewer than one per 100,000 ids.
#[test]
fn the_disk_is_asked_seldom() {
    let directory = tempfile::tempdir().unwrap();
    let ids = Ids::create(directory.path().join("seldom")).unwrap();
    let mut lease = ids.lease().unwrap();
    let count = 5_000_000;
    for _ in 0..count {
        lease.next().unwrap();
    }
    let written = ids.statistics().extensions;
    assert!(
        written >= 1 && written * 100_000 < count,
        "{written} marks for {count} ids"
    );
}

// A step that grows too slowly asks the disk again and again of whoever draws fast: each time somebody waits for it.
#[test]
fn steps_grow_with_the_speed_of_drawing() {
    let disk = Disk::new(
        vec![0; Counter::<Logged>::size(1).next_multiple_of(4096) / 8],
        1,
    );
    let area = Area::new(disk.memory(1), 0, Counter::<Logged>::size(1)).unwrap();
    let counter = Counter::new(&area, 1, 0, true).unwrap();
    counter.attach(ParticipantId::new(1).unwrap(), 0).unwrap();
    // The clock of this disk goes on by a millisecond with each look at it.
    let drawn = 1_u64 << 30;
    for _ in 0..drawn >> 16 {
        counter.draw_many(1 << 16).unwrap();
    }
    let known = counter.statistics();
    assert!((2..=4).contains(&known.extensions), "{known:?}");
    // The gap that a power cut leaves is one step, and what is drawn meanwhile.
    assert!(known.limit - drawn <= (1 << 32) + FIRST_STEP, "{known:?}");
}

// A lease that found no bound of its own, with all of them taken, must give its ids all the same, and in order.
#[test]
fn there_may_be_more_leases_than_bounds() {
    let names: Vec<String> = (0..4200).map(|number| format!("ids{number}")).collect();
    let options = names
        .iter()
        .fold(SegmentOptions::new().participants(1), |options, name| {
            options.object(name, Ids::spec(false, 1))
        });
    let segment = options.create(Place::Memfd("ids".into())).unwrap();
    let lease = |name: &String| Ids::in_segment(&segment, name).unwrap().lease().unwrap();
    let mut leases: Vec<_> = names.iter().map(lease).collect();
    for lease in &mut leases {
        for id in 1..=BLOCK + 1 {
            assert_eq!(lease.next().unwrap(), id);
        }
    }
    let mut last = leases.pop().unwrap();
    Child::run(|| assert!(matches!(last.next(), Err(IdsError::Forked)))).join();
}

// Two files that both draw from one range would give every id twice.
#[test]
fn f24_a_copy_is_refused_until_adopted_and_then_draws_from_a_new_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let (original, copy) = (
        directory.path().join("original"),
        directory.path().join("copy"),
    );
    let ids = Ids::create(original.as_path()).unwrap();
    let first = ids.take(1000).unwrap();
    drop(ids);
    std::fs::copy(&original, &copy).unwrap();
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = Ids::open(copy.as_path()).unwrap_err();
    assert!(
        matches!(refused, IdsError::Segment(SegmentError::Copied { .. })),
        "{refused}"
    );
    let adopted = Ids::adopt(copy.as_path()).unwrap();
    assert_eq!(adopted.next().unwrap(), EPOCH + 1);
    drop(adopted);
    let again = Ids::open(copy.as_path()).unwrap();
    assert_eq!(again.next().unwrap(), EPOCH + 2, "the epoch is raised once");
    assert_eq!(
        Ids::open(original.as_path()).unwrap().next().unwrap(),
        first.end
    );
}

// An inherited lease in a child would give the parent's ids a second time.
#[test]
fn a_forked_child_is_refused_and_joins_anew() {
    let ids = Ids::create(Place::Anonymous).unwrap();
    let mut lease = ids.lease().unwrap();
    lease.next().unwrap();
    let ledger = Ledger::new(1, 1);
    let child = Child::run(|| {
        assert!(matches!(lease.next(), Err(IdsError::Forked)));
        assert!(matches!(ids.next(), Err(IdsError::Forked)));
        let mut own = ids.rejoin().unwrap();
        own = own.clone();
        let mut leased = own.lease().unwrap();
        ledger.add(0, leased.next().unwrap());
        // Nor does the child's own lease bring that of the parent back.
        assert!(matches!(lease.next(), Err(IdsError::Forked)));
    });
    child.join();
    assert_eq!(ledger.ids(0).collect::<Vec<_>>(), [BLOCK + 1]);
    assert_eq!(lease.next().unwrap(), 2);
}

// A draw that is refused moves the counter on all the same: large ones must not bring it around to ids that were given.
#[test]
fn a_counter_never_comes_around() {
    let ids = Ids::create(Place::Memfd("ids".into())).unwrap();
    assert_eq!(ids.next().unwrap(), 1);
    for count in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 32) + 1] {
        assert!(matches!(ids.take(count), Err(IdsError::Exhausted)));
    }
    assert_eq!(ids.next().unwrap(), 2);
    assert_eq!(ids.take(0).unwrap(), 3..3);
    let next = ids
        .segment()
        .object("ids")
        .unwrap()
        .area()
        .word64(0)
        .unwrap();
    next.store((1 << 63) - 1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ids.next().unwrap(), 1 << 63);
    for _ in 0..3 {
        assert!(matches!(ids.take(1 << 32), Err(IdsError::Exhausted)));
        assert!(matches!(ids.next(), Err(IdsError::Exhausted)));
        assert!(ids.lease().unwrap().next().is_err());
    }
}

// Rubbish in any word must give errors or ids, and never a panic or a call that does not end.
#[test]
fn f31_hostile_words_end_every_call() {
    let mut random = Random::seeded();
    let directory = tempfile::tempdir().unwrap();
    let mut errors = 0;
    for turn in 0..300 {
        let path = directory.path().join(format!("{turn}"));
        let ids = Ids::create(path.as_path()).unwrap();
        let mut lease = ids.lease().unwrap();
        let _ = (ids.next(), lease.next());
        let object = ids.segment().object("ids").unwrap();
        for _ in 0..1 + random.below(6) {
            let at = match random.below(4) {
                0 => [0, 128, 136, 144, 152, 160][random.below(6) as usize],
                1 => 256 + random.below(32) * 8,
                _ => 512 + random.below(3 * 16) * 8,
            };
            let word = object.area().word64(at as usize).unwrap();
            let old = word.load(std::sync::atomic::Ordering::Relaxed);
            let value = match random.below(4) {
                0 => random.below(u64::MAX),
                1 => u64::MAX - random.below(3000),
                2 => old ^ 1 << random.below(64),
                _ => random.below(5000),
            };
            word.store(value, std::sync::atomic::Ordering::Relaxed);
        }
        let start = Instant::now();
        ids.statistics();
        errors += usize::from(ids.next().is_err());
        errors += usize::from(ids.take(1 << 20).is_err());
        for _ in 0..2 * BLOCK {
            errors += usize::from(lease.next().is_err());
        }
        drop((lease, ids));
        if let Ok(ids) = Ids::open(path.as_path()) {
            let mut lease = ids.lease().unwrap();
            for _ in 0..100 {
                errors += usize::from(lease.next().is_err());
            }
            ids.statistics();
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(errors > 50, "{errors} errors: the rubbish was not met");
}

// Large draws walk through an epoch in no time: where they go on beyond it, they meet the ids of an adopted copy.
#[test]
fn an_epoch_ends_where_that_of_a_copy_begins() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let ids = Ids::create(directory.path().join("ids").as_path()).unwrap();
    let mut last = 0;
    let refusal = loop {
        match ids.take(1 << 32) {
            Ok(range) => last = range.end,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, IdsError::Exhausted), "{refusal}");
    assert!(last > EPOCH - (1 << 34), "{last}: nearly all are given");
    for _ in 0..3 {
        assert!(ids.take(1 << 32).is_err());
        assert!(ids.next().is_err());
    }
    assert!(last <= EPOCH + 1, "{last}");
}
