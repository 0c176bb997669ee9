//! Waiting: no wake-up is lost, the dead cost next to nothing, and idling costs next to nothing.

use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use ipc_core::Mapped;
use ipc_core::event::{
    Event, LONGEST_SLICE, Readiness, SLICE, Slot, Wait, Waiters, wait_any, wait_until,
};
use ipc_core::memory::{Area, Memory, Word32, Word64};
use ipc_core::segment::{Object, ObjectSpec, Place, SegmentOptions};
use ipc_ring::stream::AsyncConsumer;
use ipc_ring::{PopError, PushError, Ring as _, spsc};
use ipc_tests::child::Child;
use ipc_tests::counted::Counted;
use ipc_tests::peers::{Peer, directory, eventually};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

/// Offsets of an event, and of what is published under it.
const EVENT: usize = 0;
const PUBLISHED: usize = 128;
const TAKEN: usize = 256;

fn object() -> ObjectSpec {
    ObjectSpec {
        kind: *b"test\0\0\0\0",
        version: 1,
        len: 512,
        schema: String::new(),
        parameters: [0; 2],
    }
}

fn new_object() -> Object {
    let place = Place::Memfd("waiting".into());
    let segment = SegmentOptions::new()
        .object("event", object())
        .create(place)
        .expect("create");
    segment.object("event").expect("object")
}

fn memory() -> Area<Mapped> {
    new_object().area().clone()
}

fn peer() -> Peer {
    Peer::start(&mut Command::new(env!("CARGO_BIN_EXE_ipc-peer")))
}

/// Delays of random length: what makes rare windows meet. The sleeper's are longer, since he is awake long before the
/// call that woke him returns to the publisher.
struct Delays(u64);

impl Delays {
    fn delay(&mut self, most: u64) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        for _ in 0..self.0 % most {
            std::hint::spin_loop();
        }
    }
}

/// What a stress came to.
#[derive(Debug)]
struct Outcome {
    sleeps: u64,
    lost: u64,
}

/// One sleeper, one publisher, who publishes the next message when the last one has been taken, after random delays on
/// both sides. Counts sleeps that a publisher had not seen when it was done: those would have lasted their whole slice.
fn stress(
    messages: u64,
    until: Instant,
    stop_at_first: bool,
    streaming: bool,
    notify: impl Fn(&Event<Mapped>, &Word32<Mapped>) + Sync,
) -> Outcome {
    let area = memory();
    let event = Event::new(&area, EVENT, Waiters::One).expect("fits");
    let word = area.word32(EVENT).expect("fits");
    let published = area.word64(PUBLISHED).expect("fits");
    let taken = area.word64(TAKEN).expect("fits");
    // The last message about which the publisher has done what it does.
    let told = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let mut outcome = Outcome { sleeps: 0, lost: 0 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut delays = Delays(0x9e37_79b9_7f4a_7c15);
            for message in 1..=messages {
                while taken.load(Acquire) < message - 1 {
                    if over.load(Relaxed) {
                        return;
                    }
                    std::hint::spin_loop();
                }
                delays.delay(64);
                published.store(message, Release);
                notify(&event, &word);
                told.store(message, Release);
            }
        });
        let mut delays = Delays(0xdead_beef_cafe_f00d);
        for message in 1..=messages {
            if streaming {
                event.start_streaming();
            }
            delays.delay(1024);
            while published.load(Acquire) < message {
                let prepared = event.prepare();
                if published.load(Acquire) >= message {
                    break;
                }
                event.sleep(prepared, LONGEST_SLICE);
                outcome.sleeps += 1;
                if published.load(Acquire) >= message {
                    // However long the publisher is not run between the two.
                    while told.load(Acquire) < message {
                        std::thread::yield_now();
                    }
                    outcome.lost += u64::from(word.load(SeqCst) & 1 != 0);
                }
            }
            taken.store(message, Release);
            if stop_at_first && outcome.lost > 0 || Instant::now() > until {
                break;
            }
        }
        over.store(true, Relaxed);
    });
    outcome
}

