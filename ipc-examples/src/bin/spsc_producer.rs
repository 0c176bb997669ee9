//! The producer of a pair: sends a million ticks to `spsc_consumer`, which may be started before it or after it.
//!
//! `--role both` starts the consumer too.

use anyhow::Result;
use ipc_core::{Layout, bytemuck};
use ipc_ring::{Ring, spsc};

/// A message: plain data without padding. If it is another one in the consumer, opening the ring tells the difference.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Tick {
    number: u64,
    price: f64,
}

const TICKS: u64 = 1_000_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("spsc_consumer")?;

    // Whoever comes first creates the ring; the other one opens it.
    let ring = spsc::Ring::<Tick>::options()
        .capacity(1024)
        .open_or_create("example-spsc")?;
    let mut producer = ring.producer()?;
    for number in 0..TICKS {
        let price = 100.0 + (number % 100) as f64 / 100.0;
        // Waits while the ring is full. An error if the consumer has died: whether to wait for a new one is ours to say.
        producer.push(Tick { number, price })?;
    }
    // The consumer takes what is in the ring, and is then told that this was all.
    producer.close();
    println!("producer: sent {TICKS} ticks");

    ipc_examples::roles::wait_for(consumer)
}
