//! The contended fetch-add: processes that all count up one word. A queue in which each message moves a shared position
//! cannot do better where the processes have CPUs of their own.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};

use crate::limits::{LINE, Lines};
use crate::measure::{Case, Clock, Measure, Values, ticks};
use crate::process;
use crate::subject::{Side, Subject};

/// The subject.
pub struct FetchAdd;

impl Subject for FetchAdd {
    fn name(&self) -> &'static str {
        "fetch-add"
    }

    fn side(&self) -> Side {
        Side::Limit
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        (what == Measure::Crowd).then(|| count(case))
    }
}

/// Nanoseconds for each two additions, since a message is pushed and popped.
fn count(case: &Case) -> Result<Values> {
    let processes = case.shape.producers + case.shape.consumers;
    let each = (2 * case.messages / processes as u64).max(1);
    let places: Vec<usize> = (0..processes)
        .map(|index| case.cpus[index % case.cpus.len()])
        .collect();
    let lines = Lines::new(LINE)?;
    let results = process::run(&places, |member| {
        let word = lines.word(0);
        member.barrier();
        member.report(0, ticks());
        for _ in 0..each {
            word.fetch_add(1, Relaxed);
        }
        member.report(1, ticks());
        Ok(())
    })?;
    let total = each * processes as u64;
    ensure!(lines.word(0).load(Relaxed) == total, "additions were lost");
    let start = results.iter().map(|result| result[0]).min().unwrap_or(0);
    let end = results.iter().map(|result| result[1]).max().unwrap_or(0);
    Ok(vec![
        Clock::calibrate().nanoseconds(end.saturating_sub(start)) / total as f64 * 2.0,
    ])
}
