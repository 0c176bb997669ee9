//! The producer of a pair: hands out jobs to `mpmc_consumer`, from two threads. Start as many of either as you like.
//!
//! `--role both` starts the consumer too.

use anyhow::Result;
use ipc_core::{Layout, bytemuck};
use ipc_ring::{Ring, mpmc};

/// A message: plain data without padding.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Job {
    from: u64,
    to: u64,
}

const JOBS: u64 = 100_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("mpmc_consumer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = mpmc::Ring::<Job>::options()
        .capacity(1024)
        .open_or_create("example-mpmc")?;
    std::thread::scope(|scope| {
        let halves = [0..JOBS / 2, JOBS / 2..JOBS].map(|jobs| {
            let ring = &ring;
            scope.spawn(move || -> Result<()> {
                // One handle for each thread.
                let mut producer = ring.producer()?;
                for job in jobs {
                    let (from, to) = (10 * job, 10 * job + 10);
                    producer.push(Job { from, to })?;
                }
                Ok(())
            })
        });
        halves
            .into_iter()
            .try_for_each(|half| half.join().expect("it does not panic"))
    })?;
    // The consumers take what is in the ring, and are then told that this was all.
    ring.close();
    println!("producer: sent {JOBS} jobs");

    ipc_examples::roles::wait_for(consumer)
}
