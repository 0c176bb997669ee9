//! Mode E: who clears up is killed as well, after every instruction, and a second one finishes.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::kills::{self, Place};
use super::{Context, Depth, Point, name, trace};
use crate::kill::adapter::{Adapter, Case, Cast, Scene};
use crate::kill::ground::{Ground, Image};
use crate::kill::report::Slow;
use crate::kill::tracer::Astray;
use crate::kill::victim::RECOVER;

/// What one death left.
struct Remains {
    /// After which instruction.
    n: usize,
    left: Left,
    ledger: Vec<u64>,
    found: String,
}

/// Where there are participants, the region. In a directory, files: there, whoever creates next is who clears up.
enum Left {
    Region(Image),
    Directory(Ground),
}

impl Left {
    fn of(ground: &Ground) -> Result<Self> {
        Ok(match ground {
            Ground::Region(segment) => Self::Region(Image::of(segment)?),
            Ground::Directory(..) => Self::Directory(ground.copy()?),
        })
    }

    fn restore(&self) -> Result<Ground> {
        match self {
            Self::Region(image) => image.restore(),
            Self::Directory(ground) => ground.copy(),
        }
    }

    /// What the recoverer does.
    fn recovery(&self, adapter: &dyn Adapter, case: &Case) -> Case {
        match self {
            Self::Region(_) => Case::new(RECOVER, case.state, &[]),
            Self::Directory(_) => adapter.cleaner(),
        }
    }

    /// Whether there is anything to do for a recoverer.
    fn needs_one(&self, ground: &Ground) -> bool {
        match self {
            Self::Region(_) => !ground.dead().is_empty(),
            Self::Directory(_) => true,
        }
    }
}

/// A region or a directory that somebody shall clear up.
struct Grave(Ground);

impl Scene for Grave {
    fn ground(&self) -> &Ground {
        &self.0
    }

    fn survive(self: Box<Self>, _: bool) -> Result<String> {
        anyhow::bail!("nobody survives in a grave")
    }
}

/// In each distinct state that the operation can leave, up to a number of them, kills the recoverer.
pub fn recoverers(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    let mut scene = adapter.stage(case, Cast::Nobody).context("stage")?;
    let mut remains = Vec::new();
    let (_, victim) = trace(
        context,
        adapter,
        case,
        scene.as_mut(),
        |n, scene, digest| {
            context.report.state(&title, digest);
            let left = Left::of(scene.ground())?;
            let ground = left.restore()?;
            if left.needs_one(&ground) {
                let ledger = scene.ledger();
                remains.push((n, left, ledger));
            }
            Ok(())
        },
    )?;
    victim.kill()?;
    let remains = spread(remains, context.depth.remains)
        .into_iter()
        .map(|(n, left, ledger)| {
            let found = adapter.inspect(case, &left.restore()?, &ledger)?;
            Ok(Remains {
                n,
                left,
                ledger,
                found,
            })
        })
        .collect::<Result<Vec<_>>>()
        .context("without a recoverer")?;
    if remains.is_empty() {
        return Ok(());
    }
    let share = context
        .depth
        .least
        .recoverers
        .div_ceil(remains.len() as u64);
    let thorough = thorough(remains.len(), context.depth.thorough);
    for (index, one) in remains.iter().enumerate() {
        let depth = if thorough.contains(&index) {
            context.depth
        } else {
            Depth {
                every: context.depth.brief,
                sample: context.depth.brief,
                most: context.depth.brief,
                ..context.depth
            }
        };
        in_one(context, adapter, case, one, depth, share)?;
    }
    context
        .report
        .demand("E", &title, context.depth.least.recoverers);
    Ok(())
}

/// The first, the last, and what lies evenly between, up to `most`.
fn spread<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let last = all.len().saturating_sub(1);
    let most = most.max(2);
    let keep: Vec<usize> = if all.len() <= most {
        (0..=last).collect()
    } else {
        (0..most).map(|i| i * last / (most - 1)).collect()
    };
    let all = all.into_iter().enumerate();
    all.filter(|(index, _)| keep.contains(index))
        .map(|(_, one)| one)
        .collect()
}

/// Which of so many are gone through instruction by instruction.
fn thorough(all: usize, most: usize) -> Vec<usize> {
    spread((0..all).collect(), most.max(2))
        .into_iter()
        .take(most)
        .collect()
}

