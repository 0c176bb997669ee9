//! Mode C: stopped is not dead. The victim stands still, the others work, and then it goes on.

use anyhow::{Context as _, Result, ensure};
use ipc_core::participant::Life;

use super::{Context, kills, name, trace};
use crate::kill::adapter::{Adapter, Case};
use crate::kill::ground::Ground;

/// Stops the operation at each point that mode B kills it at.
pub fn stops(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    let points = trace::points(context, adapter, case)?;
    let chosen = kills::choose(&points, context.depth, context.seed);
    let (instructions, left_out) = (points.len() - 1, points.len() - chosen.len());
    context.report.length("C", &title, instructions, left_out);
    for _ in 0..kills::rounds(context.depth.least.stops, chosen.len()) {
        for &n in &chosen {
            if let Err(error) = stop_at(context, adapter, case, &points, n) {
                let text = format!("stopped after instruction {n}: {error:#}");
                context.report.violation("C", &title, &text);
            }
            context.report.stopped("C", &title);
        }
    }
    context
        .report
        .demand("C", &title, context.depth.least.stops);
    Ok(())
}

fn stop_at(
    context: Context<'_>,
    adapter: &dyn Adapter,
    case: &Case,
    points: &[super::Point],
    n: usize,
) -> Result<()> {
    let (mut scene, mut victim, _) = kills::victim_at(context, adapter, case, points, n)?;
    if let Ground::Region(segment) = scene.ground() {
        adapter.learn(scene.ground())?;
        for id in segment.participants() {
            if matches!(segment.life(id), Life::Alive(who) if who.pid == victim.pid()) {
                ensure!(
                    !segment.recover(id),
                    "{id} is stopped and was cleared up after"
                );
            }
        }
    }
    let may_release = scene.carry_on().context("while it is stopped")?;
    if n < points.len() - 1 {
        victim.run_to_end(|| {
            if may_release {
                scene.release()?;
            }
            Ok(())
        })?;
    }
    victim.finish().context("when it went on")?;
    let found = scene.survive(false).context("after it left")?;
    let last = case.outcomes.last().context("an outcome")?;
    ensure!(
        found == *last || Some(found.as_str()) == case.if_stopped,
        "when all is over `{found}` is found instead of `{last}`"
    );
    Ok(())
}
