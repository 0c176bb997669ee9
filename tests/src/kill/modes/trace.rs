//! One pass over an operation: where each instruction is, and what it changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Context, name};
use crate::kill::adapter::{Adapter, Case, Cast, Scene};
use crate::kill::ground::{Ground, Watch};
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
const AWAKE: usize = 10_000;

/// More instructions than any operation has.
const ENDLESS: usize = 3_000_000;

/// The points of operations that were gone through already: beside survivors once for all modes, and of recoveries.
#[derive(Debug, Default)]
pub struct Traces(Mutex<HashMap<String, Arc<Vec<Point>>>>);

impl Traces {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Vec<Point>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of that name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Vec<Point>>> {
        self.all().get(name).cloned()
    }

    /// Keeps points under a name.
    pub(super) fn keep(&self, name: String, points: Vec<Point>) -> Arc<Vec<Point>> {
        let points = Arc::new(points);
        self.all().insert(name, points.clone());
        points
    }
}

/// The points of an operation beside survivors.
pub(super) fn points(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
) -> Result<Arc<Vec<Point>>> {
    let title = name(adapter, case);
    if let Some(points) = context.traces.get(&title) {
        return Ok(points);
    }
    let mut scene = adapter.stage(case, Cast::Living).context("stage")?;
    let note = |_, _: &mut dyn Scene, digest| {
        context.report.state(&title, digest);
        Ok(())
    };
    let (trace, victim) = trace(context, adapter, case, scene.as_mut(), note)?;
    victim.kill()?;
    scene.survive(false).context("after the pass")?;
    Ok(context.traces.keep(title, trace.points))
}

/// Steps a victim through its whole operation. `at` is called at the first point and wherever something changed, and at
/// the last.
pub fn trace(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    scene: &mut dyn Scene,
    mut at: impl FnMut(usize, &mut dyn Scene, u64) -> Result<()>,
) -> Result<(Trace, Victim)> {
    let program = context.program;
    if context.depth.calls && matches!(scene.ground(), Ground::Directory(..)) {
        return trace_calls(program, adapter, case, scene, at);
    }
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

/// Of an operation that changes something in system calls alone: from one to the next, which is much faster.
fn trace_calls(
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
    let (mut changed, mut more) = (true, true);
    while more {
        // First where it stands at its first marker.
        let system_call = !points.is_empty();
        if system_call {
            more = victim.run_to_call()?;
        }
        if changed || !more {
            at(points.len(), scene, watch.digest())?;
        }
        points.push(Point {
            address: victim.address()?,
            system_call: system_call && more,
            changed,
            blocked: false,
        });
        if system_call && more {
            victim.leave_call()?;
        }
        changed = watch.look(true)?;
    }
    let end = End::Finished;
    Ok((Trace { points, end }, victim))
}
