//! Locks, registers and counters between processes, some of which die.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ipc_core::event::{LONGEST_SLICE, Wait};
use ipc_core::layout::Layout;
use ipc_core::segment::{ObjectSpec, Place, Segment, SegmentOptions};
use ipc_core::sync::{
    Attach, Barrier, BarrierError, Latest, LatestView, LockError, Mutex, Once, RwLock, Semaphore,
    Sequence,
};
use ipc_tests::child::Child;
use ipc_tests::peers::{Peer, directory, eventually};
use ipc_tests::sync_peer::{SMALL, Same, same, word};
use nix::sys::resource::{UsageWho, getrusage};

/// How late the death of a holder may be noticed.
const NOTICED: Duration = Duration::from_millis(100);

struct Stage {
    segment: Segment,
    path: String,
    _directory: tempfile::TempDir,
}

impl Stage {
    fn new(objects: &[(&str, ObjectSpec)]) -> Self {
        let directory = directory();
        let path = directory.path().join("segment");
        let options = objects
            .iter()
            .fold(SegmentOptions::new(), |options, (name, spec)| {
                options.object(name, spec.clone())
            });
        let segment = options.create(Place::Path(path.clone())).expect("create");
        Self {
            segment,
            path: path.display().to_string(),
            _directory: directory,
        }
    }

    fn peer(&self) -> Peer {
        let mut peer = Peer::start(&mut Command::new(env!("CARGO_BIN_EXE_ipc-peer")));
        peer.say(&format!("open {}", self.path));
        assert_eq!(peer.hear(), "open");
        peer
    }

    /// A peer that has begun to do something.
    fn doing(&self, what: &str, answer: &str) -> Peer {
        let mut peer = self.peer();
        peer.say(&format!("sync {what}"));
        assert_eq!(peer.hear(), answer);
        peer
    }
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect()
}

/// Fails if it took longer than the death of a holder may go unnoticed. Twice that on a machine that runs other things.
fn in_time(start: Instant) {
    let took = start.elapsed();
    println!("noticed after {took:?}");
    assert!(took < 2 * NOTICED, "{took:?}");
}

/// Eight processes do what `whats` says, in turn, for three seconds, or for a minute where `IPC_LONG` is set; how often each
/// did it. Who starves waits until the others are done, or gets far fewer turns than others that do the same: fails if one
/// of them waited for a second, or got less than a quarter of its share.
fn nobody_starves(stage: &Stage, whats: &[&str]) -> Vec<u64> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let millis = match std::env::var_os("IPC_LONG") {
        Some(_) => 60_000,
        None => 3000,
    };
    let mut peers: Vec<_> = (0..8).map(|_| stage.peer()).collect();
    for (peer, what) in peers.iter_mut().zip(whats.iter().cycle()) {
        let (what, name) = what.split_once(' ').expect("two words");
        peer.say(&format!("sync hammer {what} {millis} {name}"));
    }
    let results: Vec<_> = peers.iter_mut().map(|peer| numbers(&peer.hear())).collect();
    println!("turns and longest wait in us: {results:?}");
    for result in &results {
        assert!(result[1] < 1_000_000, "somebody waited {} us", result[1]);
    }
    let turns: Vec<u64> = results.iter().map(|result| result[0]).collect();
    for what in whats {
        let same = || {
            let doers = turns.iter().zip(whats.iter().cycle());
            doers
                .filter(|(_, other)| *other == what)
                .map(|(turns, _)| *turns)
        };
        let (sum, count) = (same().sum::<u64>(), same().count() as u64);
        assert!(same().all(|turns| turns > sum / count / 4), "unfair");
    }
    turns
}

#[test]
fn eight_processes_count_under_a_mutex_and_nobody_starves() {
    // Would catch a lock held twice (a lost count), a lost wake-up, and a waiter that is passed over again and again.
    let stage = Stage::new(&[("m", Mutex::<u64>::spec(()).expect("spec"))]);
    let turns = nobody_starves(&stage, &["mutex m"]);
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    assert_eq!(mutex.lock().expect("free").get(), turns.iter().sum::<u64>());
}

