//! The consumer of a pair: takes the lines of `bytes_producer`, which may be started before it or after it.
//!
//! `--role both` starts the producer too.

use anyhow::{Result, ensure};
use ipc_core::segment::Segment;
use ipc_ring::{PopError, Ring, bytes};

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("bytes_producer")?;

    // Whoever comes first creates the ring; the other one opens it.
    let ring = bytes::Ring::options()
        .capacity(1 << 16)
        .open_or_create("example-bytes")?;
    let mut consumer = ring.consumer()?;
    // Its memory is used for every record.
    let mut record = Vec::new();
    let (mut lines, mut letters) = (0, 0);
    loop {
        // Waits while the ring is empty.
        match consumer.pop(&mut record) {
            Ok(_) => {
                let line = std::str::from_utf8(&record)?;
                let expected = format!("line {lines}");
                ensure!(line.starts_with(&expected), "{line:?} for {expected:?}");
                letters += line.matches('x').count();
                lines += 1;
            }
            // The producer has closed the ring, and everything in it has been taken.
            Err(PopError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("consumer: took {lines} lines, {letters} times x");
    // Both have it open, and nobody else needs its name any more.
    Segment::unlink("example-bytes")?;

    ipc_examples::roles::wait_for(producer)
}
