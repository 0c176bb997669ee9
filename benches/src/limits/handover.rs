//! The streaming hand-over: one process copies into a chunk of shared memory and passes it on; the other adds it up in
//! place. Nothing that moves bytes through memory between two processes can do better.

use std::sync::atomic::Ordering::{Acquire, Release};

use anyhow::{Result, ensure};

use crate::limits::{LINE, Lines};
use crate::measure::{Case, Measure, Values};
use crate::process;
use crate::subject::{Side, Subject};

/// The subject.
pub struct Handover;

/// Chunks in the ring.
const CHUNKS: usize = 8;

/// Bytes of all chunks together: the ring size that measured best.
const RING: usize = 1 << 20;

impl Subject for Handover {
    fn name(&self) -> &'static str {
        "handover"
    }

    fn side(&self) -> Side {
        Side::Limit
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        matches!(what, Measure::Stream | Measure::InPlace).then(|| hand_over(case))
    }
}

/// Nanoseconds per message of the case's payload, however the bytes are cut into chunks.
fn hand_over(case: &Case) -> Result<Values> {
    let chunk = RING / CHUNKS;
    let lines = Lines::new(RING + CHUNKS * LINE)?;
    let bytes = case.messages * case.shape.payload as u64;
    let rounds = (bytes / chunk as u64).max(10 * CHUNKS as u64);
    let results = process::run(&case.cpus[..2], |member| {
        let source: Vec<u64> = (0..chunk as u64 / 8).collect();
        let expected: u64 = source.iter().sum();
        let flag = |round: u64| lines.word(RING + (round as usize % CHUNKS) * LINE);
        let place = |round: u64| (round as usize % CHUNKS) * chunk;
        member.barrier();
        let start = std::time::Instant::now();
        for round in 0..rounds {
            // An even flag is a free chunk of that lap, an odd one a full chunk.
            let lap = round / CHUNKS as u64 * 2;
            let (mine, next) = if member.rank == 0 {
                (lap, lap + 1)
            } else {
                (lap + 1, lap + 2)
            };
            while flag(round).load(Acquire) != mine {
                std::hint::spin_loop();
            }
            if member.rank == 0 {
                #[allow(unsafe_code)]
                // SAFETY: the chunk is free: the other process waits for the flag.
                unsafe {
                    lines.write(place(round), &source)
                };
            } else {
                #[allow(unsafe_code)]
                // SAFETY: the chunk is full: the other process waits for the flag.
                let sum = unsafe { lines.sum(place(round), chunk / 8) };
                ensure!(sum == expected, "chunk {round} arrived wrong");
            }
            flag(round).store(next, Release);
        }
        let per_byte = start.elapsed().as_nanos() as f64 / (rounds * chunk as u64) as f64;
        member.report_number(0, per_byte * case.shape.payload as f64);
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[1][0])])
}
