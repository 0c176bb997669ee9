//! What waiting, locks and registers cost, each beside its limit in the same run.
//!
//! `cargo run --release -p ipc-benches --bin sync_costs`. Rounds of ours and of the limit take turns, and what is
//! printed is the median of their ratios: absolute times say little on a machine that others use too. The two threads of
//! the first line want a CPU each.

use std::convert::Infallible;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::{ObjectSpec, Place, Segment, SegmentOptions};
use ipc_core::sync::{Attach, Latest, Mutex};
use rustix::thread::{CpuSet, futex, sched_setaffinity};

/// Many and short, so that what else the machine does hits few of them.
const ROUNDS: usize = 401;

/// What makes this program one of the others that wait for nothing.
const PEER: &str = "wait-for-nothing";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => {}
        [what, name] if what == PEER => return wait_for_nothing(name),
        _ => bail!("there is nothing to choose: it takes no arguments"),
    }
    println!(
        "{:44} {:>7} {:>22} {:>7}",
        "", "median", "of ratios, 10 to 90 %", "limit"
    );
    wake_up()?;
    lock()?;
    register()?;
    idle()
}

/// Rounds of both, in turn.
fn compare(
    what: &str,
    limit: f64,
    mut ours: impl FnMut() -> Duration,
    mut theirs: impl FnMut() -> Duration,
) {
    // The first round of each warms up.
    ours();
    theirs();
    let mut rounds: Vec<(Duration, Duration)> = (0..ROUNDS).map(|_| (ours(), theirs())).collect();
    let ratio = |round: &(Duration, Duration)| round.0.as_secs_f64() / round.1.as_secs_f64();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let at = |percent: usize| ratio(&rounds[(ROUNDS - 1) * percent / 100]);
    let verdict = if at(50) <= limit { "kept" } else { "EXCEEDED" };
    let (low, high) = (at(10), at(90));
    println!(
        "{what:44} {:7.2} {low:>13.2} {high:>8.2} {limit:7.2} {verdict}",
        at(50)
    );
}

/// Moves this thread to a CPU of its own, if there is one.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Without it the figures are worse, and no less true.
    let _ = sched_setaffinity(None, &set);
}

/// Pings and pongs between two threads that sleep after each.
fn wake_up() -> Result<()> {
    const TURNS: u32 = 20;
    let spec = ObjectSpec {
        kind: *b"bench\0\0\0",
        version: 1,
        len: 1024,
        schema: String::new(),
        parameters: [0; 2],
    };
    let segment = SegmentOptions::new()
        .object("events", spec)
        .create(Place::Memfd("bench".into()))?;
    let object = segment.object("events")?;
    let area = object.area();
    let events = [
        Event::new(area, 0, Waiters::One)?,
        Event::new(area, 128, Waiters::One)?,
    ];
    let counts = [area.word64(256)?, area.word64(384)?];
    let ours = || {
        let wait = |side: usize, turn: u64| {
            let attempt =
                || Ok::<_, Infallible>((counts[side].load(Acquire) >= turn).then_some(()));
            let Ok(_) = wait_until(&events[side], Wait::Block, None, attempt, || Ok(()));
        };
        counts.iter().for_each(|count| count.store(0, SeqCst));
        let tell = |side: usize, turn: u64| {
            counts[side].store(turn, Release);
            events[side].notify(1);
        };
        ping_pong(TURNS, &wait, &tell)
    };
    let words = [AtomicU32::new(0), AtomicU32::new(0)];
    let theirs = || {
        words.iter().for_each(|word| word.store(0, SeqCst));
        let wait = |side: usize, turn: u64| {
            loop {
                let found = words[side].load(Acquire);
                if u64::from(found) >= turn {
                    return;
                }
                let _ = futex::wait(&words[side], futex::Flags::empty(), found, None);
            }
        };
        let tell = |side: usize, turn: u64| {
            words[side].store(turn as u32, Release);
            let _ = futex::wake(&words[side], futex::Flags::empty(), 1);
        };
        ping_pong(TURNS, &wait, &tell)
    };
    compare("blocked wake-up / raw futex wake", 1.2, ours, theirs);
    Ok(())
}

