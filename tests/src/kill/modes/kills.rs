//! Mode B: the real kill, after every instruction.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::Segment;

use super::{Context, Depth, Point, Progress, Random, name, trace};
use crate::kill::adapter::{Adapter, Case, Cast, Scene};
use crate::kill::ground::Ground;
use crate::kill::report::{Slow, on_cpu, queued};
use crate::kill::sleeper::TooLate;
use crate::kill::tracer::{Astray, Death, Edge, Step, Victim};

/// Of the checks with a sleeper, one in so many leaves it to wake by itself.
const UNAIDED: usize = 16;

/// Where a victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between instructions.
    Before,
    /// At the entry of the system call that comes next.
    Entry,
    /// At its exit.
    Exit,
    /// Asleep in it.
    Asleep,
}

impl Place {
    /// Where a victim can be killed on the way from a point to the next one.
    pub(super) fn at(point: &Point) -> Vec<Self> {
        let mut places = vec![Self::Before];
        if point.system_call {
            places.extend([Self::Entry, Self::Exit]);
        }
        if point.blocked {
            places.push(Self::Asleep);
        }
        places
    }

    /// Leads a victim that stands at the point there, and proves that it is there.
    pub(super) fn lead(self, victim: &mut Victim) -> Result<()> {
        if self == Self::Before {
            return Ok(());
        }
        // Behind the instruction that makes the call.
        let address = victim.address()? + 2;
        if self == Self::Entry {
            victim.go_to(Edge::Entry)?;
        } else if victim.go_to(Edge::Exit)? == Step::Blocked {
            let here = victim.asleep_at()?;
            ensure!(here == address, "asleep at {here:#x}, not at {address:#x}");
            return Ok(());
        }
        let here = victim.address()?;
        ensure!(here == address, "stopped at {here:#x}, not at {address:#x}");
        Ok(())
    }
}

/// How often to go over so many points so that there are at least so many kills.
pub(super) fn rounds(least: u64, points: usize) -> usize {
    (least as usize).div_ceil(points.max(1)).max(1)
}

/// Kills the operation at every instruction, or at a sample of them.
pub fn kills(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    if !context.depth.traced {
        return untraced(context, adapter, case);
    }
    let points = trace::points(context, adapter, case)?;
    let chosen = choose(&points, context.depth, context.seed);
    context
        .report
        .length("B", &title, points.len() - 1, points.len() - chosen.len());
    let least = context.depth.least.kills;
    let enough = rounds(least, chosen.len());
    for round in 0..4 * enough {
        // More, where an operation that depends on time often took another way.
        if round >= enough && context.report.proved("B", &title) >= least {
            break;
        }
        pass(context, adapter, case, &points, &chosen, round)?;
    }
    context.report.demand("B", &title, least);
    Ok(())
}

/// Kills the operation at each of the chosen points once.
fn pass(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    points: &[Point],
    chosen: &[usize],
    round: usize,
) -> Result<()> {
    let title = name(adapter, case);
    let in_order = !case.blocks && !case.any_order;
    let mut progress = Progress::new(case);
    for (count, &n) in chosen.iter().enumerate() {
        for place in Place::at(&points[n]) {
            let how = How {
                // In the next round, who clears up here and who leaves it to others is the other way round.
                clear: (n + round).is_multiple_of(2),
                unaided: (count + round).is_multiple_of(UNAIDED),
            };
            let killed = in_time(context, || {
                kill_at(context, adapter, case, points, (n, place), how)
            });
            let exact = killed.as_ref().is_ok_and(|(_, exact)| *exact);
            let seen = killed.and_then(|(found, exact)| {
                // The exit of a system call is the state behind it.
                if place == Place::Before && exact && in_order {
                    progress.saw(&found)
                } else {
                    progress_anywhere(case, &found)
                }
            });
            if let Err(error) = seen.and_then(|()| if n == 0 { progress.began() } else { Ok(()) }) {
                let address = points[n].address;
                let text =
                    format!("killed after instruction {n} ({place:?} {address:#x}): {error:#}");
                context.report.violation("B", &title, &text);
            }
            context.report.killed("B", &title, exact);
        }
    }
    if in_order && let Err(error) = progress.ended() {
        context.report.violation("B", &title, &format!("{error:#}"));
    }
    Ok(())
}

/// Tries again, on a new kill, where somebody was late. Who is really not woken is late each time; who only had to wait for a
/// processor is not.
fn in_time<T>(context: Context<'_>, mut kill: impl FnMut() -> Result<T>) -> Result<T> {
    let mut killed = kill();
    for _ in 0..3 {
        let late = |error: &anyhow::Error| error.is::<TooLate>() || error.is::<Slow>();
        if !killed.as_ref().is_err_and(late) {
            break;
        }
        context.report.was_late();
        killed = kill();
    }
    killed
}

/// Steps that a victim takes before it is killed, where nobody has gone through its operation before.
const STEPS: [usize; 8] = [0, 1, 4, 16, 64, 256, 1024, 4096];

