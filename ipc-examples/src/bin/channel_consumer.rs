//! The consumer of a pair: takes the orders of `channel_producer`, which may be started before it or after it.
//!
//! `--role both` starts the producer too.

use anyhow::{Result, ensure};
use ipc_core::segment::Segment;
use ipc_ring::{Ring, channel};
use serde::{Deserialize, Serialize};

/// The same as in the producer.
#[derive(Serialize, Deserialize)]
enum Order {
    Buy { symbol: String, pieces: u32 },
    Cancel(Vec<u64>),
}

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("channel_producer")?;

    // Whoever comes first creates the channel; the other one opens it.
    let ring = channel::Ring::<Order>::options().open_or_create("example-channel")?;
    let mut consumer = ring.consumer()?;
    let (mut bought, mut cancelled) = (0, 0);
    loop {
        // Waits while the channel is empty. What is no order is an error, and gone.
        match consumer.pop() {
            Ok(Order::Buy { symbol, pieces }) => {
                ensure!(symbol.starts_with("SYM"), "an odd symbol: {symbol}");
                bought += pieces;
            }
            Ok(Order::Cancel(orders)) => cancelled += orders.len(),
            // The producer has closed the channel, and everything in it has been taken.
            Err(channel::PopError::Ring(ipc_ring::PopError::Closed)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("consumer: bought {bought} pieces, cancelled {cancelled} orders");
    // Both have it open, and nobody else needs its name any more.
    Segment::unlink("example-channel")?;

    ipc_examples::roles::wait_for(producer)
}
