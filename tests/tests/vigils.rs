//! Vigils: a waiter that is told of every death sleeps long, and is told all the same; and where it cannot be told of all, it
//! looks around as ever.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ipc_core::event::{
    Event, LONGEST_SLICE, Readiness, SLICE, WATCHED, Wait, Waiters, wait_any, wait_until,
};
use ipc_core::memory::{Area, Memory};
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_core::sync::{Attach, Barrier, BarrierError, Latest, LatestError, LockError, Mutex};
use ipc_ring::{PopError, Ring as _, mpmc, spsc};
use ipc_tests::counted::Counted;
use ipc_tests::peers::{Peer, directory, eventually};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PEER: &str = env!("CARGO_BIN_EXE_ipc-peer");

/// How late a death may be told, twice over for a machine that runs other things. Much less than a watched wait sleeps.
const TOLD: Duration = Duration::from_millis(200);

/// A wait of this length has been watched for a while, and is far from its next look.
const WATCHED_FOR_A_WHILE: Duration = Duration::from_millis(500);

struct Stage {
    segment: Segment,
    path: String,
    _directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = directory();
        let path = directory.path().join("segment");
        let segment = SegmentOptions::new()
            .object("m", Mutex::<u64>::spec(()).expect("spec"))
            .object("l", Latest::<u64>::spec(()).expect("spec"))
            .object("b", Barrier::spec(3).expect("spec"))
            .create(Place::Path(path.clone()))
            .expect("create");
        Self {
            segment,
            path: path.display().to_string(),
            _directory: directory,
        }
    }

    fn peer(&self) -> Peer {
        self.by(&mut Command::new(PEER))
    }

    fn by(&self, command: &mut Command) -> Peer {
        let mut peer = Peer::start(command);
        peer.say(&format!("open {}", self.path));
        assert_eq!(peer.hear(), "open");
        peer
    }

    /// Waits for something that does not come, and tells how often it fell asleep.
    fn sleeps_of_a_wait(&self, lasts: Duration) -> i64 {
        let latest = Latest::<u64>::in_segment(&self.segment, "l").expect("attach");
        let asleep = || {
            let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("of this thread");
            usage.voluntary_context_switches()
        };
        let before = asleep();
        let waited = latest.wait_until(0, Instant::now() + lasts);
        assert!(matches!(waited, Err(LatestError::TimedOut)), "{waited:?}");
        asleep() - before
    }
}

fn ask(peer: &mut Peer, what: &str) -> String {
    peer.say(what);
    peer.hear()
}

/// How often a wait falls asleep that looks around in slices.
fn slices(lasts: Duration) -> i64 {
    (lasts.as_millis() / LONGEST_SLICE.as_millis()) as i64
}

/// How often one does that is watched: the slices of its youth, a sleep for each second, the last, and a few for locks.
fn watched(lasts: Duration) -> i64 {
    (200 / SLICE.as_millis()) as i64 + lasts.as_secs() as i64 + 6
}

/// The threads of this process that have this name: what the kernel says of each.
fn threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    tasks
        .filter_map(|task| {
            let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            status
                .starts_with(&format!("Name:\t{name}\n"))
                .then_some(status)
        })
        .collect()
}

fn told_in_time(since: Instant) {
    let took = since.elapsed();
    println!("told after {took:?}");
    assert!(took < TOLD, "{took:?}");
}

#[test]
fn an_idle_waiter_among_the_living_sleeps_long() {
    // Would catch a wait that wakes up every few milliseconds to ask whether anybody has died, which is most of what it
    // takes of a CPU.
    const WINDOW: Duration = Duration::from_secs(3);
    let stage = Stage::new();
    let mut peers = [stage.peer(), stage.peer()];
    for peer in &mut peers {
        ask(peer, "join");
    }
    let asleep = stage.sleeps_of_a_wait(WINDOW);
    println!("asleep {asleep} times");
    assert!(asleep <= watched(WINDOW), "it slept {asleep} times");
}

