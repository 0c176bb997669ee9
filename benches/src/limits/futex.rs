//! The raw futex: two processes that sleep on a word each and wake each other.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use anyhow::Result;
use rustix::thread::futex;

use crate::limits::{LINE, Lines};
use crate::measure::{Case, Measure, Times, Values, reported, ticks};
use crate::process;
use crate::subject::{Side, Subject};
use crate::transport::Waiting;

/// The subject.
pub struct Futex;

impl Subject for Futex {
    fn name(&self) -> &'static str {
        "futex"
    }

    fn side(&self) -> Side {
        Side::Limit
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        let sleeps = case.shape.waiting == Waiting::Block;
        (what == Measure::Trips && sleeps).then(|| trips(case))
    }
}

fn trips(case: &Case) -> Result<Values> {
    let lines = Lines::new(2 * LINE)?;
    let wait = |word: &AtomicU32, until: u32| {
        loop {
            match word.load(Acquire) {
                found if found == until => return,
                found => drop(futex::wait(word, futex::Flags::empty(), found, None)),
            }
        }
    };
    let tell = |word: &AtomicU32, number: u32| {
        word.store(number, Release);
        let _ = futex::wake(word, futex::Flags::empty(), 1);
    };
    let results = process::run(&case.cpus[..2], |member| {
        let (there, back) = (lines.word32(0), lines.word32(LINE));
        let count = case.messages as u32;
        if member.rank == 0 {
            let mut times = Times::new()?;
            member.barrier();
            for number in 1..=count {
                let start = ticks();
                tell(there, number);
                wait(back, number);
                if number > count / 10 {
                    times.record(ticks().wrapping_sub(start));
                }
            }
            times.report(member, 2.0);
        } else {
            member.barrier();
            for number in 1..=count {
                wait(there, number);
                tell(back, number);
            }
        }
        Ok(())
    })?;
    Ok(reported(&results[0]))
}