#[test]
fn no_wake_up_is_lost_and_the_control_loses_some() {
    // Would catch a missing fence on either side, or a promise to stream that is withdrawn without `membarrier`. The
    // control shows that the stress can see a loss: its publisher looks at the word without a fence.
    let long = std::env::var_os("IPC_LONG").is_some();
    let messages = if long { 2_000_000 } else { 20_000 };
    let soon = || Instant::now() + Duration::from_secs(if long { 600 } else { 15 });

    let control = stress(1_000_000, soon(), true, false, |event, word| {
        if word.load(Relaxed) & 1 != 0 {
            event.notify(1);
        }
    });
    println!("control, without a fence: {control:?}");
    let fenced = stress(messages, soon(), false, false, |event, _| event.notify(1));
    println!("fence:                    {fenced:?}");
    let streaming = stress(messages, soon(), false, true, |event, _| event.notify(1));
    println!("streaming, membarrier:    {streaming:?}");
    assert_eq!(fenced.lost, 0, "{fenced:?}");
    assert_eq!(streaming.lost, 0, "{streaming:?}");
    assert!(
        fenced.sleeps > 0 && streaming.sleeps > 0,
        "nobody ever slept"
    );
    if control.lost == 0 {
        println!(
            "skipped: the control lost nothing in {} sleeps, so this proves nothing here",
            control.sleeps
        );
    }
}

/// Takes one of the published messages, if there is one.
fn take<M: Memory>(published: &Word64<M>, taken: &Word64<M>) -> Option<u64> {
    let next = taken.load(Acquire);
    (next < published.load(Acquire) && taken.exchange(next, next + 1, SeqCst).is_ok())
        .then_some(next)
}

#[test]
fn each_publication_wakes_its_own_sleeper() {
    // Would catch a publisher that sees nobody asleep because another one is just waking the first of several. Sleeps are
    // not cut into slices here: a lost wake-up leaves a message lying for good.
    const SLEEPERS: usize = 4;
    const LOST: Duration = Duration::from_secs(20);
    let object = new_object();
    let (at, len) = (object.entry().offset as usize, object.entry().len as usize);
    let patient = Counted::patient(object.area().memory().clone());
    let area = Area::new(patient, at, len).expect("the object");
    let event = Event::new(&area, EVENT, Waiters::Many).expect("fits");
    let published = area.word64(PUBLISHED).expect("fits");
    let taken = area.word64(TAKEN).expect("fits");
    let over = AtomicBool::new(false);
    let waits = || {
        wait_until(
            &event,
            Wait::Block,
            None,
            || match take(&published, &taken) {
                Some(message) => Ok(Some(message)),
                None if over.load(SeqCst) => Err(()),
                None => Ok(None),
            },
            || Ok(()),
        )
    };
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            scope.spawn(|| while waits().is_ok() {});
        }
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && slowest < LOST {
            // Two at a time, by two publishers.
            let publish = || {
                published.add(1, SeqCst);
                event.notify(1);
            };
            std::thread::scope(|scope| {
                scope.spawn(publish);
                scope.spawn(publish);
            });
            let start = Instant::now();
            while taken.load(SeqCst) < published.load(SeqCst) && start.elapsed() < LOST {
                std::thread::yield_now();
            }
            slowest = slowest.max(start.elapsed());
        }
        over.store(true, SeqCst);
        event.notify(u32::MAX);
    });
    println!(
        "{} messages, the slowest pair took {slowest:?}",
        taken.load(SeqCst)
    );
    assert!(slowest < LOST, "a wake-up was lost");
}

