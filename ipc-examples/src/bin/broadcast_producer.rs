//! The producer of a pair: publishes a million prices, which any number of `broadcast_consumer` follow.
//!
//! `--role both` starts a consumer too.

use anyhow::Result;
use ipc_core::{Layout, bytemuck};
use ipc_ring::{Ring, broadcast};

/// A message: plain data without padding.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Price {
    number: u64,
    price: f64,
}

const PRICES: u64 = 1_000_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("broadcast_consumer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = broadcast::Ring::<Price>::options()
        .capacity(1024)
        .open_or_create("example-broadcast")?;
    let mut producer = ring.producer()?;
    for number in 0..PRICES {
        let price = 100.0 + (number % 100) as f64 / 100.0;
        // Waits for lossless readers alone. Others miss what they are too slow for.
        producer.push(Price { number, price })?;
    }
    producer.close();
    println!("producer: published {PRICES} prices");

    ipc_examples::roles::wait_for(consumer)
}