#[test]
fn neither_readers_nor_writers_starve() {
    // Would catch writers that wait for a moment without readers, which never comes, and readers shut out by writers.
    let stage = Stage::new(&[("r", RwLock::<Same<2>>::spec(64).expect("spec"))]);
    let turns = nobody_starves(&stage, &["read r", "read r", "read r", "write r"]);
    let lock = RwLock::<Same<2>>::in_segment(&stage.segment, "r").expect("lock");
    let writes = turns[3] + turns[7];
    assert_eq!(word(&lock.read().expect("free").get()), Some(writes));
}

#[test]
fn nobody_who_waits_for_a_permit_starves() {
    // Would catch a waiter who comes too late each time, because those who have a permit take it again at once.
    let stage = Stage::new(&[("s", Semaphore::spec(2).expect("spec"))]);
    let turns = nobody_starves(&stage, &["permit s"]);
    assert!(turns.iter().all(|turns| *turns > 0));
}

#[test]
fn f09_a_forked_child_does_nothing_with_an_inherited_guard() {
    // Would catch a child that goes on in the name of its parent, who may have let go of the lock long ago.
    let mutex = Mutex::<u64>::create(Place::Anonymous, ()).expect("create");
    let lock = RwLock::<u64>::create(Place::Anonymous, 4).expect("create");
    let latest = Latest::<u64>::create(Place::Anonymous, ()).expect("create");
    let mut guard = mutex.lock().map_err(LockError::owned).expect("free");
    let mut written = lock.write().map_err(LockError::owned).expect("free");
    let mut writer = latest.writer().expect("free");
    guard.set(&1);
    written.set(&1);
    writer.set(&1);
    Child::run(|| {
        let refused = |what: &mut dyn FnMut()| {
            let tried = catch_unwind(AssertUnwindSafe(what));
            assert!(tried.is_err());
        };
        refused(&mut || guard.set(&666));
        refused(&mut || written.set(&666));
        refused(&mut || assert_eq!(written.get(), 1));
        refused(&mut || assert_eq!(writer.set(&666), 2));
    })
    .join();
    assert_eq!((guard.get(), written.get()), (1, 1));
    assert_eq!(latest.get().expect("whole"), Some(1));
}