#[test]
fn waiters_killed_asleep_cost_one_wake_up() {
    // Would catch a count of sleepers that the dead never take back, so that every publication pays for them.
    let directory = directory();
    let path = directory.path().join("event");
    let segment = SegmentOptions::new()
        .object("event", object())
        .create(Place::Path(path.clone()))
        .expect("create");
    let mut peers = [peer(), peer(), peer()];
    for peer in &mut peers {
        peer.say(&format!("open {}", path.display()));
        assert_eq!(peer.hear(), "open");
        peer.say("sleep event");
        assert_eq!(peer.hear(), "asleep");
    }
    for peer in &peers {
        eventually("it sleeps", || {
            peer.system_call() == Some(nix::libc::SYS_futex)
        });
    }
    for mut peer in peers {
        peer.kill();
    }
    let counted = Counted::new(
        segment
            .object("event")
            .expect("object")
            .area()
            .memory()
            .clone(),
    );
    let at = segment.entries()[0].offset as usize;
    let area = Area::new(counted.clone(), at, 512).expect("fits");
    let event = Event::new(&area, EVENT, Waiters::Many).expect("fits");
    assert_ne!(
        area.word32(EVENT).expect("fits").load(SeqCst),
        0,
        "nobody ever slept"
    );
    for _ in 0..1000 {
        event.notify(1);
    }
    assert_eq!(counted.counts().wakes.load(SeqCst), 1);
}

/// A ring, and a process that has the end of it that is asked for, and has pushed the message 7 if it is the producer.
fn ring_with_a_peer_as(end: &str) -> (spsc::Ring<u64>, Peer, tempfile::TempDir) {
    let directory = directory();
    let path = directory.path().join("ring");
    let options = spsc::Ring::<u64>::options().capacity(1);
    let ring = options.create(Place::Path(path.clone())).expect("create");
    let mut peer = peer();
    peer.say(&format!("open {}", path.display()));
    assert_eq!(peer.hear(), "open");
    peer.say(&format!("ring {end}"));
    assert_eq!(peer.hear(), "taken");
    (ring, peer, directory)
}

/// Kills the peer, and fails if `told` takes longer than a death may go untold. Twice that on a machine that runs other
/// things.
fn told_in_time(mut peer: Peer, told: impl FnOnce()) {
    // Somewhere between two looks at the peer.
    std::thread::sleep(SLICE * 2);
    peer.kill_unreaped();
    let start = Instant::now();
    told();
    let took = start.elapsed();
    println!("told after {took:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
    peer.kill();
}

#[test]
fn a_death_late_in_a_wait_is_told_in_time() {
    // Would catch a wait that, once it has lasted, looks too seldom whether its peer lives.
    let (ring, peer, _directory) = ring_with_a_peer_as("producer");
    let mut consumer = ring.consumer().expect("free");
    assert_eq!(consumer.pop(), Ok(7));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| consumer.pop());
        std::thread::sleep(10 * LONGEST_SLICE);
        assert!(!waits.is_finished(), "nobody has died");
        told_in_time(peer, || {
            assert_eq!(waits.join().expect("no panic"), Err(PopError::PeerDead));
        });
    });
}

