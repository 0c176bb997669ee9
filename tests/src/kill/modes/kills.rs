//! Mode B: the real kill, after every instruction.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use ipc_core::participant::Life;

use super::{Context, Point, Progress, Random, name, trace};
use crate::kill::adapter::{Adapter, Case, Cast, Scene};
use crate::kill::sleeper::TooLate;
use crate::kill::tracer::{Astray, Edge, Step, Victim};

/// Operations of up to so many instructions are killed after each of them.
const EVERY: usize = 2000;

/// Of the checks with a sleeper, one in so many leaves it to wake by itself.
const UNAIDED: usize = 16;

/// Where a victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between instructions.
    Before,
    /// At the entry of the system call that comes next.
    Entry,
    /// At its exit.
    Exit,
    /// Asleep in it.
    Asleep,
}

/// Kills the operation at every instruction, or at a sample of them.
pub fn kills(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    let mut scene = adapter.stage(case, Cast::Living).context("stage")?;
    let points = {
        let (trace, victim) = trace(context.program, adapter, case, scene.as_mut(), |_, _, _| {
            Ok(())
        })?;
        victim.kill()?;
        scene.survive(false).context("after the pass")?;
        trace.points
    };
    let chosen = choose(&points, context);
    context
        .report
        .length("B", &title, points.len() - 1, points.len() - chosen.len());
    let mut progress = Progress::new(case);
    for (count, &n) in chosen.iter().enumerate() {
        let mut places = vec![Place::Before];
        if points[n].system_call {
            places.extend([Place::Entry, Place::Exit]);
        }
        if points[n].blocked {
            places.push(Place::Asleep);
        }
        for place in places {
            let unaided = count % UNAIDED == 0;
            let mut killed = kill_at(context, adapter, case, &points, (n, place), unaided);
            for _ in 0..3 {
                if !killed.as_ref().is_err_and(|error| error.is::<TooLate>()) {
                    break;
                }
                // Who is really not woken is late each time; who only had to wait for a processor is not.
                context.report.was_late();
                killed = kill_at(context, adapter, case, &points, (n, place), unaided);
            }
            let seen = killed.and_then(|(found, exact)| {
                // The exit of a system call is the state behind it.
                if place == Place::Before && exact && !case.blocks {
                    progress.saw(&found)
                } else {
                    progress_anywhere(case, &found)
                }
            });
            if let Err(error) = seen.and_then(|()| if n == 0 { progress.began() } else { Ok(()) }) {
                let address = points[n].address;
                context.report.violation(format!(
                    "{title}, killed after instruction {n} ({place:?} {address:#x}): {error:#}"
                ));
            }
            context.report.killed("B", &title);
        }
    }
    if !case.blocks
        && let Err(error) = progress.ended()
    {
        context
            .report
            .violation(format!("{title}, mode B: {error:#}"));
    }
    Ok(())
}

