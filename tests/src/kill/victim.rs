//! What a victim does: take up its part, one operation between two markers, leave.
//!
//! # Safety
//!
//! A marker traps into the tracer and changes nothing. A victim is only ever started under one.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ipc_core::segment::{Place, Segment};

use crate::kill::adapter::{self, Adapter, Case, Cast, Operation};
use crate::kill::ground::Ground;

/// The operation that every kind has: clear up after whoever is dead.
pub const RECOVER: &str = "recover";

/// The victim's life. The arguments are those that [`Program::start`](crate::kill::tracer::Program::start) gives.
pub fn main(arguments: &[String]) -> Result<()> {
    let [kind, operation, state, rest @ ..] = arguments else {
        anyhow::bail!("a victim is told its kind, its operation and its state")
    };
    let adapter = adapter::find(kind).context("no such kind")?;
    let mut cases = adapter.cases();
    for pair in adapter.pairs() {
        cases.extend([pair.first, pair.second]);
    }
    let ground = match rest {
        [] => {
            let fd = std::io::stdin().as_fd().try_clone_to_owned()?;
            Ground::Region(Segment::open(Place::Fd(fd))?)
        }
        [path, ..] => Ground::Directory(path.into(), None),
    };
    if operation == RECOVER {
        let mut act = recovery(adapter, &ground)?;
        marker();
        let done = act();
        marker();
        return done.context("the recovery");
    }
    let case = cases
        .iter()
        .find(|case| case.operation == operation && case.state == state)
        .context("no such case")?;
    warm_up(adapter, &cases, case)?;
    let done = adapter.perform(case, &ground, &|| marker());
    done.context("the operation")
}

/// Performs the operation once elsewhere, so that what is set up once per process is set up.
fn warm_up(adapter: &dyn Adapter, cases: &[Case], case: &Case) -> Result<()> {
    let same = |other: &&Case| other.operation == case.operation && !other.blocks;
    if let Some(other) = cases.iter().find(same) {
        let scene = adapter.stage(other, Cast::Nobody)?;
        adapter.prepare(other, scene.ground())?()?;
    }
    Ok(())
}

fn recovery(adapter: &dyn Adapter, ground: &Ground) -> Result<Operation> {
    adapter.learn(ground)?;
    let segment = ground.segment().clone();
    let dead = ground.dead();
    // Who clears up takes part itself, and leaves a row of its own when it dies.
    segment.participant()?;
    Ok(Box::new(move || {
        for id in &dead {
            segment.recover(*id);
        }
        Ok(())
    }))
}

/// Where the operation begins and ends.
#[inline(always)]
fn marker() {
    // SAFETY: the tracer that started this process expects the trap.
    unsafe { std::arch::asm!("int3") };
}
