//! The producer of a pair: sends orders to `channel_consumer`, which may be started before it or after it.
//!
//! `--role both` starts the consumer too.

use anyhow::Result;
use ipc_ring::{Ring, channel};
use serde::{Deserialize, Serialize};

/// Any type that `serde` knows: strings, vectors, maps and enums too. The same as in the consumer.
#[derive(Serialize, Deserialize)]
enum Order {
    Buy { symbol: String, pieces: u32 },
    Cancel(Vec<u64>),
}

const ORDERS: u32 = 200_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("channel_consumer")?;

    // Whoever comes first creates the channel; the other one opens it.
    let ring = channel::Ring::<Order>::options().open_or_create("example-channel")?;
    let mut producer = ring.producer()?;
    for number in 0..ORDERS {
        let order = if number % 4 < 3 {
            Order::Buy {
                symbol: format!("SYM{}", number % 100),
                pieces: number % 10,
            }
        } else {
            Order::Cancel(vec![number.into(); 3])
        };
        // Encoded straight into the ring. Waits while it is full.
        producer.push(&order)?;
    }
    // The consumer takes what is in the channel, and is then told that this was all.
    producer.close();
    println!("producer: sent {ORDERS} orders");

    ipc_examples::roles::wait_for(consumer)
}