#[test]
fn one_who_comes_during_a_sleep_is_watched_too() {
    // Would catch a newcomer whom nobody watches: its death is told when the sleep is over, a second later.
    let stage = Stage::new();
    let barrier = Barrier::in_segment(&stage.segment, "b").expect("attach");
    let mut newcomer = stage.peer();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| barrier.sit().expect("a seat").wait());
        std::thread::sleep(WATCHED_FOR_A_WHILE);
        assert_eq!(ask(&mut newcomer, "sync hold seat b"), "held");
        assert!(!waits.is_finished(), "nobody has died");
        newcomer.kill_unreaped();
        let since = Instant::now();
        let told = waits.join().expect("no panic");
        assert!(matches!(told, Err(BarrierError::Broken)), "{told:?}");
        told_in_time(since);
    });
}

#[test]
fn the_holder_of_a_lock_is_watched() {
    // Would catch a lock, which has a wait of its own, that sleeps on although its holder is dead.
    let stage = Stage::new();
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("attach");
    let mut holder = stage.peer();
    assert_eq!(ask(&mut holder, "sync hold mutex m"), "held");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let usage = || getrusage(UsageWho::RUSAGE_THREAD).expect("of this thread");
            let before = usage().voluntary_context_switches();
            let died = matches!(mutex.lock(), Err(LockError::OwnerDied(_)));
            (died, usage().voluntary_context_switches() - before)
        });
        let lasts = 2 * WATCHED + WATCHED_FOR_A_WHILE;
        std::thread::sleep(lasts);
        holder.kill_unreaped();
        let since = Instant::now();
        let (died, asleep) = waits.join().expect("no panic");
        assert!(died);
        told_in_time(since);
        // It begins with naps that grow to the length of a slice.
        println!("asleep {asleep} times");
        assert!(asleep < slices(lasts) - 10, "it slept {asleep} times");
    });
}

#[test]
fn a_vigil_begins_before_the_look() {
    // Would catch a look that comes first: whoever dies between the two, and is cleared up after by another process, is
    // neither found nor told of.
    const WINDOW: Duration = Duration::from_millis(600);
    let stage = Stage::new();
    let object = stage.segment.object("l").expect("object");
    let counted = Counted::new(object.area().memory().clone());
    let area = Area::new(counted.clone(), 0, counted.len()).expect("all of it");
    // A word that nobody writes, in the page that is the segment's own.
    let event = Event::new(&area, 2048, Waiters::Many).expect("fits");
    let (begun, looks) = (Cell::new(0), RefCell::new(Vec::new()));
    let look_around = || {
        let vigils = counted.counts().vigils.load(SeqCst);
        looks.borrow_mut().push(vigils - begun.replace(vigils));
        Ok::<_, ()>(())
    };
    let deadline = Some(counted.now() + WINDOW);
    let waited = wait_until(
        &event,
        Wait::Block,
        deadline,
        || Ok(None::<()>),
        look_around,
    );
    assert!(waited.expect("no error").got.is_none());
    let looks = looks.into_inner();
    println!("vigils before each look: {looks:?}");
    // None in its youth, which is over with the fifth look at the latest. One before that look; it is refused here, and not
    // asked for again so soon.
    let asked = looks.iter().position(|vigils| *vigils == 1);
    assert!(asked.is_some_and(|at| (1..5).contains(&at)), "{looks:?}");
    assert_eq!(looks.iter().sum::<u64>(), 1, "{looks:?}");
    assert_eq!(counted.counts().vigils.load(SeqCst), 1, "{looks:?}");
}

#[test]
fn nobody_is_watched_by_one_who_takes_no_part() {
    // Would catch a vigil over an empty table: those who take turns by a lock byte need not join, and nobody tells of their
    // death.
    let stage = Stage::new();
    let object = stage.segment.object("l").expect("object");
    let memory = object.area().memory();
    assert!(memory.vigil().is_none());
    stage.segment.participant().expect("join");
    let vigil = memory.vigil().expect("all are known");
    assert!(!vigil.is_over());
    let mut other = stage.peer();
    ask(&mut other, "join");
    assert!(vigil.is_over(), "another one has come");
    let vigil = memory.vigil().expect("all are known");
    other.kill();
    eventually("it is over", || vigil.is_over());
}