fn ping_pong(
    turns: u32,
    wait: &(dyn Fn(usize, u64) + Sync),
    tell: &(dyn Fn(usize, u64) + Sync),
) -> Duration {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for turn in 1..=u64::from(turns) {
                wait(1, turn);
                tell(0, turn);
            }
        });
        let pinger = scope.spawn(|| {
            pin(0);
            let start = Instant::now();
            for turn in 1..=u64::from(turns) {
                tell(1, turn);
                wait(0, turn);
            }
            start.elapsed()
        });
        pinger.join().expect("no panic")
    })
}

/// A lock that nobody else wants.
fn lock() -> Result<()> {
    const TIMES: u32 = 5_000;
    let mutex = Mutex::<u64>::create(Place::Anonymous, ())?;
    let word = AtomicU32::new(0);
    let ours = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            drop(black_box(mutex.lock()));
        }
        start.elapsed()
    };
    let theirs = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            let _ = black_box(&word).compare_exchange(0, 1, Acquire, Relaxed);
            black_box(&word).swap(0, Release);
        }
        start.elapsed()
    };
    compare("lock and unlock / exchange and swap", 1.5, ours, theirs);
    Ok(())
}

/// A value that does not change.
fn register() -> Result<()> {
    const TIMES: u32 = 5_000;
    let latest = Latest::<[u64; 7]>::create(Place::Anonymous, ())?;
    latest.set(&[7; 7])?;
    let source: [AtomicU64; 7] = [const { AtomicU64::new(7) }; 7];
    let mut value = [0; 7];
    let mut copy = [0; 7];
    let ours = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            let _ = black_box(latest.get_into(black_box(&mut value)));
        }
        start.elapsed()
    };
    let theirs = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            let from = black_box(&source);
            let into: &mut [u64; 7] = black_box(&mut copy);
            for (into, from) in into.iter_mut().zip(from) {
                *into = from.load(Relaxed);
            }
        }
        start.elapsed()
    };
    compare(
        "read an unchanged Latest of 56 bytes / copy",
        2.0,
        ours,
        theirs,
    );
    Ok(())
}

/// The share of a CPU that this process takes, with all its threads, while it waits for nothing among others who do the same.
fn idle() -> Result<()> {
    const PEERS: usize = 3;
    const LASTS: Duration = Duration::from_secs(10);
    let name = format!("sync-costs-{}", std::process::id());
    let latest = Latest::<u64>::create(&name, ())?;
    let program = std::env::current_exe()?;
    let peer = || Command::new(&program).args([PEER, &name]).spawn();
    let peers = (0..PEERS).map(|_| peer()).collect::<Result<Vec<_>, _>>();
    let segment = latest.segment();
    let attached = || {
        let alive = |id: &ParticipantId| matches!(segment.life(*id), Life::Alive(_));
        segment.participants().filter(alive).count()
    };
    let patience = Instant::now() + Duration::from_secs(10);
    while attached() <= PEERS && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    Segment::unlink(&name)?;
    ensure!(attached() > PEERS, "the other processes did not come");
    let peers = peers?;
    let time = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (before, start) = (time(), Instant::now());
    let _ = latest.wait_until(0, start + LASTS);
    let share = (time() - before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let verdict = if share < 0.1 { "kept" } else { "EXCEEDED" };
    println!(
        "{:44} {share:6.3}% {:>22} {:6.2}% {verdict}",
        "CPU of an idle waiter beside three others", "", 0.1
    );
    for mut peer in peers {
        peer.kill()?;
        peer.wait()?;
    }
    Ok(())
}

/// One of the others: waits for nothing, until it is killed or alone.
fn wait_for_nothing(name: &str) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let latest = Latest::<u64>::open(name)?;
    loop {
        let _ = latest.wait_until(0, Instant::now() + Duration::from_secs(60));
    }
}
