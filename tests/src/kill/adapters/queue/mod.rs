//! Rings of messages of one type: `spsc` and `mpmc`.

mod cases;
mod stage;

use anyhow::{Context, Result, bail, ensure};
use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_ring::side::{LendSide, SendSide};
use ipc_ring::{ClaimError, Consumer, ONLY, PopError, Producer, PushError, Ring, mpmc, spsc};

use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::{Parcel, show};

/// Messages that fit in.
const CAPACITY: usize = 4;
/// What the victim pushes.
const NEW: u64 = 100;
/// What a second victim pushes.
const OTHER: u64 = 200;
/// What a sleeping producer pushes once there is room.
const SLEEPERS: u64 = 50;
/// What newcomers push at last.
const LAST: u64 = 9000;

/// A kind of ring.
pub(super) trait Queue: Copy + Sync + 'static {
    /// Its name.
    const KIND: &'static str;
    /// Whether each role has one holder at a time.
    const EXCLUSIVE: bool;
    /// The ring.
    type Ring: Ring + Clone + Send;
    /// Its producer's side.
    type Send: SendSide<Memory = Mapped> + Send;
    /// Its consumer's side.
    type Receive: LendSide<Memory = Mapped> + Send;

    fn producer(ring: &Self::Ring) -> Result<Producer<Parcel, Self::Send>, ClaimError>;
    fn consumer(ring: &Self::Ring) -> Result<Consumer<Parcel, Self::Receive>, ClaimError>;
    fn segment(ring: &Self::Ring) -> &Segment;
    fn len(ring: &Self::Ring) -> usize;
    fn is_closed(ring: &Self::Ring) -> bool;
    fn close(ring: &Self::Ring);
}

macro_rules! queue {
    ($name:ident, $module:ident, $exclusive:literal) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Queue for $name {
            const KIND: &'static str = stringify!($module);
            const EXCLUSIVE: bool = $exclusive;
            type Ring = $module::Ring<Parcel>;
            type Send = $module::Sender<Mapped>;
            type Receive = $module::Receiver<Mapped>;

            fn producer(ring: &Self::Ring) -> Result<Producer<Parcel, Self::Send>, ClaimError> {
                ring.producer()
            }
            fn consumer(ring: &Self::Ring) -> Result<Consumer<Parcel, Self::Receive>, ClaimError> {
                ring.consumer()
            }
            fn segment(ring: &Self::Ring) -> &Segment {
                ring.segment()
            }
            fn len(ring: &Self::Ring) -> usize {
                ring.len()
            }
            fn is_closed(ring: &Self::Ring) -> bool {
                ring.is_closed()
            }
            fn close(ring: &Self::Ring) {
                ring.close();
            }
        }
    };
}

queue!(Spsc, spsc, true);
queue!(Mpmc, mpmc, false);

/// The adapter of a kind of ring.
pub(super) struct Of<Q>(pub(super) Q);

/// Whether the victim's part is the consumer's.
fn is_consumer(operation: &str) -> bool {
    ["pop", "read"]
        .iter()
        .any(|verb| operation.starts_with(verb))
        || operation.ends_with("consumer")
}

impl<Q: Queue> Adapter for Of<Q> {
    fn kind(&self) -> &'static str {
        Q::KIND
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = cases::common();
        cases.extend(if Q::EXCLUSIVE {
            cases::exclusive()
        } else {
            cases::shared()
        });
        cases
    }

    fn pairs(&self) -> Vec<Pair> {
        if Q::EXCLUSIVE {
            cases::exclusive_pairs()
        } else {
            cases::shared_pairs()
        }
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
            Err(ClaimError::Taken { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        other => bail!("no operation {other}"),
    })
}

/// The operations of a producer.
fn send<Q: Queue>(case: &Case, mut producer: Producer<Parcel, Q::Send>) -> Result<Operation> {
    producer.set_wait(Wait::Block);
    let mut last = None;
    if case.operation.ends_with("producer") {
        last = Some(producer);
        return Ok(match case.operation {
            "close by producer" => Box::new(move || {
                last.take().into_iter().for_each(Producer::close);
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
        "push" => Box::new(move || Ok(producer.push(Parcel::new(NEW))?)),
        "push unless closed" => Box::new(move || match producer.push(Parcel::new(NEW)) {
            Ok(()) | Err(PushError::Closed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }),
        "push other" => Box::new(move || Ok(producer.push(Parcel::new(OTHER))?)),
        "push batch" => Box::new(move || {
            let batch = [NEW, NEW + 1, NEW + 2].map(Parcel::new);
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

/// The operations of a consumer.
fn receive<Q: Queue>(case: &Case, mut consumer: Consumer<Parcel, Q::Receive>) -> Result<Operation> {
    consumer.set_wait(Wait::Block);
    let mut last = None;
    if case.operation.ends_with("consumer") {
        last = Some(consumer);
        return Ok(match case.operation {
            "close by consumer" => Box::new(move || {
                last.take().into_iter().for_each(Consumer::close);
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
        "pop" => Box::new(move || consumer.pop()?.open().map(drop)),
        "pop batch" => Box::new(move || {
            let mut room = [Parcel::new(0); 3];
            let count = consumer.pop_into(&mut room)?;
            room[..count]
                .iter()
                .try_for_each(|parcel| parcel.open().map(drop))
        }),
        "read and release" => Box::new(move || {
            let message = consumer.try_read()?;
            message.get().open()?;
            message.release();
            Ok(())
        }),
        "read and put back" => Box::new(move || {
            let message = consumer.try_read()?;
            message.get().open()?;
            message.put_back();
            Ok(())
        }),
        other => bail!("no operation {other}"),
    })
}

/// Takes what is in the ring, then sends messages through it, with the survivors' handles where there are some.
fn go_on<Q: Queue>(
    ring: &Q::Ring,
    producer: Option<Producer<Parcel, Q::Send>>,
    consumer: Option<Consumer<Parcel, Q::Receive>>,
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
            match consumer.try_pop() {
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
            .take_while(|number| producer.try_push(Parcel::new(*number)).is_ok())
            .collect();
        let expected = if closed { 0 } else { CAPACITY };
        ensure!(
            pushed.len() == expected,
            "newcomers can push only {pushed:?}"
        );
        let mut popped = Vec::new();
        drain(&mut popped)?;
        ensure!(
            popped == pushed,
            "newcomers push {pushed:?} and pop {popped:?}"
        );
    }
    Ok(match (closed, taken.is_empty()) {
        (false, _) => show(&taken),
        (true, true) => "closed".into(),
        (true, false) => show(&taken) + " closed",
    })
}