/// The points of the recovery of one state. Where a sample of them will do, those of another state of the kind, if a recoverer
/// of this one comes by the same way: to go through all of a long one takes longer than to kill at the sample.
fn way(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    one: &Remains,
    brief: bool,
) -> Result<Arc<Vec<Point>>> {
    let recover = one.left.recovery(adapter, case);
    let mut grave = Grave(one.left.restore()?);
    let kept = format!(
        "{} {} of {}",
        adapter.kind(),
        recover.operation,
        grave.0.dead().len()
    );
    let known = context.traces.get(&kept).filter(|_| brief);
    let (victim, points) = match known {
        Some(points) => {
            let (operation, state) = (recover.operation, recover.state);
            let start = context
                .program
                .start(adapter.kind(), operation, state, &grave.0);
            let mut victim = start?;
            // The middle, and all that comes behind it.
            let middle = points.len() / 2;
            match kills::advance(&mut victim, &mut grave, &points, middle) {
                Ok(()) => victim.run_to_end(|| Ok(()))?,
                Err(error) if error.is::<Astray>() => {
                    drop(victim);
                    return way(context, adapter, case, one, false);
                }
                Err(error) => return Err(error),
            }
            (victim, points)
        }
        None => {
            let (trace, victim) = trace(context, adapter, &recover, &mut grave, |_, _, _| Ok(()))?;
            (victim, context.traces.keep(kept, trace.points))
        }
    };
    victim.finish().context("the recoverer, not killed")?;
    let dead = grave.0.dead();
    ensure!(dead.is_empty(), "the recoverer left {dead:?}");
    Ok(points)
}

/// Kills recoverers of one state, at least `least` times.
fn in_one(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    one: &Remains,
    depth: Depth,
    least: u64,
) -> Result<()> {
    let title = name(adapter, case);
    let points = way(
        context,
        adapter,
        case,
        one,
        depth.every < context.depth.every,
    )?;
    let chosen = kills::choose(&points, depth, context.seed);
    let (instructions, left_out) = (points.len() - 1, points.len() - chosen.len());
    context.report.length("E", &title, instructions, left_out);
    let enough = kills::rounds(least, chosen.len());
    let proved = context.report.proved("E", &title);
    for round in 0..4 * enough {
        if round >= enough && context.report.proved("E", &title) >= proved + least {
            break;
        }
        for &n in &chosen {
            for place in Place::at(&points[n]) {
                let kill =
                    || kill_recoverer(context, adapter, case, one, &points, (n, place), round);
                let mut done = kill();
                for _ in 0..3 {
                    if !done.as_ref().is_err_and(|error| error.is::<Slow>()) {
                        break;
                    }
                    context.report.was_late();
                    done = kill();
                }
                context
                    .report
                    .killed("E", &title, done.as_ref().is_ok_and(|exact| *exact));
                if let Err(error) = done {
                    let text = format!(
                        "killed after instruction {}, its recoverer after {n} ({place:?}): {error:#}",
                        one.n
                    );
                    context.report.violation("E", &title, &text);
                }
            }
        }
    }
    Ok(())
}

/// One recoverer, killed at one point; tells whether it was the very point.
fn kill_recoverer(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    remains: &Remains,
    points: &[Point],
    (n, place): (usize, Place),
    round: usize,
) -> Result<bool> {
    let recover = remains.left.recovery(adapter, case);
    let (scene, mut victim, exact) = kills::reach(points, n, || {
        let grave = Grave(remains.left.restore()?);
        let (operation, state) = (recover.operation, recover.state);
        let victim = context
            .program
            .start(adapter.kind(), operation, state, &grave.0)?;
        Ok((Box::new(grave), victim))
    })?;
    if exact {
        place.lead(&mut victim)?;
    }
    let killed = victim.kill()?;
    let grave = scene.ground();
    if matches!(remains.left, Left::Directory(_)) {
        let found = adapter.inspect(case, grave, &remains.ledger)?;
        // Until the second creator has named its segment, what the first one left is there.
        ensure!(
            found == remains.found || recover.outcomes.contains(&found),
            "survivors find `{found}` instead of `{}`, or one of {:?}",
            remains.found,
            recover.outcomes
        );
        return Ok(exact);
    }
    // The second recoverer: by itself for one half, on the way to what newcomers want for the other.
    let mut slow = Ok(());
    if (n + round).is_multiple_of(2) {
        adapter.learn(grave)?;
        for id in grave.dead() {
            slow = slow.and(kills::timed(context, grave.segment(), id, killed));
        }
        let left = grave.dead();
        ensure!(
            left.is_empty(),
            "after the second recoverer {left:?} are left"
        );
    }
    let found = adapter.inspect(case, grave, &remains.ledger)?;
    ensure!(
        found == remains.found,
        "survivors find `{found}` instead of `{}`",
        remains.found
    );
    slow.map(|()| exact)
}
