//! Mode A: one pass; wherever something changed, newcomers go on with a copy in which nobody lives.

use anyhow::{Context as _, Result};

use super::{Context, End, Progress, name, trace};
use crate::kill::adapter::{Adapter, Case, Cast};

/// Checks a copy of each distinct state of the operation.
pub fn copies(context: Context<'_>, adapter: &dyn Adapter, case: &Case) -> Result<()> {
    let title = name(adapter, case);
    let mut scene = adapter.stage(case, Cast::Nobody).context("stage")?;
    let mut progress = Progress::in_copies(case);
    let mut first = true;
    let (trace, victim) = trace(
        context,
        adapter,
        case,
        scene.as_mut(),
        |n, scene, digest| {
            let copy = scene.ground().copy()?;
            if n % 2 == 0 {
                // Half of the time somebody clears up first; otherwise whoever wants something does it on the way.
                adapter.learn(&copy)?;
                for id in copy.dead() {
                    copy.segment().recover(id);
                }
            }
            let seen = adapter
                .inspect(case, &copy, &scene.ledger())
                .and_then(|found| progress.saw(&found));
            let seen = seen.and_then(|()| if first { progress.began() } else { Ok(()) });
            first = false;
            context.report.state(&title, digest);
            context.report.checked();
            context.report.stopped("A", &title);
            if let Err(error) = seen {
                let text = format!("copy after instruction {n}: {error:#}");
                context.report.violation("A", &title, &text);
            }
            Ok(())
        },
    )?;
    if let Err(error) = progress.ended() {
        context.report.violation("A", &title, &format!("{error:#}"));
    }
    let left = match trace.end {
        End::Finished => victim.finish(),
        End::Asleep => victim.kill().map(drop),
    };
    if let Err(error) = left {
        let text = format!("not killed at all: {error:#}");
        context.report.violation("A", &title, &text);
    }
    context
        .report
        .length("A", &title, trace.points.len() - 1, 0);
    // The state it begins with at least.
    context.report.demand("A", &title, 1);
    Ok(())
}
