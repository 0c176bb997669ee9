//! The consumer of a pair: follows the prices of `broadcast_producer`, and knows which ones it has missed.
//!
//! `--role both` starts the producer too.

use anyhow::{Result, ensure};
use ipc_core::segment::Segment;
use ipc_core::{Layout, bytemuck};
use ipc_ring::broadcast::Start;
use ipc_ring::{PopError, Ring, broadcast};

/// A message: the same as in the producer.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Price {
    number: u64,
    price: f64,
}

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("broadcast_producer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = broadcast::Ring::<Price>::options()
        .capacity(1024)
        .open_or_create("example-broadcast")?;
    // A lossy reader. `lossless` would make the producer wait for us, `latest` would skip to the newest price each time.
    let mut reader = ring.lossy(Start::Oldest)?;
    let mut next = None;
    let mut last = f64::NAN;
    loop {
        match reader.pop() {
            Ok(Price { number, price }) => {
                ensure!(
                    next.is_none_or(|next| next == number),
                    "{number} came for {next:?}"
                );
                next = Some(number + 1);
                last = price;
            }
            // Exactly so many were written over before we came to them.
            Err(PopError::Lagged(missed)) => next = next.map(|next| next + missed),
            Err(PopError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let seen = next.unwrap_or(0);
    println!("consumer: followed {seen} prices, the last is {last}");
    // Whoever needs the ring has it open.
    Segment::unlink("example-broadcast")?;

    ipc_examples::roles::wait_for(producer)
}
