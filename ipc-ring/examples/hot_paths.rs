//! The calls that programs make for every message, so many times, for whoever counts their instructions.
//!
//! `hot_paths PATH COUNT`: what COUNT costs beyond half of it is what the path costs. Both ends are in one thread, so no
//! call ever waits, and the count is the same in every run.

use std::error::Error;
use std::hint::black_box;

use ipc_core::ids::Ids;
use ipc_core::segment::Place;
use ipc_core::sync::{Attach, Latest, Mutex};
use ipc_ring::broadcast::Start;
use ipc_ring::{Ring, broadcast, bytes, channel, lanes, mpmc, spsc};

type Outcome = Result<(), Box<dyn Error>>;

fn nowhere() -> Place {
    Place::Memfd("hot-paths".into())
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which path?")?;
    let count = arguments.next().ok_or("how often?")?.parse()?;
    match &*path {
        "spsc" => pairs::<1>(count),
        "spsc-64" => pairs::<8>(count),
        "spsc-batch" => batches(count),
        "mpmc" => queue(count),
        "mpmc-batch" => queue_batches(count),
        "bytes-64" => records::<64>(count),
        "bytes-1024" => records::<1024>(count),
        "lanes-64" => lane(count),
        "channel" => values(count),
        "broadcast-lossy" => lossy(count),
        "broadcast-lossless" => lossless(count),
        "latest" => register(count),
        "mutex" => lock(count),
        "lease" => ids(count),
        other => Err(format!("there is no path {other:?}").into()),
    }
}

fn pairs<const W: usize>(count: u64) -> Outcome {
    let ring = spsc::Ring::<[u64; W]>::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    for number in 0..count {
        producer.push(black_box([number; W]))?;
        black_box(consumer.pop()?);
    }
    Ok(())
}

fn batches(count: u64) -> Outcome {
    let ring = spsc::Ring::<u64>::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    let (messages, mut taken) = ([7; 64], [0; 64]);
    for _ in 0..count / 64 {
        producer.push_slice(black_box(&messages))?;
        black_box(consumer.pop_into(&mut taken)?);
    }
    Ok(())
}

fn queue(count: u64) -> Outcome {
    let ring = mpmc::Ring::<u64>::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    for number in 0..count {
        producer.push(black_box(number))?;
        black_box(consumer.pop()?);
    }
    Ok(())
}

fn queue_batches(count: u64) -> Outcome {
    let ring = mpmc::Ring::<u64>::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    let (messages, mut taken) = ([7; 64], [0; 64]);
    for _ in 0..count / 64 {
        producer.push_slice(black_box(&messages))?;
        black_box(consumer.pop_into(&mut taken)?);
    }
    Ok(())
}

fn records<const N: usize>(count: u64) -> Outcome {
    let ring = bytes::Ring::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    let (record, mut taken) = ([7; N], [0; N]);
    for _ in 0..count {
        producer.push(black_box(&record[..]))?;
        black_box(consumer.pop_into(&mut taken)?);
    }
    Ok(())
}

fn lane(count: u64) -> Outcome {
    let ring = lanes::Ring::options().lanes(4).create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    let (record, mut taken) = ([7; 64], [0; 64]);
    for _ in 0..count {
        producer.push(black_box(&record[..]))?;
        black_box(consumer.pop_into(&mut taken)?);
    }
    Ok(())
}

fn values(count: u64) -> Outcome {
    let ring = channel::Ring::<(u64, String)>::options().create(nowhere())?;
    let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
    let value = (7, "a name".to_owned());
    for _ in 0..count {
        producer.push(black_box(&value))?;
        black_box(consumer.pop()?);
    }
    Ok(())
}

fn lossy(count: u64) -> Outcome {
    let ring = broadcast::Ring::<u64>::options().create(nowhere())?;
    let (mut producer, mut reader) = (ring.producer()?, ring.lossy(Start::Oldest)?);
    for number in 0..count {
        producer.push(black_box(number))?;
        black_box(reader.pop()?);
    }
    Ok(())
}

fn lossless(count: u64) -> Outcome {
    let ring = broadcast::Ring::<u64>::options().create(nowhere())?;
    let (mut producer, mut reader) = (ring.producer()?, ring.lossless(Start::Oldest)?);
    for number in 0..count {
        producer.push(black_box(number))?;
        black_box(reader.pop()?);
    }
    Ok(())
}

fn register(count: u64) -> Outcome {
    let latest = Latest::<[u64; 7]>::create(nowhere(), ())?;
    latest.set(&[7; 7])?;
    let mut value = [0; 7];
    for _ in 0..count {
        black_box(latest.get_into(black_box(&mut value))?);
    }
    Ok(())
}

fn lock(count: u64) -> Outcome {
    let mutex = Mutex::<u64>::create(nowhere(), ())?;
    for _ in 0..count {
        let mut guard = mutex.lock().map_err(|error| error.to_string())?;
        let value = guard.get();
        guard.set(&(value + 1));
    }
    Ok(())
}

fn ids(count: u64) -> Outcome {
    let ids = Ids::create(nowhere())?;
    let mut lease = ids.lease()?;
    for _ in 0..count {
        black_box(lease.next()?);
    }
    Ok(())
}
