//! What newcomers read, and whether they can go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_ring::broadcast::Start;
use ipc_ring::{PopError, PushError};

use super::kinds::{Air, Reader};
use super::{CAPACITY, LAST, cases};
use crate::kill::adapter::Case;
use crate::kill::parcel::show;

/// How long a newcomer waits at most.
const SOON: Duration = Duration::from_secs(5);

/// What a reader comes to until it has to wait.
pub(super) struct Read {
    pub(super) numbers: Vec<u64>,
    pub(super) missed: u64,
    pub(super) closed: bool,
}

/// Reads all that is there.
pub(super) fn read(reader: &mut impl Reader) -> Result<Read> {
    let (mut numbers, mut missed) = (Vec::new(), 0);
    for _ in 0..=2 * CAPACITY {
        match reader.try_pop() {
            Ok(parcel) => numbers.push(parcel.open()?),
            Err(PopError::Lagged(more)) => missed += more,
            Err(end @ (PopError::Empty | PopError::Closed)) => {
                return Ok(Read {
                    numbers,
                    missed,
                    closed: end == PopError::Closed,
                });
            }
            Err(error) => return Err(error).context("a reader"),
        }
    }
    bail!("more messages than there is room for: {numbers:?}")
}

/// What there is to read, as the rows of the page have it; then newcomers push and read.
pub(super) fn inspect<A: Air>(case: &Case, ring: &A::Ring) -> Result<String> {
    let all = if cases::is_inherited(case.operation) {
        read(&mut A::lossless(ring, Start::Successor)?)?
    } else {
        let all = read(&mut A::lossy(ring, Start::Oldest)?)?;
        ensure!(all.missed == 0, "{} missed from the oldest on", all.missed);
        all
    };
    let mut found = show(&all.numbers);
    if all.missed > 0 {
        found += &format!(" after {} missed", all.missed);
    }
    if all.closed {
        found = if all.numbers.is_empty() {
            "closed".into()
        } else {
            found + " closed"
        };
    }
    go_on::<A>(ring, all.closed, cases::is_patient(case))?;
    Ok(found)
}

/// Newcomers of every policy see what a new producer pushes.
fn go_on<A: Air>(ring: &A::Ring, closed: bool, patient: bool) -> Result<()> {
    let mut producer = A::producer(ring).context("a new producer")?;
    let until = Instant::now() + SOON;
    if closed {
        let refused = A::try_push(&mut producer, LAST);
        ensure!(
            matches!(refused, Err(PushError::Closed(_))),
            "a closed ring says {refused:?}"
        );
        return Ok(());
    }
    let mut every = A::lossless(ring, Start::Newest).context("a new lossless reader")?;
    let mut latest = A::latest(ring)?;
    for round in 0..3 {
        let numbers: Vec<u64> = (0..CAPACITY as u64)
            .map(|at| LAST + 10 * round + at)
            .collect();
        for number in &numbers {
            A::push(&mut producer, *number, until).context("the next push")?;
        }
        if patient {
            let refused = A::try_push(&mut producer, 0);
            ensure!(
                matches!(refused, Err(PushError::Full(_))),
                "a lossless reader is written over: {refused:?}"
            );
        }
        let got = read(&mut every)?;
        ensure!(
            got.numbers == numbers && got.missed == 0,
            "newcomers push {numbers:?}, and a lossless one reads {:?}",
            got.numbers
        );
        let newest = latest.try_pop()?.open()?;
        ensure!(
            Some(&newest) == numbers.last(),
            "the latest of {numbers:?} is {newest}"
        );
    }
    let got = read(&mut A::lossy(ring, Start::Oldest)?)?;
    ensure!(
        got.numbers.len() == CAPACITY,
        "a lossy newcomer reads {:?}",
        got.numbers
    );
    Ok(())
}
