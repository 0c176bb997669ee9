//! Events: nobody sleeps beside what has been published.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::memory::Word64;
use ipc_tests::loom_memory::orderings::Weakening;
use ipc_tests::loom_memory::{LoomMemory, Places};
use loom::thread;

use super::claims::{Claim, cover};

pub(crate) const CLAIMS: &[Claim] = &[
    ONE_WAITER,
    TWO_WAITERS,
    WOKEN_BY_WAIT,
    STREAMING,
    UNREGISTERED,
    STREAMING_AGAIN,
    TWO_THAT_STREAM,
    STREAMING_BY_WHO_DIES,
];

fn memory(weakening: Option<Weakening>) -> LoomMemory {
    let places = Places {
        words64: vec![8],
        words32: vec![0],
        len: 16,
        ..Places::default()
    };
    LoomMemory::new(places, weakening)
}

/// The event, and a count of items.
fn parts(memory: &LoomMemory, waiters: Waiters) -> (Event<LoomMemory>, Word64<LoomMemory>) {
    let area = memory.area();
    let event = Event::new(&area, 0, waiters).unwrap();
    (event, area.word64(8).unwrap())
}

/// Puts so many items there, and tells of each.
fn publish(memory: &LoomMemory, waiters: Waiters, count: u64) {
    let (event, items) = parts(memory, waiters);
    for _ in 0..count {
        items.add(1, Release);
        event.notify(1);
    }
}

/// Takes an item; the steps of a wait as the head of `event.rs` has them.
fn take(event: &Event<LoomMemory>, items: &Word64<LoomMemory>) {
    let try_take = || {
        let mut found = items.load(Relaxed);
        while found != 0 {
            match items.exchange(found, found - 1, Acquire) {
                Ok(_) => return true,
                Err(other) => found = other,
            }
        }
        false
    };
    loop {
        let prepared = event.prepare();
        if try_take() {
            return;
        }
        event.sleep(prepared, Duration::MAX);
    }
}

/// One waiter, and a publisher of one item.
fn one_waiter(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let publisher = thread::spawn(move || publish(&other, Waiters::One, 1));
    let (event, items) = parts(&memory, Waiters::One);
    take(&event, &items);
    publisher.join().unwrap();
}

const ONE_WAITER: Claim = Claim {
    model: one_waiter,
    needs: &["event::notify_by 2: fence", "event::prepare 3: fence"],
};

/// Catches a store of the publisher that passes its look for sleepers: the waiter then sleeps for ever, and loom says so.
#[test]
fn a_wake_is_never_lost() {
    ONE_WAITER.prove();
}

/// Two waiters that take an item each, and a publisher of both.
fn two_waiters(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let waiter = |process| {
        let memory = memory.of(process);
        thread::spawn(move || {
            let (event, items) = parts(&memory, Waiters::Many);
            take(&event, &items);
        })
    };
    let waiters = [waiter(2), waiter(3)];
    publish(&memory, Waiters::Many, 2);
    let _ = waiters.map(|waiter| waiter.join().unwrap());
}

const TWO_WAITERS: Claim = Claim {
    model: two_waiters,
    needs: &["event::notify_by 2: fence", "event::prepare 3: fence"],
};

/// Catches a wake-up for one of several that another one swallows, or that clears the bit of who announces himself then.
#[test]
fn a_wake_of_many_is_never_lost() {
    TWO_WAITERS.prove();
}

/// The same as `one_waiter`, by the function that all objects wait with.
fn woken_by_wait(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let publisher = thread::spawn(move || publish(&other, Waiters::Many, 1));
    let (event, items) = parts(&memory, Waiters::Many);
    let attempt = || Ok::<_, ()>((items.load(Relaxed) != 0).then_some(()));
    wait_until(&event, Wait::Block, None, attempt, || Ok(())).unwrap();
    publisher.join().unwrap();
}

const WOKEN_BY_WAIT: Claim = Claim {
    model: woken_by_wait,
    needs: &["event::notify_by 2: fence", "event::prepare 3: fence"],
};

/// Catches a wait that sleeps without having looked again.
#[test]
fn a_wait_is_never_left_asleep() {
    WOKEN_BY_WAIT.prove();
}

/// A waiter that has promised not to sleep, and then has to.
fn streaming(weakening: Option<Weakening>) {
    let memory = memory(weakening).registered();
    let (event, items) = parts(&memory, Waiters::One);
    event.start_streaming();
    let other = memory.of(2);
    let publisher = thread::spawn(move || publish(&other, Waiters::One, 1));
    take(&event, &items);
    publisher.join().unwrap();
}

