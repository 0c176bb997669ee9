//! The consumer of a pair: does the jobs of `mpmc_producer`, in two threads.
//!
//! `--role both` starts the producer too.

use anyhow::Result;
use ipc_core::segment::Segment;
use ipc_core::{Layout, bytemuck};
use ipc_ring::{PopError, Ring, mpmc};

/// A message: the same as in the producer.
#[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Job {
    from: u64,
    to: u64,
}

/// Takes jobs until there are no more. Tells how many it did, and what came of them.
fn work(ring: &mpmc::Ring<Job>) -> Result<(u64, u64)> {
    let mut consumer = ring.consumer()?;
    let (mut done, mut sum) = (0, 0);
    loop {
        // A job that is read where it lies belongs to us until it is released. If we are killed before, another worker
        // gets it, marked as redelivered.
        match consumer.read() {
            Ok(job) => {
                let Job { from, to } = job.get();
                sum += (from..to).sum::<u64>();
                done += 1;
                job.release();
            }
            Err(PopError::Closed) => return Ok((done, sum)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("mpmc_producer")?;

    // Whoever comes first creates the ring; the others open it.
    let ring = mpmc::Ring::<Job>::options()
        .capacity(1024)
        .open_or_create("example-mpmc")?;
    let (mut done, mut sum) = (0, 0);
    std::thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(|| work(&ring)));
        workers.into_iter().try_for_each(|worker| {
            let (jobs, part) = worker.join().expect("it does not panic")?;
            done += jobs;
            sum += part;
            anyhow::Ok(())
        })
    })?;
    println!("consumer: did {done} jobs, sum {sum}");
    // Whoever needs the ring has it open.
    Segment::unlink("example-mpmc")?;

    ipc_examples::roles::wait_for(producer)
}
