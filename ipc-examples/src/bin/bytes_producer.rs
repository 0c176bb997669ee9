//! The producer of a pair: sends lines of a log to `bytes_consumer`, which may be started before it or after it.
//!
//! `--role both` starts the consumer too.

use std::io::Write;

use anyhow::Result;
use ipc_ring::{Ring, bytes};

const LINES: u64 = 300_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("bytes_consumer")?;

    // Whoever comes first creates the ring; the other one opens it.
    let ring = bytes::Ring::options()
        .capacity(1 << 16)
        .open_or_create("example-bytes")?;
    let mut producer = ring.producer()?;
    for number in 0..LINES {
        if number % 2 == 0 {
            // A record that exists is copied in.
            producer.push(format!("line {number}\n").as_bytes())?;
        } else {
            // One that does not is written where it will lie: room for the longest, of which it takes what it needs.
            let mut record = producer.reserve(64)?;
            writeln!(
                record,
                "line {number}, {}",
                "x".repeat(number as usize % 30)
            )?;
            let len = record.written();
            record.commit_len(len)?;
        }
    }
    // The consumer takes what is in the ring, and is then told that this was all.
    producer.close();
    println!("producer: sent {LINES} lines");

    ipc_examples::roles::wait_for(consumer)
}
