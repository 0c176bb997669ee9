//! Mode E: who clears up is killed as well, after every instruction, and a second one finishes.

use anyhow::{Context as _, Result, ensure};

use super::{Context, kills, name, trace};
use crate::kill::adapter::{Adapter, Case, Cast, Scene};
use crate::kill::ground::{Ground, Image};
use crate::kill::victim::RECOVER;

/// What one death left.
struct Remains {
    /// After which instruction.
    n: usize,
    image: Image,
    ledger: Vec<u64>,
    found: String,
}

/// A region that somebody shall clear up.
struct Grave(Ground);

impl Scene for Grave {
    fn ground(&self) -> &Ground {
        &self.0
    }

    fn survive(self: Box<Self>, _: bool) -> Result<String> {
        anyhow::bail!("nobody survives in a grave")
    }
}

/// In each distinct state that the operation can leave, kills the recoverer.
pub fn recoverers(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    let mut scene = adapter.stage(case, Cast::Nobody).context("stage")?;
    if matches!(scene.ground(), Ground::Directory(..)) {
        // There is nothing to clear up where nobody is attached.
        return Ok(());
    }
    let mut remains = Vec::new();
    let (_, victim) = trace(
        context.program,
        adapter,
        case,
        scene.as_mut(),
        |n, scene, _| {
            let image = Image::of(scene.ground().segment())?;
            let ledger = scene.ledger();
            let found = adapter.inspect(case, &image.restore()?, &ledger)?;
            remains.push(Remains {
                n,
                image,
                ledger,
                found,
            });
            Ok(())
        },
    )?;
    victim.kill()?;
    // The first, the last, and what lies between as far as the sample goes.
    let keep = (context.sample / 100).max(2);
    while remains.len() > keep {
        remains.remove(remains.len() / 2);
    }
    let recover = Case::new(RECOVER, case.state, &[]);
    for one in &remains {
        let mut grave = Grave(one.image.restore()?);
        let (trace, victim) = trace(context.program, adapter, &recover, &mut grave, |_, _, _| {
            Ok(())
        })?;
        victim.finish().context("the recoverer, not killed")?;
        ensure!(
            grave.0.dead().is_empty(),
            "the recoverer left {:?}",
            grave.0.dead()
        );
        let chosen = kills::choose(&trace.points, context);
        let (instructions, left_out) = (trace.points.len() - 1, trace.points.len() - chosen.len());
        context.report.length("E", &title, instructions, left_out);
        for n in chosen {
            let done = kill_recoverer(context, adapter, case, one, &recover, &trace.points, n);
            if let Err(error) = done {
                context.report.violation(format!(
                    "{title}, killed after instruction {}, its recoverer after {n}: {error:#}",
                    one.n
                ));
            }
            context.report.killed("E", &title);
        }
    }
    Ok(())
}

fn kill_recoverer(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    remains: &Remains,
    recover: &Case,
    points: &[super::Point],
    n: usize,
) -> Result<()> {
    let (scene, victim, exact) = kills::reach(points, n, || {
        let grave = Grave(remains.image.restore()?);
        let (operation, state) = (recover.operation, recover.state);
        let victim = context
            .program
            .start(adapter.kind(), operation, state, &grave.0)?;
        Ok((Box::new(grave), victim))
    })?;
    if !exact {
        context.report.went_another_way();
    }
    victim.kill()?;
    let grave = scene.ground();
    // The second recoverer: by itself for one half, on the way to what newcomers want for the other.
    if n.is_multiple_of(2) {
        adapter.learn(grave)?;
        for id in grave.dead() {
            ensure!(
                grave.segment().recover(id),
                "{id} cannot be cleared up after"
            );
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
    Ok(())
}