#[test]
fn a_descriptor_tells_of_a_death() {
    // Would catch a descriptor that stays silent when the peer dies, and an end that is woken and says "empty" again and
    // again. What the dead one left behind comes first.
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (ring, peer, _directory) = ring_with_a_peer_as("producer");
    let mut consumer = ring.consumer().expect("free");
    let ready = Readiness::new().expect("a descriptor");
    assert_eq!(consumer.try_pop_or_arm(&ready), Ok(7));
    assert_eq!(consumer.try_pop_or_arm(&ready), Err(PopError::Empty));
    let mut tries = 0;
    told_in_time(peer, || {
        loop {
            let for_ever = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let polled = poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&for_ever));
            assert_eq!(polled, Ok(1), "the descriptor stays silent");
            tries += 1;
            assert!(tries < 100, "woken again and again, and told nothing");
            match consumer.try_pop_or_arm(&ready) {
                Err(PopError::Empty) => {}
                Err(PopError::PeerDead) => break,
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(tries < 10, "woken {tries} times");
    // Told once; what comes now is a new producer.
    assert_eq!(consumer.try_pop_or_arm(&ready), Err(PopError::Empty));
}

#[test]
fn async_ends_tell_of_a_death() {
    // Would catch a task that waits for ever for a producer or a consumer that has died.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let _context = runtime.enter();

    let (ring, peer, _directory) = ring_with_a_peer_as("producer");
    let consumer = ring.consumer().expect("free");
    let mut stream = consumer.into_stream().expect("a thread");
    assert_eq!(runtime.block_on(stream.next()), Some(Ok(7)));
    assert!(stream.next().now_or_never().is_none());
    told_in_time(peer, || {
        let next = runtime.block_on(stream.next());
        assert_eq!(next, Some(Err(PopError::PeerDead)));
    });

    let (ring, peer, _directory) = ring_with_a_peer_as("producer");
    let mut consumer = AsyncConsumer::new(ring.consumer().expect("free")).expect("a descriptor");
    assert_eq!(runtime.block_on(consumer.pop()), Ok(7));
    assert!(consumer.pop().now_or_never().is_none());
    told_in_time(peer, || {
        assert_eq!(runtime.block_on(consumer.pop()), Err(PopError::PeerDead));
    });

    let (ring, peer, _directory) = ring_with_a_peer_as("consumer");
    let mut sink = ring
        .producer()
        .expect("free")
        .into_sink()
        .expect("a thread");
    runtime.block_on(sink.send(1)).expect("there is room");
    told_in_time(peer, || {
        let sent = runtime.block_on(sink.send(2));
        assert!(matches!(sent, Err(PushError::PeerDead(2))), "{sent:?}");
    });
}

#[test]
fn one_wait_serves_several_events() {
    // Would catch a wait that sleeps on the first event only: then each turn that ends by another one takes a slice.
    const EVENTS: usize = 5;
    const TURNS: u64 = 200;
    let areas: Vec<_> = (0..EVENTS).map(|_| memory()).collect();
    let event = |area| Event::new(area, EVENT, Waiters::One).expect("fits");
    let events: Vec<_> = areas.iter().map(event).collect();
    let counters: Vec<_> = areas
        .iter()
        .map(|area| area.word64(PUBLISHED).expect("fits"))
        .collect();
    let acknowledged = areas[0].word64(TAKEN).expect("fits");
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..TURNS {
                let index = turn as usize * 3 % EVENTS;
                std::thread::sleep(Duration::from_micros(300));
                counters[index].add(1, SeqCst);
                events[index].notify(1);
                while acknowledged.load(SeqCst) <= turn {
                    std::thread::yield_now();
                }
            }
        });
        let all: Vec<_> = events.iter().collect();
        let sum = || {
            counters
                .iter()
                .map(|counter| counter.load(SeqCst))
                .sum::<u64>()
        };
        for turn in 0..TURNS {
            let attempt = || Ok::<_, ()>((sum() > turn).then_some(()));
            let waited = wait_any(&all, Wait::Block, None, attempt, || Ok(())).expect("no error");
            assert!(waited.got.is_some());
            acknowledged.store(turn + 1, SeqCst);
        }
    });
    let each = start.elapsed() / TURNS as u32;
    println!("{each:?} a turn");
    assert!(each < SLICE / 4, "{each:?}");
}

