//! The consumer of a pair: takes the ticks of `spsc_producer`, which may be started before it or after it.
//!
//! `--role both` starts the producer too.

use anyhow::{Result, ensure};
use ipc_core::segment::Segment;
use ipc_core::{Layout, bytemuck};
use ipc_ring::{PopError, Ring, spsc};

/// A message: the same as in the producer.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Tick {
    number: u64,
    price: f64,
}

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("spsc_producer")?;

    // Whoever comes first creates the ring; the other one opens it.
    let ring = spsc::Ring::<Tick>::options()
        .capacity(1024)
        .open_or_create("example-spsc")?;
    let mut consumer = ring.consumer()?;
    let (mut count, mut highest) = (0, 0.0_f64);
    loop {
        // Waits while the ring is empty.
        match consumer.pop() {
            Ok(tick) => {
                ensure!(
                    tick.number == count,
                    "tick {} came for {count}",
                    tick.number
                );
                highest = highest.max(tick.price);
                count += 1;
            }
            // The producer has closed the ring, and everything in it has been taken.
            Err(PopError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("consumer: took {count} ticks, highest price {highest}");
    // Both have it open, and nobody else needs its name any more.
    Segment::unlink("example-spsc")?;

    ipc_examples::roles::wait_for(producer)
}
