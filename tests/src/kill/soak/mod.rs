//! Workers and a killer with random delays, and ledgers of what everybody says to have done.
//!
//! What single steps cannot show, since they take one path at a time: real concurrency on real processors. Each worker is
//! a process that writes into a ledger outside the region what it has done. In turn, every kind gets its share of the time.
//! Verified at the end of each share:
//!
//! * rings: nothing is delivered twice, nothing that nobody pushed, each producer's messages in their order, and what is
//!   missing are at most those messages that a killed consumer had committed and not yet written down;
//! * broadcast: a lossless reader misses nothing from its first message on;
//! * locks: nobody is in while another one is, and whoever comes after one that died in it is told;
//! * ids: none is given twice.

mod verify;
mod worker;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_core::ids::{self, Ids};
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_core::sync::{self, Attach, Mutex, RwLock};
use ipc_ring::{Ring as _, broadcast};

use crate::kill::adapters::queue::{Bytes, Channel, Lanes, Mpmc, Queue, Spsc};
use crate::kill::ground::scratch_directory;
use crate::kill::modes::Random;
use crate::kill::parcel::Parcel;
use crate::kill::tracer::Program;
pub use worker::worker;

/// Messages of one worker's life begin at a multiple of this.
const LIFE: u64 = 1 << 32;

/// Rows of the table: for all workers that live, and the dead that nobody has cleared up after.
const ROWS: u16 = 16;

/// How many messages fit into a ring; of those of bytes, in the smallest case.
const CAPACITY: usize = 64;

/// A kind, and who works on it.
struct Kind {
    name: &'static str,
    workers: &'static [&'static str],
    create: fn() -> Result<Segment>,
    /// Clears up, takes what is left in a ring, and writes it into a ledger.
    drain: Option<fn(&Segment, &Path) -> Result<()>>,
    /// Is told what each worker did that was started.
    verify: fn(&Path, &[&str]) -> Result<verify::Verified>,
}

const KINDS: &[Kind] = &[
    ring::<Spsc>(&["push", "pop"]),
    ring::<Mpmc>(&["push", "push", "pop", "pop"]),
    ring::<Bytes>(&["push", "pop"]),
    ring::<Lanes>(&["push", "push", "pop"]),
    ring::<Channel>(&["push", "pop"]),
    Kind {
        name: "broadcast",
        workers: &["push", "follow", "follow"],
        create: || {
            let options = broadcast::Ring::<Parcel>::options();
            let options = options.capacity(CAPACITY).participants(ROWS);
            Ok(options.create(place())?.segment().clone())
        },
        drain: None,
        verify: verify::followed,
    },
    Kind {
        name: "mutex",
        workers: &["lock", "lock", "lock"],
        create: || lone(Mutex::<Parcel>::spec(())?),
        drain: None,
        verify: verify::excluded,
    },
    Kind {
        name: "rwlock",
        workers: &["lock", "lock", "look", "look"],
        create: || lone(RwLock::<Parcel>::spec(ROWS)?),
        drain: None,
        verify: verify::excluded,
    },
    Kind {
        name: "ids",
        workers: &["draw", "draw", "lease", "lease"],
        create: || {
            let options = SegmentOptions::new()
                .participants(ROWS)
                .object(ids::ONLY, Ids::spec(true, ROWS));
            Ok(options.create(place())?)
        },
        drain: None,
        verify: verify::unique,
    },
];

const fn ring<Q: Queue>(workers: &'static [&'static str]) -> Kind {
    Kind {
        name: Q::KIND,
        workers,
        create: || {
            let capacity = CAPACITY / 4 * Q::CAPACITY;
            let options = Q::options().capacity(capacity).participants(ROWS);
            Ok(Q::segment(&options.create(place())?).clone())
        },
        drain: Some(worker::drain::<Q>),
        verify: if Q::EXCLUSIVE {
            |directory, lives| verify::delivered(directory, lives, false)
        } else {
            |directory, lives| verify::delivered(directory, lives, true)
        },
    }
}

fn place() -> Place {
    Place::Memfd("soak".into())
}

fn lone(spec: ipc_core::segment::ObjectSpec) -> Result<Segment> {
    let options = SegmentOptions::new().participants(ROWS);
    Ok(options.object(sync::ONLY, spec).create(place())?)
}

/// What a soak of one kind came to.
#[derive(Clone, Debug)]
pub struct Soaked {
    /// The kind.
    pub kind: &'static str,
    /// Messages delivered, turns taken, ids drawn.
    pub done: usize,
    /// Workers killed.
    pub kills: usize,
    /// Messages that a killed consumer took with it.
    pub taken_along: usize,
}

/// Lets workers of every kind whose name begins with `only` run for their share of `length` while they are killed at
/// random, and tells what each came to.
pub fn soak(
    program: &Program,
    seed: u64,
    length: Duration,
    only: &str,
    mut tell: impl FnMut(&Soaked),
) -> Result<()> {
    let kinds: Vec<_> = KINDS
        .iter()
        .filter(|kind| kind.name.starts_with(only))
        .collect();
    ensure!(!kinds.is_empty(), "no kind whose name begins with {only}");
    for (index, kind) in kinds.iter().enumerate() {
        let share = length / kinds.len() as u32;
        let soaked = one(program, seed + index as u64, share, kind).context(kind.name)?;
        tell(&soaked);
    }
    Ok(())
}

/// Kills workers that are still there, whatever happens.
struct Workers(Vec<(&'static str, Child)>);

impl Drop for Workers {
    fn drop(&mut self) {
        for (_, worker) in &mut self.0 {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

fn one(program: &Program, seed: u64, length: Duration, kind: &Kind) -> Result<Soaked> {
    let directory = scratch_directory()?;
    let segment = (kind.create)()?;
    let mut random = Random(seed);
    let mut lives = Vec::new();
    let mut start = |what: &'static str| -> Result<Child> {
        lives.push(what);
        let number = lives.len();
        let mut command = Command::new(&program.0);
        command.args(["soaker", kind.name, what, &number.to_string()]);
        command.arg(directory.path());
        command
            .stdin(segment.as_fd().try_clone_to_owned()?)
            .stdout(Stdio::null());
        command.spawn().context("start a worker")
    };
    let mut workers = Workers(Vec::new());
    for what in kind.workers {
        workers.0.push((what, start(what)?));
    }
    let end = Instant::now() + length;
    while Instant::now() < end {
        // From a microsecond to some 16 ms, short ones as often as long ones.
        let most = 1 << random.below(15);
        std::thread::sleep(Duration::from_micros(1 + random.below(most) as u64));
        let at = random.below(workers.0.len());
        let (what, worker) = &mut workers.0[at];
        ensure!(
            worker.try_wait()?.is_none(),
            "a worker that should {what} has ended by itself"
        );
        worker.kill()?;
        worker.wait()?;
        *worker = start(what)?;
    }
    drop(workers);
    for id in segment.participants() {
        segment.recover(id);
    }
    if let Some(drain) = kind.drain {
        drain(&segment, directory.path())?;
    }
    let verified = (kind.verify)(directory.path(), &lives)?;
    Ok(Soaked {
        kind: kind.name,
        done: verified.done,
        kills: lives.len(),
        taken_along: verified.taken_along,
    })
}
