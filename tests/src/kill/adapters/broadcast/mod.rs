//! One producer, and readers of every sort: lossless, lossy, latest. Messages of a type, and bytes.

mod cases;
mod kinds;
mod look;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ipc_ring::broadcast::Start;
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring as _};

use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;
use kinds::Reader as _;
pub(in crate::kill) use kinds::{Air, Bytes, Typed};

/// Messages that fit in.
const CAPACITY: usize = 4;
/// How long anybody waits at most: longer than a busy machine may need to lead a victim to its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the victim pushes.
const NEW: u64 = 100;
/// What a sleeping producer pushes once there is room.
const SLEEPERS: u64 = 50;
/// What newcomers push at last.
const LAST: u64 = 9000;

/// The adapter of a kind of broadcast.
pub(super) struct Broadcast<A>(pub(super) A);

impl<A: Air> Adapter for Broadcast<A> {
    fn kind(&self) -> &'static str {
        A::KIND
    }

    fn account(&self) -> &'static str {
        A::ACCOUNT
    }

    fn cases(&self) -> Vec<Case> {
        cases::cases(A::SPARES)
    }

    fn pairs(&self) -> Vec<Pair> {
        cases::pairs(A::SPARES)
    }

    fn stage(&self, case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
        stage::stage::<A>(case, cast)
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let ring = A::Ring::in_segment(ground.segment(), ONLY)?;
        let operation = case.operation;
        if ["claim", "join"]
            .iter()
            .any(|verb| operation.contains(verb))
        {
            return join::<A>(operation, ring);
        }
        if cases::is_reader(operation) {
            return receive::<A>(operation, &ring);
        }
        send::<A>(operation, A::producer(&ring)?)
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        A::Ring::in_segment(ground.segment(), ONLY)?;
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        look::inspect::<A>(case, &A::Ring::in_segment(ground.segment(), ONLY)?)
    }
}

/// The operations of newcomers.
fn join<A: Air>(operation: &str, ring: A::Ring) -> Result<Operation> {
    // Joining the segment is another kind's operation.
    A::segment(&ring).participant()?;
    let mut held: (Vec<_>, Vec<_>, Vec<_>) = Default::default();
    let start = match operation {
        "join lossless at the newest" => Start::Newest,
        "join as a successor" => Start::Successor,
        _ => Start::Oldest,
    };
    Ok(match operation {
        "claim producer" | "one of two claims producer" => {
            let alone = operation == "claim producer";
            Box::new(move || match A::producer(&ring) {
                Ok(producer) => {
                    held.0.push(producer);
                    Ok(())
                }
                Err(ClaimError::Taken { .. }) if !alone => Ok(()),
                Err(error) => Err(error.into()),
            })
        }
        "join lossy" => Box::new(move || {
            held.2.push(A::lossy(&ring, Start::Oldest)?);
            Ok(())
        }),
        _ => Box::new(move || match A::lossless(&ring, start) {
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
fn send<A: Air>(operation: &str, mut producer: A::Producer) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    if operation.ends_with("producer") {
        let mut last = Some(producer);
        let close = operation == "close by producer";
        return Ok(Box::new(move || {
            if let Some(producer) = last.take()
                && close
            {
                A::close_producer(producer);
            }
            Ok(())
        }));
    }
    Ok(match operation {
        "push" => Box::new(move || Ok(A::push(&mut producer, NEW, until)?)),
        "try push" => Box::new(move || match A::try_push(&mut producer, NEW) {
            Ok(()) | Err(PushError::Full(())) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "push batch" => Box::new(move || A::push_batch(&mut producer, [NEW, NEW + 1, NEW + 2])),
        "reserve and commit" => Box::new(move || A::reserve(&mut producer, NEW, true)),
        "reserve and drop" => Box::new(move || A::reserve(&mut producer, NEW, false)),
        other => bail!("no operation {other}"),
    })
}

/// The operations of readers.
fn receive<A: Air>(operation: &str, ring: &A::Ring) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    match operation {
        "pop lossy" => {
            let mut reader = A::lossy(ring, Start::Oldest)?;
            return Ok(Box::new(move || taken(reader.try_pop())));
        }
        "pop latest" => {
            let mut reader = A::latest(ring)?;
            return Ok(Box::new(move || taken(reader.try_pop())));
        }
        _ => {}
    }
    let mut reader = A::lossless(ring, Start::Oldest)?;
    Ok(match operation {
        "pop lossless" => Box::new(move || taken(reader.pop(until))),
        "try pop lossless" => Box::new(move || taken(reader.try_pop())),
        "pop batch lossless" => Box::new(move || reader.pop_batch()),
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