#[test]
fn a_guard_that_is_forgotten_ends_with_its_attachment() {
    // Would catch a lock that names a row whose holder has left: nobody would ever be found dead there, and whoever gets the
    // row would be taken for the holder.
    let stage = Stage::new(&[("m", Mutex::<u64>::spec(()).expect("spec"))]);
    let again = Segment::open(Path::new(&stage.path)).expect("open");
    let forgetful = Mutex::<u64>::in_segment(&again, "m").expect("mutex");
    let guard = forgetful.lock().map_err(LockError::owned).expect("free");
    std::mem::forget(guard);
    drop((forgetful, again));

    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    assert_eq!(mutex.holder(), None);
    let deadline = Instant::now() + Duration::from_secs(1);
    match mutex.lock_until(deadline) {
        // It was not given back: what it protects may be half changed.
        Err(LockError::OwnerDied(mut guard)) => guard.mark_consistent(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_death_of_a_holder_is_an_outcome() {
    // Would catch a lock that stays locked, one that is given on as if nothing had happened, and one that is poisoned
    // though it was repaired.
    let stage = Stage::new(&[("m", Mutex::<u64>::spec(()).expect("spec"))]);
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");

    let mut peer = stage.doing("hold mutex m", "held");
    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
    let soon = Instant::now() + Duration::from_millis(120);
    assert!(matches!(mutex.lock_until(soon), Err(LockError::TimedOut)));
    peer.kill();
    let start = Instant::now();
    match mutex.lock() {
        Err(LockError::OwnerDied(mut guard)) => {
            assert_eq!(guard.get(), u64::MAX);
            guard.set(&7);
            guard.mark_consistent();
        }
        other => panic!("{other:?}"),
    }
    in_time(start);
    assert_eq!(mutex.lock().expect("repaired").get(), 7);

    // Unreaped this time, and found by an attempt that does not wait; let go without repair.
    let peer = stage.doing("hold mutex m", "held");
    peer.kill_unreaped();
    let start = Instant::now();
    loop {
        match mutex.try_lock() {
            Err(LockError::WouldBlock) => assert!(start.elapsed() < Duration::from_secs(5)),
            Err(LockError::OwnerDied(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned)));
    assert!(mutex.is_poisoned());
}

#[test]
fn a_lock_left_broken_can_be_repaired_or_left_to_others() {
    // Would catch an error that takes the repair from others, one that cannot leave the function, and a repair that is
    // forgotten.
    fn add(mutex: &Mutex<u64>) -> Result<u64, LockError> {
        let mut guard = mutex.lock()?;
        guard.set(&(guard.get() + 1));
        Ok(guard.get())
    }
    fn add_anyhow(mutex: &Mutex<u64>) -> anyhow::Result<()> {
        let mut guard = mutex.lock().map_err(LockError::owned)?;
        guard.set(&(guard.get() + 1));
        Ok(())
    }
    let stage = Stage::new(&[("m", Mutex::<u64>::spec(()).expect("spec"))]);
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    let mut peer = stage.doing("hold mutex m", "held");
    peer.kill();
    assert!(matches!(add(&mutex), Err(LockError::OwnerDied(()))));
    assert!(add_anyhow(&mutex).is_err());
    assert!(!mutex.is_poisoned());
    let repaired = mutex
        .lock()
        .or_else(|error| error.repair(|guard| guard.set(&10)));
    assert_eq!(repaired.expect("repaired").get(), 10);
    assert_eq!(add(&mutex).expect("as before"), 11);

    let mut peer = stage.doing("hold mutex m", "held");
    let now = mutex.try_lock().map_err(LockError::owned);
    assert!(matches!(now, Err(LockError::WouldBlock)));
    peer.kill();
}

#[test]
fn a_panic_while_holding_counts_as_a_death() {
    // Would catch a half changed value that is given on as a whole one.
    let mutex = Mutex::<u64>::create(Place::Anonymous, ()).expect("create");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = mutex.lock();
        panic!("while holding");
    }));
    assert!(panicked.is_err());
    assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
}

#[test]
fn a_stopped_holder_is_waited_for() {
    // Would catch a lock that is taken from the living.
    let stage = Stage::new(&[("m", Mutex::<u64>::spec(()).expect("spec"))]);
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("mutex");
    let peer = stage.doing("hold mutex m", "held");
    peer.signal(nix::sys::signal::Signal::SIGSTOP);
    let soon = Instant::now() + Duration::from_millis(300);
    assert!(matches!(mutex.lock_until(soon), Err(LockError::TimedOut)));
}

#[test]
fn a_mutex_is_by_reference_where_the_type_allows_it() {
    // Would catch a guard that points elsewhere than the copies of the next one.
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    let mutex = Mutex::<[AtomicU64; 3]>::create(Place::Anonymous, ()).expect("create");
    mutex.lock().expect("free")[1].store(5, Relaxed);
    assert_eq!(mutex.lock().expect("free")[1].load(Relaxed), 5);
    assert_eq!(
        <[AtomicU64; 3]>::schema().text(),
        mutex.object().entry().schema
    );
}

#[test]
fn readers_and_writers_are_never_in_together() {
    // Would catch a reader that sees half of a write, and writers that overwrite each other.
    let stage = Stage::new(&[("r", RwLock::<Same<2>>::spec(64).expect("spec"))]);
    let mut peers: Vec<_> = (0..4).map(|_| stage.peer()).collect();
    for peer in &mut peers {
        peer.say("sync hammer rwlock 800 r");
    }
    let results: Vec<_> = peers.iter_mut().map(|peer| numbers(&peer.hear())).collect();
    println!("{results:?}");
    let lock = RwLock::<Same<2>>::in_segment(&stage.segment, "r").expect("lock");
    let writes: u64 = results.iter().map(|result| result[1]).sum();
    assert_eq!(word(&lock.read().expect("free").get()), Some(writes));
    assert!(results.iter().all(|result| result[2] == 0), "torn");
    assert!(
        results.iter().all(|result| result[0] > 0 && result[1] > 0),
        "starved"
    );
}

#[test]
fn dead_readers_and_writers_are_cleared() {
    // Would catch a count of readers that the dead never take back, and a half written value that readers get.
    let stage = Stage::new(&[("r", RwLock::<u64>::spec(64).expect("spec"))]);
    let lock = RwLock::<u64>::in_segment(&stage.segment, "r").expect("lock");

    let mut reader = stage.doing("hold read r", "held");
    assert!(lock.read().is_ok(), "two readers");
    assert_eq!(lock.reading().len(), 1);
    let soon = Instant::now() + Duration::from_millis(100);
    assert!(matches!(lock.write_until(soon), Err(LockError::TimedOut)));
    reader.kill();
    let start = Instant::now();
    lock.write().expect("the reader is gone").set(&1);
    in_time(start);

    let mut writer = stage.doing("hold write r", "held");
    let soon = Instant::now() + Duration::from_millis(100);
    assert!(matches!(lock.read_until(soon), Err(LockError::TimedOut)));
    writer.kill();
    let start = Instant::now();
    assert!(matches!(lock.read(), Err(LockError::OwnerDied(()))));
    in_time(start);
    match lock.write() {
        Err(LockError::OwnerDied(mut guard)) => guard.mark_consistent(),
        other => panic!("{other:?}"),
    }
    assert_eq!(lock.read().expect("repaired").get(), 1);
}

#[test]
fn permits_are_never_too_many_and_those_of_the_dead_come_back() {
    // Would catch a permit given twice, or lost with its holder.
    let stage = Stage::new(&[
        ("s", Semaphore::spec(2).expect("spec")),
        ("inside", Sequence::spec(1).expect("spec")),
    ]);
    let semaphore = Semaphore::in_segment(&stage.segment, "s").expect("semaphore");
    let mut peers: Vec<_> = (0..4).map(|_| stage.peer()).collect();
    for peer in &mut peers {
        peer.say("sync hammer semaphore 500 s");
    }
    for peer in &mut peers {
        let result = numbers(&peer.hear());
        assert!(result[0] > 0 && result[1] <= 2, "{result:?}");
    }
    drop(peers);
    assert_eq!(semaphore.available(), 2);

    let mut holders = [
        stage.doing("hold permit s", "held"),
        stage.doing("hold permit s", "held"),
    ];
    assert!(matches!(
        semaphore.try_acquire(),
        Err(LockError::WouldBlock)
    ));
    holders[0].kill();
    let start = Instant::now();
    let _permit = semaphore.acquire().expect("back");
    in_time(start);
    assert!(matches!(
        semaphore.try_acquire(),
        Err(LockError::WouldBlock)
    ));
}

#[test]
fn a_barrier_holds_until_all_have_come_and_a_death_breaks_it() {
    // Would catch a round that ends too early, one that waits for the dead, and one that ends for some only.
    let stage = Stage::new(&[("b", Barrier::spec(3).expect("spec"))]);
    let mut peers: Vec<_> = (0..3).map(|_| stage.peer()).collect();
    for peer in &mut peers {
        peer.say("sync sit 100 b");
    }
    let firsts: u64 = peers.iter_mut().map(|peer| numbers(&peer.hear())[0]).sum();
    assert_eq!(firsts, 100, "each round is ended by one");

    let barrier = Barrier::in_segment(&stage.segment, "b").expect("barrier");
    let mut seat = barrier.sit().expect("a seat");
    let soon = Instant::now() + Duration::from_millis(100);
    assert_eq!(seat.wait_until(soon), Err(BarrierError::TimedOut));
    let mut waiting = stage.peer();
    waiting.say("sync sit 1 b");
    let mut dies = stage.doing("hold seat b", "held");
    eventually("all have sat down", || barrier.seated() == 3);
    dies.kill();
    assert_eq!(seat.wait(), Err(BarrierError::Broken));
    assert_eq!(waiting.hear(), "broken");
    // Their seats are free again.
    let mut others = [stage.peer(), stage.peer()];
    for peer in &mut others {
        peer.say("sync sit 1 b");
    }
    seat.wait().expect("all have come");
    assert!(others.iter_mut().all(|peer| peer.hear() != "broken"));
}

#[test]
fn one_of_many_does_it_once_and_again_after_a_death() {
    // Would catch two that do it, one that goes on before it is done, and one that waits for the dead.
    let stage = Stage::new(&[
        ("o", Once::spec(()).expect("spec")),
        ("p", Once::spec(()).expect("spec")),
        ("runs", Sequence::spec(1).expect("spec")),
    ]);
    let mut peers: Vec<_> = (0..6).map(|_| stage.peer()).collect();
    for peer in &mut peers {
        peer.say("sync once o");
    }
    let winners = peers
        .iter_mut()
        .filter_map(|peer| (peer.hear() == "true").then_some(()))
        .count();
    assert_eq!(winners, 1);
    let runs = Sequence::in_segment(&stage.segment, "runs").expect("sequence");
    assert_eq!(runs[0].get(), 1);

    let mut peer = stage.doing("hang once p", "begun");
    let once = Once::in_segment(&stage.segment, "p").expect("once");
    assert!(!once.is_done());
    peer.kill();
    let start = Instant::now();
    let mut again = false;
    assert!(once.call(|run| again = run.is_again()).expect("here"));
    in_time(start);
    assert!(again && once.is_done());
    assert!(!once.call(|_| panic!("twice")).expect("here"));
}

/// Whether anything was ever set.
fn is_set<const N: usize>(latest: &Latest<Same<N>>) -> bool {
    latest.version() > 0
}

/// Kills writers at odd moments, and looks at what readers see meanwhile.
fn writers_die<const N: usize>(size: &str, kills: u64) {
    let stage = Stage::new(&[("l", Latest::<Same<N>>::spec(()).expect("spec"))]);
    let view = Segment::open_read_only(Place::Path(stage.path.clone().into())).expect("open");
    let view = LatestView::<Same<N>>::in_segment(&view, "l").expect("view");
    let latest = Latest::<Same<N>>::in_segment(&stage.segment, "l").expect("register");
    let mut value = same::<N>(0);
    assert_eq!(view.get_into(&mut value).expect("nothing yet"), 0);
    let (mut last, mut version, mut reads) = (0, 0, 0);
    for kill in 0..kills {
        let mut writer = stage.doing(&format!("set {size} {} l", last + 1), "setting");
        let end = Instant::now() + Duration::from_micros(3000 + 977 * kill);
        let mut look = |value: &mut Same<N>| {
            let newer = match reads % 2 {
                0 => view.get_into(value),
                _ => latest.get_into(value),
            };
            reads += 1;
            // A large value can be overwritten again and again; then there is nothing to look at.
            let Ok(newer) = newer else { return };
            assert!(newer >= version, "went back from {version} to {newer}");
            if newer > 0 {
                let found = word(value).expect("torn");
                assert!(found >= last, "went back from {last} to {found}");
                (last, version) = (found, newer);
            }
        };
        while Instant::now() < end {
            look(&mut value);
        }
        // The first one is left alive until it has set something, however busy the machine is.
        let patience = Instant::now() + Duration::from_secs(20);
        while kill == 0 && !is_set(&latest) && Instant::now() < patience {
            std::thread::yield_now();
        }
        writer.kill();
        look(&mut value);
    }
    assert!(version > 0, "nothing was ever set");
    println!("{reads} reads, {version} versions, {kills} kills");
    // Whoever comes next sets a value, and everybody gets it.
    assert!(latest.set(&*same(last + 1)).expect("the lease is free") > version);
    view.get_into(&mut value).expect("nobody writes");
    assert_eq!(word(&value), Some(last + 1));
}

#[test]
fn a_small_register_is_never_torn_whenever_its_writer_dies() {
    // Would catch a value that a dead writer hides or has half written, and readers that store anything: the view would end
    // by a signal.
    writers_die::<SMALL>("small", 30);
}

#[test]
fn a_register_of_a_megabyte_is_never_torn_whenever_its_writer_dies() {
    // Would catch the same where a copy takes longer than the writer's next value.
    writers_die::<131_072>("large", 12);
}

#[test]
fn a_register_tells_of_changes() {
    // Would catch a waiter that is not woken, and one that is told of what it has seen.
    let stage = Stage::new(&[("l", Latest::<u64>::spec(()).expect("spec"))]);
    let latest = Latest::<u64>::in_segment(&stage.segment, "l").expect("register");
    assert_eq!(latest.get(), Ok(None));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..=100 {
                latest.set(&value).expect("here");
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let mut seen = 0;
        while seen < 100 {
            let newer = latest.wait(seen).expect("here");
            assert!(newer > seen);
            seen = newer;
        }
    });
    assert_eq!(latest.get(), Ok(Some(100)));
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(latest.wait_until(100, soon).is_err());
    let view = Latest::<u64>::open_read_only(Place::Path(stage.path.clone().into()));
    assert!(view.is_err(), "the object has another name");
}

