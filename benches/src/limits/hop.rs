//! The bare cache-line hop: a number goes to the other CPU in one line and comes back in another.

use std::sync::atomic::Ordering::{Acquire, Release};

use anyhow::Result;

use crate::limits::{LINE, Lines};
use crate::measure::{Case, Measure, Times, Values, reported, ticks};
use crate::process;
use crate::subject::{Side, Subject};

/// The subject. It moves one line, whatever the payload.
pub struct Hop;

impl Subject for Hop {
    fn name(&self) -> &'static str {
        "hop"
    }

    fn side(&self) -> Side {
        Side::Limit
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        (what == Measure::Trips).then(|| hop(&case.cpus, case.messages))
    }
}

/// One-way times of the hop between two CPUs, with one pause in each poll.
pub fn hop(cpus: &[usize], trips: u64) -> Result<Values> {
    let lines = Lines::new(2 * LINE)?;
    let results = process::run(&cpus[..2], |member| {
        let (there, back) = (lines.word(0), lines.word(LINE));
        member.barrier();
        if member.rank == 0 {
            let mut times = Times::new()?;
            for number in 1..=trips {
                let start = ticks();
                there.store(number, Release);
                while back.load(Acquire) != number {
                    std::hint::spin_loop();
                }
                if number > trips / 10 {
                    times.record(ticks().wrapping_sub(start));
                }
            }
            times.report(member, 2.0);
        } else {
            for number in 1..=trips {
                while there.load(Acquire) != number {
                    std::hint::spin_loop();
                }
                back.store(number, Release);
            }
        }
        Ok(())
    })?;
    Ok(reported(&results[0]))
}