#[test]
fn who_cannot_be_watched_is_looked_at_as_ever() {
    // Would catch a sleep that relies on being told of a death in another pid namespace, of which nobody is told.
    let arguments = ["--fork", "--kill-child", "--pid", "--mount-proc"];
    let tried = Command::new("unshare").args(arguments).arg("true").output();
    if !tried.as_ref().is_ok_and(|done| done.status.success()) {
        println!("skipped: unshare {arguments:?} does not work here: {tried:?}");
        return;
    }
    let stage = Stage::new();
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("attach");
    let mut holder = stage.by(Command::new("unshare").args(arguments).arg(PEER));
    assert_eq!(ask(&mut holder, "sync hold mutex m"), "held");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
        std::thread::sleep(WATCHED_FOR_A_WHILE);
        holder.kill();
        let since = Instant::now();
        assert!(waits.join().expect("no panic"));
        told_in_time(since);
    });
}

#[test]
fn who_becomes_another_program_is_found_out() {
    // Would catch a wait that relies on being told: the process lives, and what it held is gone with its memory.
    let stage = Stage::new();
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("attach");
    let mut holder = stage.peer();
    assert_eq!(ask(&mut holder, "sync hold mutex m"), "held");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
        std::thread::sleep(WATCHED_FOR_A_WHILE);
        holder.say("exec");
        let since = Instant::now();
        assert!(waits.join().expect("no panic"));
        let took = since.elapsed();
        println!("found out after {took:?}");
        assert!(took < WATCHED + TOLD, "{took:?}");
        assert!(Path::new(&format!("/proc/{}", holder.pid())).exists());
    });
}

#[test]
fn an_idle_descriptor_among_the_living_wakes_nobody() {
    // Would catch a descriptor that becomes readable every few milliseconds for nothing, and one that is silent when the
    // peer dies because it no longer does.
    const WINDOW: Duration = Duration::from_secs(2);
    let directory = directory();
    let path = directory.path().join("ring");
    let options = spsc::Ring::<u64>::options().capacity(1);
    let ring = options.create(Place::Path(path.clone())).expect("create");
    let mut peer = Peer::start(&mut Command::new(PEER));
    assert_eq!(ask(&mut peer, &format!("open {}", path.display())), "open");
    assert_eq!(ask(&mut peer, "ring producer"), "taken");
    let mut consumer = ring.consumer().expect("free");
    assert_eq!(consumer.pop(), Ok(7));
    let ready = Readiness::new().expect("a descriptor");
    let for_so_long = |left: Duration| {
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&left)).expect("poll")
    };
    let (start, mut fired) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        assert_eq!(consumer.try_pop_or_arm(&ready), Err(PopError::Empty));
        fired += for_so_long(WINDOW.saturating_sub(start.elapsed()));
    }
    println!("readable {fired} times in {WINDOW:?}");
    // In slices twice, since it has to be idle once; then each second.
    assert!(fired <= 2 + WINDOW.as_secs() as usize, "{fired} times");
    peer.kill_unreaped();
    let since = Instant::now();
    while consumer.try_pop_or_arm(&ready) == Err(PopError::Empty) {
        for_so_long(Duration::from_secs(10));
    }
    told_in_time(since);
}

#[test]
fn a_wake_up_that_a_busy_loop_has_got_is_passed_on() {
    // Would catch a message that lies there for a second: the wake-up for it went to a descriptor whose loop is busy with
    // something else, and another consumer sleeps on.
    let ring = mpmc::Ring::<u64>::options()
        .capacity(8)
        .create(Place::Memfd("two".into()))
        .expect("create");
    let mut producer = ring.producer().expect("a producer");
    let mut busy = ring.consumer().expect("a consumer");
    let mut asleep = ring.consumer().expect("another");
    let ready = Readiness::new().expect("a descriptor");
    std::thread::scope(|scope| {
        // Idle, so that it stays armed; and before the other one falls asleep, since the kernel wakes whoever has slept longest.
        for _ in 0..2 {
            assert_eq!(busy.try_pop_or_arm(&ready), Err(PopError::Empty));
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&soon)).expect("poll");
        }
        let waits = scope.spawn(|| asleep.pop());
        std::thread::sleep(WATCHED_FOR_A_WHILE);
        producer.push(7).expect("room");
        let since = Instant::now();
        assert_eq!(waits.join().expect("no panic"), Ok(7));
        told_in_time(since);
    });
}

#[test]
fn who_died_in_nobodys_way_keeps_nobody_awake() {
    // Would catch a row of the dead that keeps everybody from sleeping long, for as long as nobody needs it.
    const WINDOW: Duration = Duration::from_secs(3);
    let stage = Stage::new();
    let mut bystander = stage.peer();
    ask(&mut bystander, "join");
    bystander.kill();
    let asleep = stage.sleeps_of_a_wait(WINDOW);
    println!("asleep {asleep} times");
    assert!(asleep <= watched(WINDOW), "it slept {asleep} times");
}

