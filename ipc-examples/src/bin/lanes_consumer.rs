//! The consumer of a pair: takes the reports of all threads of `lanes_producer`, which may be started before it or after it.
//!
//! `--role both` starts the producer too.

use anyhow::{Context, Result, ensure};
use ipc_core::segment::Segment;
use ipc_ring::{PopError, Ring, lanes};

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("lanes_producer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = lanes::Ring::options()
        .capacity(1 << 16)
        .lanes(16)
        .open_or_create("example-lanes")?;
    let mut consumer = ring.consumer()?;
    let (mut report, mut next) = (Vec::new(), [0_u64; 4]);
    loop {
        // Waits while all lanes are empty.
        match consumer.pop(&mut report) {
            Ok(_) => {
                let text = std::str::from_utf8(&report)?;
                let (worker, number) = text.split_once(' ').context("not a report")?;
                let expected = next.get_mut(worker.parse::<usize>()?);
                let expected = expected.context("an unknown worker")?;
                // In the order of its producer; the others come in between.
                ensure!(number.parse() == Ok(*expected), "{text} for {expected}");
                *expected += 1;
            }
            // The producer has closed the ring, and everything in it has been taken.
            Err(PopError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("consumer: took {} reports", next.iter().sum::<u64>());
    // All have it open, and nobody else needs its name any more.
    Segment::unlink("example-lanes")?;

    ipc_examples::roles::wait_for(producer)
}
