//! One pass over an operation: where each instruction is, and what it changed.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::kill::adapter::{Adapter, Case, Scene};
use crate::kill::ground::Watch;
use crate::kill::tracer::{Program, Step, Victim};

/// A place between two instructions, before `address`.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The next instruction.
    pub address: u64,
    /// The next instruction is a system call.
    pub system_call: bool,
    /// The instruction before changed the region, a lock or a file.
    pub changed: bool,
    /// The victim slept in the system call that comes next, until somebody gave it what it waited for.
    pub blocked: bool,
}

/// How an operation came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the second marker.
    Finished,
    /// Asleep, with nobody to wake it.
    Asleep,
}

/// All points of an operation, the last one being the second marker.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Before each instruction, and behind the last one.
    pub points: Vec<Point>,
    /// How it came to an end.
    pub end: End,
}

/// A victim that is stepped may find that a slice of waiting is over each time it looks, and so never sleep: after so many
/// instructions it is given what it waits for.
const AWAKE: usize = 30_000;

/// More instructions than any operation has.
const ENDLESS: usize = 3_000_000;

/// Steps a victim through its whole operation. `at` is called at the first point and wherever something changed, and at
/// the last.
pub fn trace(
    program: &Program,
    adapter: &dyn Adapter,
    case: &Case,
    scene: &mut dyn Scene,
    mut at: impl FnMut(usize, &mut dyn Scene, u64) -> Result<()>,
) -> Result<(Trace, Victim)> {
    let mut victim = program.start(adapter.kind(), case.operation, case.state, scene.ground())?;
    scene.poise()?;
    let mut watch = Watch::new(scene.ground())?;
    let mut points = Vec::new();
    let (mut changed, mut end) = (true, End::Finished);
    let mut waits = case.blocks;
    loop {
        if changed {
            at(points.len(), scene, watch.digest())?;
        }
        let system_call = victim.is_at_system_call()?;
        points.push(Point {
            address: victim.address()?,
            system_call,
            changed,
            blocked: false,
        });
        if victim.is_at_end()? {
            break;
        }
        ensure!(points.len() < ENDLESS, "the operation does not end");
        if waits && points.len() >= AWAKE {
            waits = false;
            scene.release()?;
        }
        if victim.step()? == Step::Blocked {
            if let Some(point) = points.last_mut() {
                point.blocked = true;
            }
            let given = scene.release()?;
            waits = false;
            watch.look(true)?;
            at(points.len(), scene, watch.digest())?;
            // If nobody gives it anything, it may still come out by itself at the end of a slice.
            let patience = Duration::from_millis(if given { 2000 } else { 200 });
            if victim.come_out(patience)? == Step::Blocked {
                ensure!(!given, "the victim got what it waited for and sleeps on");
                end = End::Asleep;
                break;
            }
        }
        changed = watch.look(system_call)?;
    }
    if !changed {
        at(points.len() - 1, scene, watch.digest())?;
    }
    Ok((Trace { points, end }, victim))
}
