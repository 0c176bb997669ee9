//! Rings from which each message is taken once: `spsc`, `mpmc`, `bytes`, `lanes`, `channel`.

mod cases;
mod kinds;
mod lanes;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring};

use kinds::Finish;
pub(in crate::kill) use kinds::{Bytes, Mpmc, Queue, Spsc};
pub(in crate::kill) use lanes::{Channel, Lanes};

use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::show;

/// Messages that fit in.
const CAPACITY: usize = 4;
/// How long anybody waits at most: longer than a busy machine may need to lead a victim to its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the victim pushes.
const NEW: u64 = 100;
/// What a second victim pushes.
const OTHER: u64 = 200;
/// What a sleeping producer pushes once there is room.
const SLEEPERS: u64 = 50;
/// What newcomers push at last.
const LAST: u64 = 9000;

/// The adapter of a kind of ring.
pub(super) struct Of<Q>(pub(super) Q);

/// Whether the victim's part is the consumer's.
fn is_consumer(operation: &str) -> bool {
    ["pop", "try pop", "read"]
        .iter()
        .any(|verb| operation.starts_with(verb))
        || operation.ends_with("consumer")
}

impl<Q: Queue> Adapter for Of<Q> {
    fn kind(&self) -> &'static str {
        Q::KIND
    }

    fn account(&self) -> &'static str {
        Q::ACCOUNT
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = cases::common();
        cases.extend(if Q::EXCLUSIVE {
            cases::exclusive(Q::KIND != "spsc")
        } else {
            cases::shared()
        });
        cases.retain(|case| Q::LENDS || !cases::lends(case));
        cases
    }

    fn pairs(&self) -> Vec<Pair> {
        let mut pairs = if Q::EXCLUSIVE {
            cases::exclusive_pairs()
        } else {
            cases::shared_pairs()
        };
        if Q::KIND == Lanes::KIND {
            pairs.push(cases::two_pushes());
        }
        pairs.retain(|pair| Q::LENDS || !(cases::lends(&pair.first) || cases::lends(&pair.second)));
        pairs
    }

    fn stage(&self, case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
        stage::stage::<Q>(case, cast)
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let ring = Q::Ring::in_segment(ground.segment(), ONLY)?;
        if case.operation.contains("claim") {
            return claim::<Q>(case, ring);
        }
        if is_consumer(case.operation) {
            let consumer = Q::consumer(&ring)?;
            receive::<Q>(case, consumer)
        } else {
            let producer = Q::producer(&ring)?;
            send::<Q>(case, producer)
        }
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        Q::Ring::in_segment(ground.segment(), ONLY)?;
        Ok(())
    }

    fn inspect(&self, _: &Case, ground: &Ground, ledger: &[u64]) -> Result<String> {
        let ring = Q::Ring::in_segment(ground.segment(), ONLY)?;
        go_on::<Q>(&ring, None, None, ledger.to_vec())
    }
}