#[test]
fn a_wait_on_several_events_ends_at_its_deadline() {
    // Would catch a relative time where the kernel wants an absolute one.
    let areas = [memory(), memory()];
    let events: Vec<_> = areas
        .iter()
        .map(|area| Event::new(area, EVENT, Waiters::Many).expect("fits"))
        .collect();
    let all: Vec<_> = events.iter().collect();
    let deadline = events[0].memory().now() + Duration::from_millis(90);
    let start = Instant::now();
    let waited = wait_any(
        &all,
        Wait::Adaptive,
        Some(deadline),
        || Ok::<Option<()>, ()>(None),
        || Ok(()),
    );
    let took = start.elapsed();
    assert!(waited.expect("no error").got.is_none());
    assert!(
        took >= Duration::from_millis(90) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[test]
fn an_idle_waiter_does_no_more_than_it_must() {
    // Would catch a wait that polls on after a sleep, sleeps too short, or looks around after each sleep and not after each
    // slice. Counted and not timed: what a sleep takes of a CPU is the machine's affair, and `sync_costs` measures it.
    const WINDOW: Duration = Duration::from_secs(2);
    let area = memory();
    let event = Event::new(&area, EVENT, Waiters::One).expect("fits");
    let (attempts, looks) = (Cell::new(0), Cell::new(0));
    // Those before the first look, which is after a slice, are the budget for spinning.
    let attempts_of_later = Cell::new(0);
    let nothing = || {
        attempts.set(attempts.get() + 1);
        if looks.get() > 0 {
            attempts_of_later.set(attempts_of_later.get() + 1);
        }
        Ok::<Option<()>, ()>(None)
    };
    let look_around = || {
        looks.set(looks.get() + 1);
        Ok(())
    };
    let asleep = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("of this thread");
        usage.voluntary_context_switches()
    };
    let before = asleep();
    let deadline = event.memory().now() + WINDOW;
    let waited = wait_until(&event, Wait::Adaptive, Some(deadline), nothing, look_around);
    assert!(waited.expect("no error").slept);
    let asleep = asleep() - before;
    let (attempts, later, looks) = (attempts.get(), attempts_of_later.get(), looks.get());
    println!(
        "{attempts} attempts, {later} of them after the first look, {looks} looks, asleep {asleep} times"
    );
    // A few short slices first.
    let slices = 5 + (WINDOW.as_millis() / LONGEST_SLICE.as_millis()) as i64;
    assert!(looks <= slices + 1, "it looked around {looks} times");
    assert!(asleep <= slices + 5, "it slept {asleep} times");
    // Before the sleep is announced, once it is, and after it.
    assert!(
        later <= 3 * (looks + 1),
        "it attempted {later} times in {looks} slices"
    );
}

#[test]
fn a_waker_may_do_anything() {
    // Would catch a waker that is dropped under the lock of the thread that turns wake-ups into calls: it may be the last
    // that holds a task, and with it a place with that thread. And one that panics, and takes the thread from all others.
    struct Task(#[expect(dead_code, reason = "it is dropped")] Slot);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    struct Bad(Arc<AtomicBool>);
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
            panic!("on purpose");
        }
    }
    let object = new_object();
    let event = Event::new(object.area(), EVENT, Waiters::Many).expect("there is room");
    let armed = event.clone();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let new = || Slot::new().expect("a thread");
        let slot = new();
        slot.arm_waker(&armed, Waker::from(Arc::new(Task(new()))));
        slot.arm_waker(&armed, Waker::from(Arc::new(Task(new()))));
        drop(slot);
        tell.send(())
    });
    let told = told.recv_timeout(Duration::from_secs(10));
    assert_eq!(told, Ok(()), "it waits for itself");

    let called = Arc::new(AtomicBool::new(false));
    let slot = Slot::new().expect("a thread");
    slot.arm_waker(&event, Waker::from(Arc::new(Bad(called.clone()))));
    event.notify(u32::MAX);
    eventually("the call", || called.load(SeqCst));
    assert!(becomes_readable(
        &event,
        &Readiness::new().expect("a descriptor")
    ));
}

/// Whether a descriptor that is armed becomes readable, if only for no cause.
fn becomes_readable(event: &Event<Mapped>, ready: &Readiness) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    ready.arm(event);
    let long = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&long)) == Ok(1)
}

#[test]
fn a_thread_that_could_not_be_had_is_asked_for_again() {
    // Would catch a descriptor that never tells anything, because there was no thread to be had for one made before it.
    let object = new_object();
    let event = Event::new(object.area(), EVENT, Waiters::Many).expect("there is room");
    Child::run(|| {
        // Root has as many as it likes.
        if rustix::process::getuid().is_root() {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).expect("root may");
        }
        let (_, most) = getrlimit(Resource::RLIMIT_NPROC).expect("a limit");
        setrlimit(Resource::RLIMIT_NPROC, 0, most).expect("lowering it is allowed");
        let refused = Readiness::new().is_err();
        setrlimit(Resource::RLIMIT_NPROC, most, most).expect("as it was");
        if refused {
            let ready = Readiness::new().expect("a thread");
            assert!(becomes_readable(&event, &ready), "it stays silent");
        } else {
            println!("skipped: this process has as many threads as it likes");
        }
    })
    .join();
}
