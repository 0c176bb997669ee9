//! One thread, one epoll, three rings: each end becomes ready as any other descriptor does.

use anyhow::Result;
use ipc_core::event::Readiness;
use ipc_core::segment::Place;
use ipc_ring::{PopError, Ring, spsc};
use rustix::event::epoll;

const MESSAGES: u64 = 10_000;

fn main() -> Result<()> {
    let rings: Vec<spsc::Ring<u64>> = (0..3)
        .map(|_| {
            spsc::Ring::options()
                .capacity(64)
                .create(Place::Memfd("feed".into()))
        })
        .collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        // Producers at three speeds; they could as well be other processes.
        for (index, ring) in rings.iter().enumerate() {
            scope.spawn(move || -> Result<()> {
                let mut producer = ring.producer()?;
                for message in 0..MESSAGES {
                    producer.push(message)?;
                    if message % 1000 == 0 {
                        std::thread::sleep(std::time::Duration::from_micros(100 << index));
                    }
                }
                producer.close();
                Ok(())
            });
        }
        consume(&rings)
    })
}

fn consume(rings: &[spsc::Ring<u64>]) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut ends = Vec::new();
    for (index, ring) in rings.iter().enumerate() {
        let ready = Readiness::new()?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, &ready, data, epoll::EventFlags::IN)?;
        ends.push((ring.consumer()?, ready, 0));
    }
    let mut events = Vec::with_capacity(8);
    // The first look at each arms its descriptor.
    let mut due: Vec<usize> = (0..ends.len()).collect();
    let mut open = ends.len();
    let mut turns = 0;
    while open > 0 {
        for index in due.drain(..) {
            let (consumer, ready, next) = &mut ends[index];
            loop {
                match consumer.try_pop_or_arm(ready) {
                    Ok(message) => {
                        anyhow::ensure!(message == *next, "{message} came for {next}");
                        *next += 1;
                    }
                    Err(PopError::Empty) => break,
                    Err(PopError::Closed) => {
                        epoll::delete(&epoll, &*ready)?;
                        open -= 1;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if open > 0 {
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            due.extend(events.drain(..).map(|event| event.data.u64() as usize));
            turns += 1;
        }
    }
    let total: u64 = ends.iter().map(|(_, _, count)| count).sum();
    println!(
        "{total} messages from {} rings in {turns} turns of the loop",
        ends.len()
    );
    Ok(())
}