#[test]
fn where_somebody_is_dead_each_wake_up_is_followed_by_a_look() {
    // Would catch a waiter that found a dead one in nobody's way, and is held up by that one when another has let go: of
    // that death it is not told again.
    let stage = Stage::new();
    stage.segment.participant().expect("join");
    let object = stage.segment.object("l").expect("object");
    let memory = object.area().memory().clone();
    let area = Area::new(memory.clone(), 0, memory.len()).expect("all of it");
    let event = Event::new(&area, 2048, Waiters::Many).expect("fits");
    let looks_of_woken = || {
        let looks = Cell::new(0);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                    event.notify(1);
                }
            });
            let look_around = || {
                looks.set(looks.get() + 1);
                Ok::<_, ()>(())
            };
            let deadline = Some(memory.now() + WATCHED);
            let waited = wait_until(
                &event,
                Wait::Block,
                deadline,
                || Ok(None::<()>),
                look_around,
            );
            over.store(true, SeqCst);
            assert!(waited.expect("no error").got.is_none());
        });
        looks.get()
    };
    let among_the_living = looks_of_woken();
    let mut bystander = stage.peer();
    ask(&mut bystander, "join");
    bystander.kill();
    let beside_the_dead = looks_of_woken();
    println!("{among_the_living} looks among the living, {beside_the_dead} beside the dead");
    assert!(among_the_living <= 8, "{among_the_living}");
    assert!(beside_the_dead >= 16, "{beside_the_dead}");
}

#[test]
fn a_wake_up_for_one_that_is_gone_is_passed_on() {
    // Would catch a message that lies there: the thread that has got the wake-up for it finds that the descriptor is gone.
    let ring = mpmc::Ring::<u64>::options()
        .capacity(8)
        .create(Place::Memfd("gone".into()))
        .expect("create");
    let mut producer = ring.producer().expect("a producer");
    let mut gone = ring.consumer().expect("a consumer");
    let mut asleep = ring.consumer().expect("another");
    let ready = Readiness::new().expect("a descriptor");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            assert_eq!(gone.try_pop_or_arm(&ready), Err(PopError::Empty));
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&soon)).expect("poll");
        }
        let waits = scope.spawn(|| asleep.pop());
        std::thread::sleep(WATCHED_FOR_A_WHILE);
        producer.push(7).expect("room");
        let since = Instant::now();
        drop(ready);
        assert_eq!(waits.join().expect("no panic"), Ok(7));
        told_in_time(since);
    });
}

#[test]
fn a_wait_for_more_than_can_be_watched_sleeps_all_the_same() {
    // Would catch a wait for so many events that there is no room for what a vigil adds: the kernel then waits for none.
    const WINDOW: Duration = Duration::from_secs(1);
    let stage = Stage::new();
    stage.segment.participant().expect("join");
    let object = stage.segment.object("l").expect("object");
    let memory = object.area().memory().clone();
    let area = Area::new(memory.clone(), 0, memory.len()).expect("all of it");
    let event = |n: usize| Event::new(&area, 1024 + 4 * n, Waiters::Many).expect("fits");
    for count in [100_usize, 111, 112, 128] {
        let events: Vec<_> = (0..count).map(event).collect();
        let events: Vec<_> = events.iter().collect();
        let deadline = Some(memory.now() + WINDOW);
        let usage = || getrusage(UsageWho::RUSAGE_THREAD).expect("of this thread");
        let before = usage().voluntary_context_switches();
        let nothing = || Ok::<_, ()>(None::<()>);
        let waited = wait_any(&events, Wait::Block, deadline, nothing, || Ok(()));
        assert!(waited.expect("no error").got.is_none());
        let asleep = usage().voluntary_context_switches() - before;
        println!("{count} events: asleep {asleep} times");
        assert!(
            asleep <= slices(WINDOW) + 10,
            "{count} events: {asleep} times"
        );
    }
}

