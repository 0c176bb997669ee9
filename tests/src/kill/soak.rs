//! Producers, consumers and a killer with random delays, and a ledger of what everybody says to have done.
//!
//! What single steps cannot show, since they take one path at a time: real concurrency on real processors. Each worker is
//! a process that writes into a file of its own what it has pushed or popped. Verified at the end: nothing is delivered
//! twice, nothing is delivered that nobody pushed, and what is missing are at most those messages that a killed consumer
//! had committed and not yet written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{Place, Segment};
use ipc_ring::{ONLY, PopError, Ring as _, mpmc};

use crate::kill::ground::scratch_directory;
use crate::kill::modes::Random;
use crate::kill::parcel::Parcel;
use crate::kill::tracer::Program;

type Ring = mpmc::Ring<Parcel>;

/// Two of each.
const WORKERS: [&str; 4] = ["push", "push", "pop", "pop"];
/// Messages of one worker's life begin at a multiple of this.
const LIFE: u64 = 1 << 32;

/// What a soak came to.
#[derive(Clone, Copy, Debug)]
pub struct Soaked {
    /// Messages delivered.
    pub delivered: usize,
    /// Workers killed.
    pub kills: u64,
    /// Messages that a killed consumer took with it.
    pub taken_along: usize,
}

/// Lets workers run for `length` while they are killed at random.
pub fn soak(program: &Program, seed: u64, length: Duration) -> Result<Soaked> {
    let directory = scratch_directory()?;
    let ring = Ring::options()
        .capacity(64)
        .participants(16)
        .create(Place::Memfd("soak".into()))?;
    let mut random = Random(seed);
    let (mut lives, mut kills, mut consumers_killed) = (0, 0, 0);
    let mut start = |what: &str| {
        lives += 1;
        let mut command = Command::new(&program.0);
        command.args(["soaker", what, &(lives * LIFE).to_string()]);
        command.arg(directory.path().join(format!("{what}-{lives}")));
        command
            .stdin(ring.segment().as_fd().try_clone_to_owned()?)
            .stdout(Stdio::null());
        command.spawn().context("start a worker")
    };
    let mut workers: Vec<(&str, Child)> = Vec::new();
    for what in WORKERS {
        workers.push((what, start(what)?));
    }
    let end = Instant::now() + length;
    while Instant::now() < end {
        // From a microsecond to some 16 ms, short ones as often as long ones.
        let most = 1 << random.below(15);
        std::thread::sleep(Duration::from_micros(1 + random.below(most) as u64));
        let at = random.below(WORKERS.len());
        let (what, worker) = &mut workers[at];
        ensure!(
            worker.try_wait()?.is_none(),
            "a worker that should {what} has ended by itself"
        );
        worker.kill()?;
        worker.wait()?;
        kills += 1;
        consumers_killed += usize::from(*what == "pop");
        *worker = start(what)?;
    }
    for (what, mut worker) in workers {
        worker.kill()?;
        worker.wait()?;
        kills += 1;
        consumers_killed += usize::from(what == "pop");
    }
    // What is left in the ring, with all claims of the dead resolved.
    let segment = ring.segment();
    for id in segment.participants() {
        segment.recover(id);
    }
    let mut consumer = ring.consumer()?;
    let mut rest = File::create(directory.path().join("pop-rest"))?;
    loop {
        match consumer.try_pop() {
            Ok(parcel) => writeln!(rest, "{}", parcel.open()?)?,
            Err(PopError::Empty) => break,
            Err(error) => bail!("what is left cannot be taken: {error}"),
        }
    }
    let (delivered, taken_along) = verify(directory.path(), consumers_killed)?;
    Ok(Soaked {
        delivered,
        kills,
        taken_along,
    })
}

/// Holds what was popped against what was pushed.
fn verify(directory: &Path, consumers_killed: usize) -> Result<(usize, usize)> {
    let mut popped = BTreeSet::new();
    // Of each producer's life, the last number that it says to have pushed.
    let mut pushed: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let is_pop = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"pop"));
        // A line without its end was cut by a kill, and says nothing.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let number: u64 = line.trim().parse()?;
            if is_pop {
                ensure!(
                    popped.insert(number),
                    "message {number} was delivered twice"
                );
            } else {
                pushed.insert(number / LIFE, number % LIFE);
            }
        }
    }
    let mut missing = 0;
    for (life, last) in &pushed {
        missing += (0..=*last)
            .filter(|number| !popped.contains(&(life * LIFE + number)))
            .count();
    }
    for number in &popped {
        // The one after the last was published by a producer that had no time to say so.
        let most = pushed.get(&(number / LIFE)).map_or(0, |last| last + 1);
        ensure!(
            number % LIFE <= most,
            "message {number} was delivered and never pushed"
        );
    }
    ensure!(
        missing <= consumers_killed,
        "{missing} messages are lost, and only {consumers_killed} consumers were killed"
    );
    Ok((popped.len(), missing))
}

/// A worker's life: it ends when it is killed.
pub fn worker(arguments: &[String]) -> Result<()> {
    let [what, first, ledger] = arguments else {
        bail!("a worker is told what to do, its first number and its ledger")
    };
    let first: u64 = first.parse()?;
    let mut ledger = OpenOptions::new().create(true).append(true).open(ledger)?;
    let fd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let ring = Ring::in_segment(&Segment::open(Place::Fd(fd))?, ONLY)?;
    if what == "push" {
        let mut producer = ring.producer()?;
        for number in first.. {
            producer.push(Parcel::new(number))?;
            ledger.write_all(format!("{number}\n").as_bytes())?;
        }
    } else {
        let mut consumer = ring.consumer()?;
        loop {
            let number = consumer.pop()?.open()?;
            ledger.write_all(format!("{number}\n").as_bytes())?;
        }
    }
    Ok(())
}
