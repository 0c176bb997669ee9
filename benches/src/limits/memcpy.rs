//! The copy of a message from one place to another within one process, both in its caches: nothing that copies messages
//! does it faster.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

use crate::measure::{Case, Measure, Values};
use crate::process;
use crate::subject::{Side, Subject};

/// The subject.
pub struct Memcpy;

/// Bytes that the copies go to, one after the other: as many as the rings have.
const AROUND: usize = 1 << 20;

impl Subject for Memcpy {
    fn name(&self) -> &'static str {
        "memcpy"
    }

    fn side(&self) -> Side {
        Side::Limit
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        (what == Measure::Stream && case.batch == 1).then(|| copy(case))
    }
}

fn copy(case: &Case) -> Result<Values> {
    let payload = case.shape.payload;
    let results = process::run(&case.cpus[..1], |member| {
        let source = vec![1_u8; payload];
        let mut target = vec![0_u8; AROUND.max(payload)];
        let mut start = Instant::now();
        let mut at = 0;
        for number in 0..case.messages {
            if number == case.messages / 10 {
                start = Instant::now();
            }
            if at + payload > target.len() {
                at = 0;
            }
            target[at..at + payload].copy_from_slice(black_box(&source));
            black_box(&mut target);
            at += payload;
        }
        let measured = case.messages - case.messages / 10;
        member.report_number(0, start.elapsed().as_nanos() as f64 / measured as f64);
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[0][0])])
}