const STREAMING: Claim = Claim {
    model: streaming,
    needs: &[
        "event::notify_by: fence",
        "event::withdraw: fence",
        "event::notify_by 2: fence",
        "event::prepare 3: fence",
    ],
};

/// Catches a publisher that goes by a promise which is being withdrawn, and is not seen by whoever withdraws it.
#[test]
fn a_wake_is_never_lost_where_streaming_ends() {
    STREAMING.prove();
}

/// As above, where the publisher's process does not take part in `membarrier`.
fn unregistered(weakening: Option<Weakening>) {
    let memory = memory(weakening);
    let other = memory.of(2);
    let memory = memory.registered();
    let (event, items) = parts(&memory, Waiters::One);
    event.start_streaming();
    let publisher = thread::spawn(move || publish(&other, Waiters::One, 1));
    take(&event, &items);
    publisher.join().unwrap();
}

const UNREGISTERED: Claim = Claim {
    model: unregistered,
    needs: &["event::notify_by 2: fence", "event::prepare 3: fence"],
};

/// Catches a publisher that counts on a fence which its process does not take part in.
#[test]
fn who_takes_no_part_in_fences_makes_his_own() {
    UNREGISTERED.prove();
}

/// A waiter that promises not to sleep once it has taken something, beside a publisher of two.
fn streaming_again(weakening: Option<Weakening>) {
    let memory = memory(weakening).registered();
    let other = memory.of(2);
    let publisher = thread::spawn(move || publish(&other, Waiters::One, 2));
    let (event, items) = parts(&memory, Waiters::One);
    take(&event, &items);
    event.start_streaming();
    take(&event, &items);
    publisher.join().unwrap();
}

const STREAMING_AGAIN: Claim = Claim {
    model: streaming_again,
    needs: &[
        "event::notify_by: fence",
        "event::withdraw: fence",
        "event::notify_by 2: fence",
        "event::prepare 3: fence",
    ],
};

/// Catches a promise that is made while the publisher still deals with the last sleep.
#[test]
fn a_wake_is_never_lost_where_streaming_begins() {
    STREAMING_AGAIN.prove();
}

/// Two waiters that have promised not to sleep, and then have to; a publisher of an item for each.
fn two_that_stream(weakening: Option<Weakening>) {
    let memory = memory(weakening).registered();
    let (event, _) = parts(&memory, Waiters::Many);
    event.start_streaming();
    let waiter = |process| {
        let memory = memory.of(process);
        thread::spawn(move || {
            let (event, items) = parts(&memory, Waiters::Many);
            take(&event, &items);
        })
    };
    let waiters = [waiter(2), waiter(3)];
    publish(&memory, Waiters::Many, 2);
    let _ = waiters.map(|waiter| waiter.join().unwrap());
}

const TWO_THAT_STREAM: Claim = Claim {
    model: two_that_stream,
    needs: &[
        "event::notify_by: fence",
        "event::withdraw: fence",
        "event::notify_by 2: fence",
        "event::prepare 3: fence",
        "event::prepare 2: Release",
    ],
};

/// Catches one who sleeps because another has withdrawn the promise, whose fence is still to come.
#[test]
fn a_wake_is_never_lost_where_two_stream() {
    TWO_THAT_STREAM.prove();
}

/// A waiter that finds a promise half withdrawn, by one who was killed before his fence.
fn streaming_by_who_dies(weakening: Option<Weakening>) {
    const FRESH: u32 = 2;
    let memory = memory(weakening).registered();
    let (event, items) = parts(&memory, Waiters::One);
    event.start_streaming();
    let other = memory.of(2);
    let publisher = thread::spawn(move || publish(&other, Waiters::One, 1));
    memory.area().word32(0).unwrap().store(FRESH, Relaxed);
    take(&event, &items);
    publisher.join().unwrap();
}

const STREAMING_BY_WHO_DIES: Claim = Claim {
    model: streaming_by_who_dies,
    needs: &[
        "event::notify_by: fence",
        "event::withdraw: fence",
        "event::notify_by 2: fence",
        "event::prepare 3: fence",
    ],
};

/// Catches a successor who takes a promise that was being withdrawn for none.
#[test]
fn a_wake_is_never_lost_behind_one_killed_while_he_withdraws() {
    STREAMING_BY_WHO_DIES.prove();
}

/// Catches an ordering that nothing shows to be needed.
#[test]
fn every_ordering_of_events_is_needed() {
    let redundant = "the full fences before the stamp and behind the announcement carry it";
    cover(
        "event",
        &[CLAIMS],
        &[
            ("wake: Release", redundant),
            ("prepare: Acquire", redundant),
            ("prepare 2: Acquire", redundant),
            (
                "has_changed: Acquire",
                "only the thread behind a descriptor asks, which is made for mappings alone",
            ),
        ],
    );
}