/// Every way to wait.
const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Block];

#[test]
fn a_register_is_waited_for_in_every_way() {
    // Would catch a way that never ends, one that ends before its deadline, and a reader that cannot write and tries to.
    let stage = Stage::new(&[("l", Latest::<u64>::spec(()).expect("spec"))]);
    let segment = Segment::open_read_only(Place::Path(stage.path.clone().into())).expect("open");
    for (round, wait) in WAITS.into_iter().enumerate() {
        let mut latest = Latest::<u64>::in_segment(&stage.segment, "l").expect("register");
        let mut view = LatestView::<u64>::in_segment(&segment, "l").expect("view");
        latest.set_wait(wait);
        view.set_wait(wait);
        let seen = latest.version();
        assert_eq!(seen, round as u64);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(latest.wait_until(seen, deadline).is_err());
        assert!(view.wait_until(seen, deadline).is_err() && Instant::now() >= deadline);
        std::thread::scope(|scope| {
            let waits = [
                scope.spawn(|| latest.wait(seen).expect("here")),
                scope.spawn(|| view.wait(seen)),
            ];
            std::thread::sleep(Duration::from_millis(30));
            Latest::<u64>::in_segment(&stage.segment, "l")
                .map(|other| other.set(&5))
                .expect("register")
                .expect("here");
            for wait in waits {
                assert_eq!(wait.join().expect("no panic"), seen + 1);
            }
        });
    }
}