/// Kills the operation after few steps and after many, or at its end, whatever is there.
fn untraced(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    for (count, most) in STEPS.into_iter().enumerate() {
        let steps = most - Random(context.seed + count as u64).below(most / 2 + 1);
        let how = How {
            clear: count.is_multiple_of(2),
            unaided: count == 5,
        };
        let killed = in_time(context, || {
            let mut scene = adapter.stage(case, Cast::Living).context("stage")?;
            let (operation, state) = (case.operation, case.state);
            let start = context
                .program
                .start(adapter.kind(), operation, state, scene.ground());
            let mut victim = start?;
            scene.poise()?;
            walk(&mut victim, scene.as_mut(), steps)?;
            bury(context, adapter, scene, victim, how)
        });
        let seen = killed.and_then(|found| {
            progress_anywhere(case, &found)?;
            ensure!(
                steps > 0 || found == case.outcomes[0],
                "before the first instruction survivors find `{found}` already"
            );
            Ok(())
        });
        if let Err(error) = seen {
            let text = format!("killed after {steps} instructions: {error:#}");
            context.report.violation("B", &title, &text);
        }
        context.report.killed("B", &title, true);
    }
    context
        .report
        .demand("B", &title, context.depth.least.kills);
    Ok(())
}

/// Steps so many instructions on, if there are so many, releasing the victim where it blocks.
fn walk(victim: &mut Victim, scene: &mut dyn Scene, steps: usize) -> Result<()> {
    for _ in 0..steps {
        if victim.is_at_end()? {
            break;
        }
        if victim.step()? == Step::Blocked {
            // If nobody gives it anything, it may still come out at the end of a slice, or be killed where it sleeps.
            let patience = Duration::from_millis(if scene.release()? { 5000 } else { 200 });
            if victim.come_out(patience)? == Step::Blocked {
                break;
            }
        }
    }
    Ok(())
}

/// Every point of a short operation; of a long one those around which something changed, system calls, and a sample.
pub(super) fn choose(points: &[Point], depth: Depth, seed: u64) -> Vec<usize> {
    let last = points.len() - 1;
    if last <= depth.every {
        return (0..=last).collect();
    }
    let near = |n: usize| {
        points[n].changed || points[n].system_call || points[n.saturating_sub(1)].system_call
    };
    let before_change = |n: usize| n < last && points[n + 1].changed;
    let mut chosen: Vec<usize> = (0..=last)
        .filter(|&n| n == 0 || n == last || near(n) || before_change(n))
        .collect();
    let mut random = Random(seed);
    chosen.extend((0..depth.sample).map(|_| random.below(points.len())));
    chosen.sort_unstable();
    chosen.dedup();
    while chosen.len() > depth.most.max(2) {
        // The first and the last stay.
        chosen.remove(1 + random.below(chosen.len() - 2));
    }
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
    how: How,
) -> Result<(String, bool)> {
    let (scene, mut victim, exact) = victim_at(context, adapter, case, points, n)?;
    if exact || victim.is_at_system_call()? {
        place.lead(&mut victim)?;
    }
    let found = bury(context, adapter, scene, victim, how)?;
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
    walk(&mut victim, scene.as_mut(), n)?;
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
        if n == points.len() - 1 && !points[n].system_call {
            // The second marker traps by itself.
            return victim.run_to_end(|| scene.release().map(drop));
        }
        // Of an instruction that repeats itself (`rep movsb`) each step is a point, but only the first one a visit. A
        // system call does not: where points are calls, the same one twice in a row is two visits.
        let goes_on = |one: &Point, next: &Point| one.address == next.address && !next.system_call;
        let visits = || points[..=n].chunk_by(goes_on);
        let repeated = visits().next_back().map_or(0, |visit| visit.len() - 1);
        let visits = visits().filter(|visit| visit[0].address == address).count();
        if repeated < n {
            victim.run_to(address, visits, || scene.release().map(drop))?;
        }
        for _ in 0..repeated {
            victim.step()?;
        }
    }
    ensure!(
        victim.address()? == address,
        "the harness went astray: after {n} instructions the victim is at {:#x}",
        victim.address()?
    );
    Ok(())
}

/// What is done after a kill.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// The harness clears up; else that is left to whoever needs something.
    clear: bool,
    /// Nobody wakes a sleeper.
    unaided: bool,
}

/// Kills the victim, has its remains cleared up and lets the survivors go on.
fn bury(
    context: Context<'_>,
    adapter: &dyn Adapter,
    scene: Box<dyn Scene>,
    victim: Victim,
    how: How,
) -> Result<String> {
    let pid = victim.pid();
    let killed = victim.kill()?;
    let mut slow = Ok(());
    if let Ground::Region(segment) = scene.ground() {
        adapter.learn(scene.ground())?;
        for id in segment.participants() {
            match segment.life(id) {
                Life::Alive(who) if who.pid == pid => {
                    anyhow::bail!("{id}, which was killed, is said to live")
                }
                Life::Dead(who) if who.pid == pid && how.clear => {
                    slow = timed(context, segment, id, killed);
                }
                _ => {}
            }
        }
    }
    let found = scene.survive(how.unaided)?;
    if how.unaided {
        let after = killed.at.elapsed();
        context.report.measured(|times| times.came_back(after));
    }
    slow.map(|()| found)
}

/// Clears up after one that was killed, and holds that to its limits.
pub(super) fn timed(
    context: Context<'_>,
    segment: &Segment,
    id: ParticipantId,
    killed: Death,
) -> Result<()> {
    let (begun, cpu) = (Instant::now(), on_cpu());
    let recovered = segment.recover(id);
    let (took, cpu, since_kill) = (begun.elapsed(), on_cpu() - cpu, killed.at.elapsed());
    let queued = queued().saturating_sub(killed.queued);
    ensure!(recovered, "{id} is dead and cannot be cleared up after");
    let mut held = Ok(());
    context.report.measured(|times| {
        times.since_kill(since_kill, queued);
        held = times.recovery(took, cpu, since_kill);
    });
    held
}
