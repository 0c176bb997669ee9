//! The producer of a pair: four threads report to `lanes_consumer`, each by a lane of its own. Start as many of it as you
//! like, before the consumer or after it.
//!
//! `--role both` starts the consumer too.

use anyhow::Result;
use ipc_ring::{Ring, lanes};

const THREADS: u64 = 4;
const REPORTS: u64 = 50_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("lanes_consumer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = lanes::Ring::options()
        .capacity(1 << 16)
        .lanes(16)
        .open_or_create("example-lanes")?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let ring = &ring;
                scope.spawn(move || -> Result<()> {
                    // Dropped at the end, which frees the lane for another producer.
                    let mut producer = ring.producer()?;
                    for number in 0..REPORTS {
                        producer.push(format!("{worker} {number}").as_bytes())?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    // The consumer takes what is in the lanes, and is then told that this was all.
    ring.close();
    println!("producer: sent {} reports", THREADS * REPORTS);

    ipc_examples::roles::wait_for(consumer)
}