/// Every point of a short operation; of a long one those that changed something, system calls, and a sample.
pub(super) fn choose(points: &[Point], context: Context<'_>) -> Vec<usize> {
    let last = points.len() - 1;
    if points.len() <= EVERY.min(context.sample) {
        return (0..=last).collect();
    }
    let near = |n: usize| {
        points[n].changed || points[n].system_call || points[n.saturating_sub(1)].system_call
    };
    let before_change = |n: usize| n < last && points[n + 1].changed;
    let mut chosen: Vec<usize> = (0..=last)
        .filter(|&n| n == 0 || n == last || near(n) || before_change(n))
        .collect();
    let mut random = Random(context.seed);
    chosen.extend((0..context.sample).map(|_| random.below(points.len())));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

fn progress_anywhere(case: &Case, found: &str) -> Result<()> {
    ensure!(
        case.outcomes.iter().any(|outcome| outcome == found),
        "survivors find `{found}`, and it should be one of {:?}",
        case.outcomes
    );
    Ok(())
}

/// A new victim, killed at one point; gives what survivors found.
fn kill_at(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    points: &[Point],
    (n, place): (usize, Place),
    unaided: bool,
) -> Result<(String, bool)> {
    let (scene, mut victim, exact) = victim_at(context, adapter, case, points, n)?;
    if !exact {
        context.report.went_another_way();
    }
    match place {
        Place::Before => {}
        Place::Entry => drop(victim.go_to(Edge::Entry)?),
        Place::Exit | Place::Asleep => drop(victim.go_to(Edge::Exit)?),
    }
    let found = bury(context, adapter, scene, victim, (n % 2 == 0, unaided))?;
    Ok((found, exact))
}

/// A new victim at point `n`, in a new scene. The answer says whether it is the very point of the trace.
pub(super) fn victim_at(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    points: &[Point],
    n: usize,
) -> Result<(Box<dyn Scene>, Victim, bool)> {
    reach(points, n, || {
        let mut scene = adapter.stage(case, Cast::Living).context("stage")?;
        let victim =
            context
                .program
                .start(adapter.kind(), case.operation, case.state, scene.ground())?;
        scene.poise()?;
        Ok((scene, victim))
    })
}

/// Starts victims until one comes by point `n`. Where time or another process decides which way an operation takes, that
/// may need several; if none comes by, one that has made as many steps will do, and the answer says so.
pub(super) fn reach(
    points: &[Point],
    n: usize,
    start: impl Fn() -> Result<(Box<dyn Scene>, Victim)>,
) -> Result<(Box<dyn Scene>, Victim, bool)> {
    for _ in 0..5 {
        let (mut scene, mut victim) = start()?;
        match advance(&mut victim, scene.as_mut(), points, n) {
            Err(error) if error.is::<Astray>() => {}
            done => return done.map(|()| (scene, victim, true)),
        }
    }
    let (mut scene, mut victim) = start()?;
    for _ in 0..n {
        if victim.is_at_end()? {
            break;
        }
        if victim.step()? == Step::Blocked {
            scene.release()?;
            victim.come_out_of_sleep()?;
        }
    }
    Ok((scene, victim, false))
}

/// From the first point to point `n`, releasing the victim where it blocks on the way. The victim then stands at the
/// very instruction that stood there when the operation was traced.
pub(super) fn advance(
    victim: &mut Victim,
    scene: &mut dyn Scene,
    points: &[Point],
    n: usize,
) -> Result<()> {
    let address = points[n].address;
    if n > 0 {
        let visits = points[..=n]
            .iter()
            .filter(|point| point.address == address)
            .count();
        if n == points.len() - 1 && !points[n].system_call {
            // The second marker traps by itself.
            return victim.run_to_end(|| scene.release().map(drop));
        }
        victim.run_to(address, visits, || scene.release().map(drop))?;
    }
    ensure!(
        victim.address()? == address,
        "the harness went astray: after {n} instructions the victim is at {:#x}",
        victim.address()?
    );
    Ok(())
}

/// Kills the victim, has its remains cleared up, if `clear`, or leaves that to whoever needs something, and lets the
/// survivors go on.
pub(super) fn bury(
    context: Context<'_>,
    adapter: &dyn Adapter,
    scene: Box<dyn Scene>,
    victim: Victim,
    (clear, unaided): (bool, bool),
) -> Result<String> {
    let pid = victim.pid();
    let killed = victim.kill()?;
    if let crate::kill::ground::Ground::Region(segment) = scene.ground() {
        adapter.learn(scene.ground())?;
        for id in segment.participants() {
            match segment.life(id) {
                Life::Alive(who) if who.pid == pid => {
                    anyhow::bail!("{id}, which was killed, is said to live")
                }
                Life::Dead(who) if who.pid == pid && clear => {
                    let begun = Instant::now();
                    ensure!(
                        segment.recover(id),
                        "{id} is dead and cannot be cleared up after"
                    );
                    context.report.recovered(begun.elapsed(), killed.elapsed());
                }
                _ => {}
            }
        }
    }
    let found = scene.survive(unaided)?;
    if unaided {
        context.report.came_back(killed.elapsed());
    }
    Ok(found)
}