#[test]
fn a_view_that_waits_sleeps_no_more_often_than_it_must() {
    // Would catch a reader that polls because nobody can wake him. Counted and not timed: what a sleep takes of a CPU is the
    // machine's affair.
    const WINDOW: Duration = Duration::from_secs(3);
    let stage = Stage::new(&[("l", Latest::<u64>::spec(()).expect("spec"))]);
    let segment = Segment::open_read_only(Place::Path(stage.path.clone().into())).expect("open");
    let view = LatestView::<u64>::in_segment(&segment, "l").expect("view");
    let asleep = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("of this thread");
        usage.voluntary_context_switches()
    };
    let before = asleep();
    assert!(view.wait_until(0, Instant::now() + WINDOW).is_err());
    let asleep = asleep() - before;
    println!("asleep {asleep} times");
    // Naps of an eighth of what it has waited, from 100 us on: 64 at most before they are as long as they get.
    let slices = 64 + (WINDOW.as_millis() / LONGEST_SLICE.as_millis()) as i64;
    assert!(
        asleep > 0 && asleep <= slices + 5,
        "it slept {asleep} times"
    );
}

#[test]
fn seats_and_runs_are_waited_for_in_every_way() {
    // Would catch a way to wait that an object does not take, or that never ends.
    for wait in WAITS {
        let mut barrier = Barrier::create(Place::Anonymous, 2).expect("create");
        barrier.set_wait(wait);
        let mut once = Once::create(Place::Anonymous, ()).expect("create");
        once.set_wait(wait);
        let firsts: u32 = std::thread::scope(|scope| {
            let sides = [10, 30].map(|millis| {
                let (barrier, once) = (&barrier, &once);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(millis));
                    let did = once.call(|_| std::thread::sleep(Duration::from_millis(40)));
                    let mut seat = barrier.sit().expect("a seat");
                    let first = seat.wait().expect("both come");
                    u32::from(first) + 10 * u32::from(did.expect("here"))
                })
            });
            sides
                .map(|side| side.join().expect("no panic"))
                .iter()
                .sum()
        });
        assert_eq!(firsts, 11, "{wait:?}: one ends the round, one does it");
    }
}

#[test]
fn numbers_of_a_sequence_are_given_once() {
    // Would catch an addition that is not atomic.
    let stage = Stage::new(&[("c", Sequence::spec(2).expect("spec"))]);
    let mut peers: Vec<_> = (0..4).map(|_| stage.peer()).collect();
    for peer in &mut peers {
        peer.say("sync count 50000 c");
    }
    for peer in &mut peers {
        assert_eq!(peer.hear(), "counted");
    }
    let sequence = Sequence::in_segment(&stage.segment, "c").expect("sequence");
    assert_eq!((sequence[0].get(), sequence[1].get()), (0, 200_000));
    sequence[0].raise(5);
    sequence[0].raise(3);
    assert_eq!(sequence[0].next(), 5);
}
