//! Mode D: two victims, each stopped in each of its distinct states, and one of them, or both, killed.

use anyhow::{Context as _, Result, ensure};

use super::{Context, Point, Random, kills, trace};
use crate::kill::adapter::{Adapter, Case, Cast, Pair};
use crate::kill::ground::Ground;
use crate::kill::tracer::{Astray, Step, Victim};

/// Operations of more instructions than this are stepped through for fewer pairs of states.
const LONG: usize = 10_000;

/// For so many of them, each with three ends.
const FEW: usize = 36;

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    First,
    Second,
    Both,
}

/// Every state of the one with every state of the other, up to the sample.
pub(super) fn pairs(context: Context<'_>, adapter: &dyn Adapter, pair: &Pair) -> Result<()> {
    let title = title(adapter, pair);
    let (points, first) = states(context, adapter, &pair.first)?;
    let (_, second) = states(context, adapter, &pair.second)?;
    let mut all: Vec<(usize, usize)> = first
        .iter()
        .flat_map(|i| second.iter().map(move |j| (*i, *j)))
        .collect();
    let instructions = all.len();
    let long = points.len() > context.depth.every.max(LONG);
    let most = context.depth.pairs.min(if long { FEW } else { usize::MAX });
    let mut random = Random(context.seed);
    while all.len() > most {
        all.swap_remove(random.below(all.len()));
    }
    context
        .report
        .length("D", &title, instructions, instructions - all.len());
    let kills_of_all = 3 * all.len();
    for _ in 0..kills::rounds(context.depth.least.pairs, kills_of_all) {
        for &(i, j) in &all {
            for dies in [Dies::First, Dies::Second, Dies::Both] {
                let mut done = together(context, adapter, pair, &points, (i, j, dies), false);
                if done.as_ref().is_err_and(|error| error.is::<Astray>()) {
                    // What the second one has prepared led the first another way than when it was alone.
                    done = together(context, adapter, pair, &points, (i, j, dies), true);
                }
                if let Err(error) = done {
                    let text = format!("at {i} and {j}, {dies:?} killed: {error:#}");
                    context.report.violation("D", &title, &text);
                }
                // Of two, one finds what the other has left: that it stands at its own instruction is all there is to prove.
                context.report.killed("D", &title, true);
            }
        }
    }
    context
        .report
        .demand("D", &title, context.depth.least.pairs);
    Ok(())
}

/// The name of a pair in reports.
pub(super) fn title(adapter: &dyn Adapter, pair: &Pair) -> String {
    let (first, second) = (pair.first.operation, pair.second.operation);
    format!("{}/{first} + {second}/{}", adapter.kind(), pair.first.state)
}

/// The points around each change that an operation makes by itself, its first and its last.
fn states(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
) -> Result<(Vec<Point>, Vec<usize>)> {
    let mut scene = adapter.stage(case, Cast::Living).context("stage")?;
    scene.vacate()?;
    let (trace, victim) = trace(context, adapter, case, scene.as_mut(), |_, _, _| Ok(()))?;
    victim.kill()?;
    let last = trace.points.len() - 1;
    let changed = |n: usize| trace.points.get(n).is_some_and(|point| point.changed);
    // A middle between two changes too: what was loaded there may be stale by the time it is used.
    let mut states: Vec<usize> = (0..=last)
        .filter(|&n| n == 0 || n == last || changed(n) || changed(n + 1))
        .collect();
    let middles: Vec<usize> = states
        .windows(2)
        .map(|two| two[0].midpoint(two[1]))
        .collect();
    states.extend(middles);
    states.sort_unstable();
    states.dedup();
    Ok((trace.points, states))
}

fn together(
    context: Context<'_>,
    adapter: &dyn Adapter,
    pair: &Pair,
    points: &[Point],
    (i, j, dies): (usize, usize, Dies),
    by_steps: bool,
) -> Result<()> {
    let mut scene = adapter.stage(&pair.first, Cast::Living).context("stage")?;
    scene.vacate()?;
    let start = |case: &Case| {
        let (operation, state) = (case.operation, case.state);
        context
            .program
            .start(adapter.kind(), operation, state, scene.ground())
    };
    let mut first = start(&pair.first)?;
    let mut second = start(&pair.second)?;
    let step = match scene.ground() {
        Ground::Directory(..) if context.depth.calls => call,
        _ => step,
    };
    if by_steps {
        step(&mut first, i)?;
    } else {
        kills::advance(&mut first, scene.as_mut(), points, i)?;
    }
    // Not led to a certain instruction: it may have to wait for the first one on the way.
    step(&mut second, j)?;
    let left = match dies {
        Dies::First => {
            first.kill()?;
            Some(second)
        }
        Dies::Second => {
            second.kill()?;
            Some(first)
        }
        Dies::Both => {
            first.kill()?;
            second.kill()?;
            None
        }
    };
    if let Some(mut living) = left {
        if !living.is_at_end()? {
            living.run_to_end(|| Ok(()))?;
        }
        living.finish().context("the one that lives")?;
    }
    let found = scene.survive(false)?;
    ensure!(
        pair.outcomes.contains(&found),
        "survivors find `{found}`, and it should be one of {:?}",
        pair.outcomes
    );
    Ok(())
}

/// Goes on through `n` system calls, if there are so many.
fn call(victim: &mut Victim, n: usize) -> Result<()> {
    for _ in 0..n {
        if !victim.run_to_call()? {
            break;
        }
        victim.leave_call()?;
    }
    Ok(())
}

/// Steps `n` instructions on, if there are so many.
fn step(victim: &mut Victim, n: usize) -> Result<()> {
    for _ in 0..n {
        if victim.is_at_end()? {
            break;
        }
        if victim.step()? == Step::Blocked {
            // It waits for the other one, and comes out at the end of its slice.
            victim.come_out_of_sleep()?;
        }
    }
    Ok(())
}