#[test]
fn arrivals_without_end_hold_nobody_up() {
    // Would catch a peer that counts arrivals all the time, and with that keeps a waiter from its deadline, or makes it look at
    // everybody without a pause.
    const LASTS: Duration = Duration::from_millis(800);
    let stage = Stage::new();
    let mutex = Mutex::<u64>::in_segment(&stage.segment, "m").expect("attach");
    let mut holder = stage.peer();
    assert_eq!(ask(&mut holder, "sync hold mutex m"), "held");
    let object = stage.segment.object("l").expect("object");
    let memory = object.area().memory().clone();
    let arrivals = Area::new(memory, 260, 4)
        .and_then(|area| area.word32(0))
        .expect("fits");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                arrivals.store(arrivals.load(SeqCst).wrapping_add(1), SeqCst);
                arrivals.wake(u32::MAX);
            }
        });
        let asleep = stage.sleeps_of_a_wait(LASTS);
        let start = Instant::now();
        let waited = mutex.lock_until(start + LASTS);
        let late = start.elapsed().saturating_sub(LASTS);
        over.store(true, SeqCst);
        assert!(matches!(waited, Err(LockError::TimedOut)), "{waited:?}");
        println!("asleep {asleep} times, {late:?} late");
        assert!(late < TOLD, "{late:?}");
        assert!(asleep <= slices(LASTS) + 20, "it slept {asleep} times");
    });
}

#[test]
fn the_threads_of_the_library_take_no_signals() {
    // Would catch a signal that is meant for a thread of the program, which waits for it, and ends the process instead.
    let stage = Stage::new();
    let mut peer = stage.peer();
    ask(&mut peer, "join");
    let _ready = Readiness::new().expect("a descriptor");
    stage.sleeps_of_a_wait(WATCHED_FOR_A_WHILE);
    for name in ["ipc-peers", "ipc-ready"] {
        let found = threads(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let blocked = found[0]
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:\t"))
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .expect("a mask");
        use nix::sys::signal::Signal::{SIGALRM, SIGBUS, SIGINT, SIGSEGV, SIGTERM, SIGUSR1};
        let is_blocked = |signal| blocked >> (signal as i32 - 1) & 1 != 0;
        for signal in [SIGALRM, SIGINT, SIGTERM, SIGUSR1] {
            assert!(is_blocked(signal), "{name} takes {signal}");
        }
        // What the kernel answers an access with has to be taken, or the file that is cut short ends the process.
        for signal in [SIGBUS, SIGSEGV] {
            assert!(!is_blocked(signal), "{name} does not take {signal}");
        }
    }
}

#[test]
fn a_child_has_a_watch_of_its_own() {
    // Would catch a forked child that relies on the thread of its parent, which it does not have.
    let stage = Stage::new();
    stage.segment.participant().expect("join");
    let mut parent = stage.peer();
    assert_eq!(ask(&mut parent, "sync watch l"), "1 thread");
    assert_eq!(ask(&mut parent, "watch in a child"), "1 thread");
}

#[test]
fn descriptors_of_peers_are_closed_with_the_segment() {
    // Would catch a long-lived process that runs out of descriptors while others come and go.
    let stage = Stage::new();
    let mut peers = [stage.peer(), stage.peer(), stage.peer()];
    for peer in &mut peers {
        ask(peer, "join");
    }
    // Other tests of this process have theirs at the same time.
    let ours: Vec<String> = peers.iter().map(|peer| peer.pid().to_string()).collect();
    let open = || {
        let all = std::fs::read_dir("/proc/self/fdinfo").expect("/proc");
        let texts = all.filter_map(|fd| std::fs::read_to_string(fd.ok()?.path()).ok());
        let of = |text: String| {
            let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
            Some(pid.trim().to_owned())
        };
        texts
            .filter_map(of)
            .filter(|pid| ours.contains(pid))
            .count()
    };
    // The standard library may have one of each child.
    let before = open();
    let other = Segment::open(Place::Path(stage.path.clone().into())).expect("open");
    let latest = Latest::<u64>::in_segment(&other, "l").expect("attach");
    let soon = Instant::now() + WATCHED_FOR_A_WHILE;
    assert!(latest.wait_until(0, soon).is_err());
    stage.sleeps_of_a_wait(WATCHED_FOR_A_WHILE);
    let each = open() - before;
    drop((latest, other, stage));
    assert_eq!(each, peers.len(), "one for each, in two segments");
    assert_eq!(open(), before, "they are closed");
}