/// The operations of a newcomer.
fn claim<Q: Queue>(case: &Case, ring: Q::Ring) -> Result<Operation> {
    // Joining is another kind's operation.
    Q::segment(&ring).participant()?;
    let mut held: (Vec<_>, Vec<_>) = Default::default();
    Ok(match case.operation {
        "claim producer" => Box::new(move || {
            held.0.push(Q::producer(&ring)?);
            Ok(())
        }),
        "claim consumer" => Box::new(move || {
            held.1.push(Q::consumer(&ring)?);
            Ok(())
        }),
        // Of two that claim at the same time, one is refused.
        "one of two claims producer" => Box::new(move || match Q::producer(&ring) {
            Ok(producer) => {
                held.0.push(producer);
                Ok(())
            }
            Err(ClaimError::Taken { .. } | ClaimError::NoLane { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        other => bail!("no operation {other}"),
    })
}

/// The operations of a producer.
fn send<Q: Queue>(case: &Case, mut producer: Q::Producer) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    let mut last = None;
    if case.operation.ends_with("producer") {
        last = Some(producer);
        return Ok(match case.operation {
            "close by producer" => Box::new(move || {
                last.take().into_iter().for_each(Q::close_producer);
                Ok(())
            }),
            "give up producer" => Box::new(move || {
                drop(last.take());
                Ok(())
            }),
            other => bail!("no operation {other}"),
        });
    }
    drop(last);
    Ok(match case.operation {
        "push" => Box::new(move || Ok(Q::push(&mut producer, NEW, until)?)),
        "try push" => Box::new(move || match Q::try_push(&mut producer, NEW) {
            Ok(()) | Err(PushError::Full(())) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "push other" => Box::new(move || Ok(Q::push(&mut producer, OTHER, until)?)),
        "push unless closed" => Box::new(move || match Q::push(&mut producer, NEW, until) {
            Ok(()) | Err(PushError::Closed(())) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "push batch" => Box::new(move || Q::push_batch(&mut producer, [NEW, NEW + 1, NEW + 2])),
        "push whole batch" => {
            Box::new(move || Q::push_whole(&mut producer, [NEW, NEW + 1, NEW + 2], until))
        }
        "reserve and commit" => Box::new(move || Q::reserve(&mut producer, NEW, true)),
        "reserve and drop" => Box::new(move || Q::reserve(&mut producer, NEW, false)),
        other => bail!("no operation {other}"),
    })
}

/// The operations of a consumer.
fn receive<Q: Queue>(case: &Case, mut consumer: Q::Consumer) -> Result<Operation> {
    let until = Instant::now() + PATIENCE;
    let mut last = None;
    if case.operation.ends_with("consumer") {
        last = Some(consumer);
        return Ok(match case.operation {
            "close by consumer" => Box::new(move || {
                last.take().into_iter().for_each(Q::close_consumer);
                Ok(())
            }),
            "give up consumer" => Box::new(move || {
                drop(last.take());
                Ok(())
            }),
            other => bail!("no operation {other}"),
        });
    }
    drop(last);
    Ok(match case.operation {
        "pop" => Box::new(move || Q::pop(&mut consumer, until)?.open().map(drop)),
        "try pop" => Box::new(move || match Q::try_pop(&mut consumer) {
            Ok(parcel) => parcel.open().map(drop),
            Err(PopError::Empty) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "pop waiting batch" => Box::new(move || Q::pop_waiting(&mut consumer, until)),
        "pop batch" => Box::new(move || Q::pop_batch(&mut consumer)),
        "read and release" => Box::new(move || Q::read(&mut consumer, Finish::Release)),
        "read and put back" => Box::new(move || Q::read(&mut consumer, Finish::PutBack)),
        other => bail!("no operation {other}"),
    })
}

/// Takes what is in the ring, then sends messages through it, with the survivors' handles where there are some.
fn go_on<Q: Queue>(
    ring: &Q::Ring,
    producer: Option<Q::Producer>,
    consumer: Option<Q::Consumer>,
    mut taken: Vec<u64>,
) -> Result<String> {
    let mut consumer = match consumer {
        Some(consumer) => consumer,
        None => Q::consumer(ring).context("a new consumer")?,
    };
    let mut producer = match producer {
        Some(producer) => producer,
        None => Q::producer(ring).context("a new producer")?,
    };
    if !Q::EXCLUSIVE {
        // Nobody needs to take over a role, so nobody has come by the dead on the way.
        let segment = Q::segment(ring);
        for id in segment.participants() {
            segment.recover(id);
        }
    }
    let mut drain = |taken: &mut Vec<u64>| -> Result<PopError> {
        // One more than can be in it, so that a ring that gives for ever is noticed.
        for _ in 0..=CAPACITY {
            match Q::try_pop(&mut consumer) {
                Ok(parcel) => taken.push(parcel.open()?),
                Err(end) => return Ok(end),
            }
        }
        bail!("more messages than there is room for: {taken:?}")
    };
    let end = drain(&mut taken)?;
    taken.retain(|number| *number != LAST - 1);
    let closed = Q::is_closed(ring);
    let expected = if closed {
        PopError::Closed
    } else {
        PopError::Empty
    };
    ensure!(end == expected, "a drained ring says `{end}`");
    for round in 0..3 {
        let numbers = (0..CAPACITY as u64).map(|i| LAST + round * 10 + i);
        let pushed: Vec<u64> = numbers
            .take_while(|number| Q::try_push(&mut producer, *number).is_ok())
            .collect();
        let expected = match (closed, Q::FIRM) {
            (true, _) => 0..=0,
            (false, true) => CAPACITY..=CAPACITY,
            (false, false) => CAPACITY / 2..=CAPACITY,
        };
        ensure!(
            expected.contains(&pushed.len()),
            "newcomers can push only {pushed:?}"
        );
        let mut popped = Vec::new();
        drain(&mut popped)?;
        ensure!(
            popped == pushed,
            "newcomers push {pushed:?} and pop {popped:?}"
        );
    }
    drop((producer, consumer));
    Q::every_part(ring)?;
    let taken = Q::in_order(taken)?;
    Ok(match (closed, taken.is_empty()) {
        (false, _) => show(&taken),
        (true, true) => "closed".into(),
        (true, false) => show(&taken) + " closed",
    })
}
