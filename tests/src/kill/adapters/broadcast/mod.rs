//! One producer, and readers of every policy: lossless, lossy, latest.

mod cases;
mod look;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ipc_core::event::Wait;
use ipc_ring::broadcast::{Lossless, Lossy, Producer, Ring, Start};
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring as _};

use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

type Of = Ring<Parcel>;

/// Messages that fit in.
const CAPACITY: usize = 4;
/// How long anybody waits at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the victim pushes.
const NEW: u64 = 100;
/// What a sleeping producer pushes once there is room.
const SLEEPERS: u64 = 50;
/// What newcomers push at last.
const LAST: u64 = 9000;

/// The adapter.
pub(super) struct Broadcast;

impl Adapter for Broadcast {
    fn kind(&self) -> &'static str {
        "broadcast"
    }

    fn account(&self) -> &'static str {
        "A producer that died before it published: its successor writes the same position, and readers that may miss \
         messages miss the one that was in the slot before. The producer waits for a lossless reader only as long as it \
         lives, and looks every 40 ms; one that starts as its successor goes on where its commits end, and is told how many \
         were written over since. The death of a lossy reader matters to nobody. A reader that has to wait is told once \
         that its producer died. The rows show what a newcomer reads from the oldest message on; where a lossless reader \
         dies, what its successor reads."
    }

    fn cases(&self) -> Vec<Case> {
        cases::cases()
    }

    fn pairs(&self) -> Vec<Pair> {
        cases::pairs()
    }

    fn stage(&self, case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
        stage::stage(case, cast)
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let ring = Of::in_segment(ground.segment(), ONLY)?;
        let operation = case.operation;
        if ["claim", "join"]
            .iter()
            .any(|verb| operation.contains(verb))
        {
            return join(operation, ring);
        }
        if cases::is_reader(operation) {
            return receive(operation, &ring);
        }
        send(operation, producer(&ring)?)
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        Of::in_segment(ground.segment(), ONLY)?;
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        look::inspect(case, &Of::in_segment(ground.segment(), ONLY)?)
    }
}

fn producer(ring: &Of) -> Result<Producer<Parcel>, ClaimError> {
    let mut producer = ring.producer()?;
    producer.set_wait(Wait::Block);
    Ok(producer)
}

fn lossless(ring: &Of, start: Start) -> Result<Lossless<Parcel>, ClaimError> {
    let mut reader = ring.lossless(start)?;
    reader.set_wait(Wait::Block);
    Ok(reader)
}

fn lossy(ring: &Of, start: Start) -> Result<Lossy<Parcel>, ClaimError> {
    let mut reader = ring.lossy(start)?;
    reader.set_wait(Wait::Block);
    Ok(reader)
}

/// The operations of newcomers.
fn join(operation: &str, ring: Of) -> Result<Operation> {
    // Joining the segment is another kind's operation.
    ring.segment().participant()?;
    let mut held: (Vec<_>, Vec<_>, Vec<_>) = Default::default();
    let start = match operation {
        "join lossless at the newest" => Start::Newest,
        "join as a successor" => Start::Successor,
        _ => Start::Oldest,
    };
    Ok(match operation {
        "claim producer" | "one of two claims producer" => {
            let alone = operation == "claim producer";
            Box::new(move || match ring.producer() {
                Ok(producer) => {
                    held.0.push(producer);
                    Ok(())
                }
                Err(ClaimError::Taken { .. }) if !alone => Ok(()),
                Err(error) => Err(error.into()),
            })
        }
        "join lossy" => Box::new(move || {
            held.2.push(ring.lossy(Start::Oldest)?);
            Ok(())
        }),
        _ => Box::new(move || match ring.lossless(start) {
            Ok(reader) => {
                held.1.push(reader);
                Ok(())
            }
            // Where every place is taken.
            Err(ClaimError::Taken { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }),
    })
}

/// The operations of the producer.
fn send(operation: &str, mut producer: Producer<Parcel>) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    let batch = [NEW, NEW + 1, NEW + 2].map(Parcel::new);
    if operation.ends_with("producer") {
        let mut last = Some(producer);
        let close = operation == "close by producer";
        return Ok(Box::new(move || {
            if let Some(producer) = last.take()
                && close
            {
                producer.close();
            }
            Ok(())
        }));
    }
    Ok(match operation {
        "push" => Box::new(move || Ok(producer.push_until(Parcel::new(NEW), until)?)),
        "try push" => Box::new(move || match producer.try_push(Parcel::new(NEW)) {
            Ok(()) | Err(PushError::Full(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "push batch" => Box::new(move || {
            producer.try_push_slice(&batch)?;
            Ok(())
        }),
        "reserve and commit" => Box::new(move || {
            let mut place = producer.try_reserve()?;
            place.write(&Parcel::new(NEW));
            place.commit();
            Ok(())
        }),
        "reserve and drop" => Box::new(move || {
            let mut place = producer.try_reserve()?;
            place.write(&Parcel::new(NEW));
            drop(place);
            Ok(())
        }),
        other => bail!("no operation {other}"),
    })
}

/// The operations of readers.
fn receive(operation: &str, ring: &Of) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    match operation {
        "pop lossy" => {
            let mut reader = lossy(ring, Start::Oldest)?;
            return Ok(Box::new(move || taken(reader.try_pop())));
        }
        "pop latest" => {
            let mut reader = ring.latest()?;
            return Ok(Box::new(move || taken(reader.try_pop())));
        }
        _ => {}
    }
    let mut reader = lossless(ring, Start::Oldest)?;
    Ok(match operation {
        "pop lossless" => Box::new(move || taken(reader.pop_until(until))),
        "try pop lossless" => Box::new(move || taken(reader.try_pop())),
        "pop batch lossless" => Box::new(move || {
            let mut room = [Parcel::new(0); 3];
            let count = reader.try_pop_into(&mut room)?;
            room[..count]
                .iter()
                .try_for_each(|parcel| parcel.open().map(drop))
        }),
        "leave lossless" | "close by reader" => {
            let mut last = Some(reader);
            let close = operation == "close by reader";
            Box::new(move || {
                if let Some(reader) = last.take()
                    && close
                {
                    reader.close();
                }
                Ok(())
            })
        }
        other => bail!("no operation {other}"),
    })
}

/// A message that is whole, or a reason that the state explains.
fn taken(popped: Result<Parcel, PopError>) -> Result<()> {
    match popped {
        Ok(parcel) => parcel.open().map(drop),
        Err(PopError::Lagged(_) | PopError::Empty) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
