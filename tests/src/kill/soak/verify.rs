//! Holds ledgers against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::LIFE;
use super::worker::TURNS;

/// What a ledger comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verified {
    pub(super) done: usize,
    pub(super) taken_along: usize,
}

/// The numbers in each ledger whose name begins so. A line without its end was cut by a kill, and says nothing.
fn numbers(directory: &Path, what: &str) -> Result<Vec<Vec<u64>>> {
    let mut all = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().starts_with(what.as_bytes()) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        all.push(
            lines
                .map(|line| Ok(line.trim().parse()?))
                .collect::<Result<_>>()?,
        );
    }
    Ok(all)
}

/// Of each producer's life, the last number that it says to have pushed.
fn last_pushed(directory: &Path) -> Result<BTreeMap<u64, u64>> {
    let last = numbers(directory, "push")?;
    let last = last.iter().filter_map(|numbers| numbers.last());
    Ok(last.map(|number| (number / LIFE, number % LIFE)).collect())
}

/// Nothing was delivered that nobody pushed. The one after the last was published by a producer that had no time to say
/// so.
fn was_pushed(number: u64, pushed: &BTreeMap<u64, u64>) -> Result<()> {
    let most = pushed.get(&(number / LIFE)).map_or(0, |last| last + 1);
    ensure!(
        number % LIFE <= most,
        "message {number} was delivered and never pushed"
    );
    Ok(())
}

/// Rings: what was popped against what was pushed.
pub(super) fn delivered(directory: &Path, lives: &[&str], redelivers: bool) -> Result<Verified> {
    let pushed = last_pushed(directory)?;
    let mut popped = BTreeSet::new();
    let consumers = lives.iter().filter(|what| **what == "pop").count();
    for ledger in numbers(directory, "pop")? {
        let mut last = BTreeMap::new();
        for number in ledger {
            ensure!(
                popped.insert(number),
                "message {number} was delivered twice"
            );
            was_pushed(number, &pushed)?;
            // A message that a dead consumer had taken comes back before all others, to somebody who may be further on.
            let before = last.insert(number / LIFE, number);
            let steps_back = before.is_some_and(|before| before > number);
            ensure!(
                !steps_back || redelivers,
                "message {number} came after a later one"
            );
        }
    }
    let mut missing = 0;
    for (life, last) in &pushed {
        let all = (0..=*last).map(|number| life * LIFE + number);
        missing += all.filter(|number| !popped.contains(number)).count();
    }
    ensure!(
        missing <= consumers,
        "{missing} messages are lost, and only {consumers} consumers were killed"
    );
    Ok(Verified {
        done: popped.len(),
        taken_along: missing,
    })
}

/// Broadcast: from its first message on, a lossless reader gets every one that its producer pushed, in order.
pub(super) fn followed(directory: &Path, _: &[&str]) -> Result<Verified> {
    let pushed = last_pushed(directory)?;
    let mut done = 0;
    for ledger in numbers(directory, "follow")? {
        done += ledger.len();
        for two in ledger.windows(2) {
            was_pushed(two[1], &pushed)?;
            let (life, next) = (two[0] / LIFE, two[1] / LIFE);
            if life == next {
                ensure!(
                    two[1] == two[0] + 1,
                    "a lossless reader got {} after {}",
                    two[1],
                    two[0]
                );
                continue;
            }
            ensure!(next > life, "a producer came back from the dead: {two:?}");
            let last = pushed.get(&life).copied().unwrap_or(0);
            ensure!(
                two[0] % LIFE >= last && two[1] % LIFE == 0,
                "a lossless reader went from {} to {}, and {last} was the last of that producer",
                two[0],
                two[1]
            );
        }
    }
    Ok(Verified {
        done,
        taken_along: 0,
    })
}

/// Locks: nobody is in while another one is. All workers were killed, so any of them may have died in it; whoever comes next
/// is told.
pub(super) fn excluded(directory: &Path, _: &[&str]) -> Result<Verified> {
    let text = std::fs::read_to_string(directory.join(TURNS)).context("turns")?;
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let (mut inside, mut done) = (None::<&str>, 0);
    for line in lines {
        let mut words = line.split_whitespace();
        let (life, what) = (words.next().context("a life")?, words.next());
        let died = words.next() == Some("died");
        if what == Some("out") {
            ensure!(
                inside == Some(life),
                "{life} left, and {inside:?} was inside"
            );
            inside = None;
            continue;
        }
        ensure!(
            inside.is_none() || died,
            "{life} came in while {inside:?} was inside, and was not told of a death"
        );
        inside = Some(life);
        done += 1;
    }
    Ok(Verified {
        done,
        taken_along: 0,
    })
}

/// Ids: none was given twice.
pub(super) fn unique(directory: &Path, _: &[&str]) -> Result<Verified> {
    let mut given = BTreeSet::new();
    for what in ["draw", "lease"] {
        for id in numbers(directory, what)?.into_iter().flatten() {
            ensure!(given.insert(id), "{id} was given twice");
        }
    }
    Ok(Verified {
        done: given.len(),
        taken_along: 0,
    })
}
