//! One producer, one consumer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::event::Wait;
use ipc_core::segment::Place;
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring as _, spsc};

use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::{Parcel, show};
use crate::kill::sleeper::Sleeper;

type Ring = spsc::Ring<Parcel>;
type Producer = spsc::Producer<Parcel>;
type Consumer = spsc::Consumer<Parcel>;

const CAPACITY: usize = 4;
/// What the victim pushes.
const NEW: u64 = 100;
/// What a sleeping producer pushes once there is room.
const SLEEPERS: u64 = 50;
/// What newcomers push at last.
const LAST: u64 = 9000;

/// The adapter.
pub(super) struct Spsc;

/// The rings of `state`: how many messages have passed through, and how many are in it.
fn contents(state: &str) -> (u64, u64) {
    match state {
        "empty" | "waiter asleep" | "claimed before" | "holder dead" => (0, 0),
        "one" | "last" => (0, 1),
        "wrapping" => (3, 2),
        "full" | "producer asleep" | "room since seen full" => (0, 4),
        other => unreachable!("no state {other}"),
    }
}

fn is_consumer(operation: &str) -> bool {
    operation.starts_with("pop") || operation.ends_with("consumer")
}

impl Adapter for Spsc {
    fn kind(&self) -> &'static str {
        "spsc"
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        vec![
            case("push", "empty", &["nothing", "100"]),
            case("push", "one", &["1", "1 100"]),
            case("push", "wrapping", &["4 5", "4 5 100"]),
            case("push", "waiter asleep", &["nothing", "100"]),
            case("push", "room since seen full", &["1 2 3 4", "1 2 3 4 100"]),
            case("push", "full", &["1 2 3 4", "1 2 3 4 100"]).blocking(),
            case("push batch", "empty", &["nothing", "100 101 102"]),
            case("push batch", "wrapping", &["4 5", "4 5 100 101"]),
            case("push batch", "waiter asleep", &["nothing", "100 101 102"]),
            case("pop", "last", &["1", "nothing"]),
            case("pop", "wrapping", &["4 5", "5"]),
            case("pop", "full", &["1 2 3 4", "2 3 4"]),
            case("pop", "producer asleep", &["1 2 3 4", "2 3 4"]),
            case("pop", "empty", &["nothing", "60", "nothing"]).blocking(),
            case("pop batch", "wrapping", &["4 5", "nothing"]),
            case("pop batch", "full", &["1 2 3 4", "4"]),
            case("close by producer", "one", &["1", "1 closed"]),
            case("close by producer", "waiter asleep", &["nothing", "closed"]),
            case("close by consumer", "one", &["1", "1 closed"]),
            case("claim producer", "empty", &["nothing"]),
            case("claim producer", "holder dead", &["nothing"]),
            case("claim consumer", "one", &["1"]),
            case("give up producer", "one", &["1"]),
            case("give up consumer", "one", &["1"]),
        ]
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |first: &'static str, second: &'static str, state, outcomes: &[&str]| Pair {
            first: Case::new(first, state, outcomes),
            second: Case::new(second, state, outcomes),
            outcomes: outcomes.iter().map(ToString::to_string).collect(),
        };
        vec![
            pair("push", "pop", "one", &["1", "1 100", "100", "nothing"]),
            pair(
                "push",
                "pop batch",
                "wrapping",
                &["4 5", "4 5 100", "100", "nothing"],
            ),
            pair(
                "push",
                "close by consumer",
                "one",
                &["1", "1 100", "1 closed", "1 100 closed"],
            ),
            pair(
                "claim producer",
                "claim producer",
                "holder dead",
                &["nothing"],
            ),
        ]
    }

    fn stage(&self, case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
        let ring = Ring::options()
            .capacity(CAPACITY)
            .participants(4)
            .create(Place::Memfd("kill".into()))?;
        let mut producer = ring.producer()?;
        let mut consumer = ring.consumer()?;
        producer.set_wait(Wait::Block);
        consumer.set_wait(Wait::Block);
        let (passed, within) = contents(case.state);
        for number in 1..=passed {
            producer.push(Parcel::new(number))?;
            ensure!(consumer.pop()?.open()? == number);
        }
        for number in passed + 1..=passed + within {
            producer.push(Parcel::new(number))?;
        }
        let mut scene = Stage {
            case: case.clone(),
            ground: Ground::Region(ring.segment().clone()),
            ring,
            producer: Some(producer),
            consumer: Some(consumer),
            asleep: None,
            taken: Vec::new(),
        };
        let asleep = case.state.ends_with("asleep");
        if is_consumer(case.operation) {
            scene.consumer = scene.consumer.filter(|_| case.state == "holder dead");
        } else {
            scene.producer = scene.producer.filter(|_| case.state == "holder dead");
        }
        if case.state != "holder dead" && (cast == Cast::Living || !asleep) {
            return Ok(Box::new(scene));
        }
        // In a copy of the region all who had a part in it are dead.
        scene.fall_asleep()?;
        let ground = scene.ground.copy()?;
        scene.abandon()?;
        Ok(Box::new(Stage {
            case: case.clone(),
            ring: Ring::in_segment(ground.segment(), ONLY)?,
            ground,
            producer: None,
            consumer: None,
            asleep: None,
            taken: Vec::new(),
        }))
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let ring = Ring::in_segment(ground.segment(), ONLY)?;
        let taken = |number: Option<u64>| number.context("nothing was popped").map(drop);
        if case.operation.starts_with("claim") {
            // Joining is another kind's operation.
            ring.segment().participant()?;
            let (mut producers, mut consumers) = (Vec::new(), Vec::new());
            return match case.operation {
                "claim producer" => Ok(Box::new(move || {
                    producers.push(ring.producer()?);
                    Ok(())
                })),
                _ => Ok(Box::new(move || {
                    consumers.push(ring.consumer()?);
                    Ok(())
                })),
            };
        }
        if is_consumer(case.operation) {
            let mut consumer = ring.consumer()?;
            consumer.set_wait(Wait::Block);
            return Ok(match case.operation {
                "pop" => Box::new(move || taken(Some(consumer.pop()?.open()?))),
                "pop batch" => Box::new(move || {
                    let mut room = [Parcel::new(0); 3];
                    let count = consumer.pop_into(&mut room)?;
                    taken(
                        room[..count]
                            .first()
                            .map(|parcel| parcel.open())
                            .transpose()?,
                    )
                }),
                "close by consumer" => {
                    let mut consumer = Some(consumer);
                    Box::new(move || {
                        consumer.take().into_iter().for_each(Consumer::close);
                        Ok(())
                    })
                }
                "give up consumer" => {
                    let mut consumer = Some(consumer);
                    Box::new(move || {
                        drop(consumer.take());
                        Ok(())
                    })
                }
                other => bail!("no operation {other}"),
            });
        }
        let mut producer = ring.producer()?;
        producer.set_wait(Wait::Block);
        Ok(match case.operation {
            "push" => Box::new(move || Ok(producer.push(Parcel::new(NEW))?)),
            "push batch" => Box::new(move || {
                let batch = [NEW, NEW + 1, NEW + 2].map(Parcel::new);
                producer.try_push_slice(&batch)?;
                Ok(())
            }),
            "close by producer" => {
                let mut producer = Some(producer);
                Box::new(move || {
                    producer.take().into_iter().for_each(Producer::close);
                    Ok(())
                })
            }
            "give up producer" => {
                let mut producer = Some(producer);
                Box::new(move || {
                    drop(producer.take());
                    Ok(())
                })
            }
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        Ring::in_segment(ground.segment(), ONLY)?;
        Ok(())
    }

    fn inspect(&self, _: &Case, ground: &Ground, ledger: &[u64]) -> Result<String> {
        let ring = Ring::in_segment(ground.segment(), ONLY)?;
        go_on(&ring, None, None, ledger.to_vec())
    }
}

/// The ring, its survivors, and what they have taken.
struct Stage {
    case: Case,
    ground: Ground,
    ring: Ring,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    asleep: Option<Asleep>,
    taken: Vec<u64>,
}

enum Asleep {
    Consumer(Sleeper<(Consumer, Result<Parcel, PopError>)>),
    Producer(Sleeper<(Producer, Result<(), PushError<Parcel>>)>),
}

impl Stage {
    /// Where the case has it so, the survivor falls asleep; not if it died in its sleep before.
    fn fall_asleep(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        if self.case.state == "waiter asleep"
            && let Some(mut consumer) = self.consumer.take()
        {
            self.asleep = Some(Asleep::Consumer(Sleeper::start(move || {
                let popped = consumer.pop_until(deadline);
                (consumer, popped)
            })?));
        }
        if self.case.state == "producer asleep"
            && let Some(mut producer) = self.producer.take()
        {
            self.asleep = Some(Asleep::Producer(Sleeper::start(move || {
                let pushed = producer.push_until(Parcel::new(SLEEPERS), deadline);
                (producer, pushed)
            })?));
        }
        Ok(())
    }

    /// Ends the sleepers of a rehearsal.
    fn abandon(self) -> Result<()> {
        self.ring.close();
        match self.asleep {
            Some(Asleep::Consumer(sleeper)) => drop(sleeper.wake(false)?),
            Some(Asleep::Producer(sleeper)) => drop(sleeper.wake(false)?),
            None => {}
        }
        Ok(())
    }
}

impl Scene for Stage {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn ledger(&self) -> Vec<u64> {
        self.taken.clone()
    }

    fn poise(&mut self) -> Result<()> {
        if self.case.state == "room since seen full" {
            // The victim took its role while the ring was full, and believes so until it looks again.
            let consumer = self.consumer.as_mut().context("a consumer")?;
            self.taken.push(consumer.try_pop()?.open()?);
        }
        self.fall_asleep()
    }

    fn release(&mut self) -> Result<bool> {
        if let Some(consumer) = &mut self.consumer {
            self.taken.push(consumer.try_pop()?.open()?);
        } else if let Some(producer) = &mut self.producer {
            producer.try_push(Parcel::new(60))?;
        }
        Ok(true)
    }

    fn carry_on(&mut self) -> Result<bool> {
        if ["push", "push batch", "pop", "pop batch"].contains(&self.case.operation) {
            let refused = if is_consumer(self.case.operation) {
                self.ring.consumer().map(drop)
            } else {
                self.ring.producer().map(drop)
            };
            ensure!(
                matches!(refused, Err(ClaimError::Taken { .. })),
                "the role of a stopped process was given away: {refused:?}"
            );
        }
        let mut gave_room = false;
        if let Some(consumer) = &mut self.consumer {
            while let Ok(parcel) = consumer.try_pop() {
                self.taken.push(parcel.open()?);
                gave_room = true;
            }
        }
        Ok(!gave_room)
    }

    fn vacate(&mut self) -> Result<()> {
        (self.producer, self.consumer) = (None, None);
        Ok(())
    }

    fn survive(mut self: Box<Self>, unaided: bool) -> Result<String> {
        match self.asleep.take() {
            None => go_on(&self.ring, self.producer, self.consumer, self.taken),
            Some(Asleep::Consumer(sleeper)) => {
                let mut successor = None;
                if !unaided && !self.ring.is_closed() && self.ring.is_empty() {
                    // So that nobody waits for the end of a sleep: the successor's message comes first.
                    successor = Some(self.ring.producer()?);
                    let _ = successor
                        .as_mut()
                        .map(|next| next.try_push(Parcel::new(LAST - 1)));
                }
                let (consumer, popped) = sleeper.wake(unaided)?;
                match popped {
                    Ok(parcel) => self.taken.push(parcel.open()?),
                    Err(PopError::PeerDead | PopError::Closed) => {}
                    Err(error) => bail!("the sleeper was told: {error}"),
                }
                go_on(&self.ring, successor, Some(consumer), self.taken)
            }
            Some(Asleep::Producer(sleeper)) => {
                let mut successor = None;
                if !unaided && self.ring.len() == CAPACITY {
                    let mut next = self.ring.consumer()?;
                    self.taken.push(next.try_pop()?.open()?);
                    successor = Some(next);
                }
                let (producer, pushed) = sleeper.wake(unaided)?;
                let mut retry = None;
                match pushed {
                    Ok(()) => {}
                    Err(PushError::PeerDead(parcel)) => retry = Some(parcel),
                    Err(error) => bail!("the sleeper was told: {error}"),
                }
                let mut consumer = match successor {
                    Some(consumer) => consumer,
                    None => self.ring.consumer()?,
                };
                let mut producer = producer;
                if let Some(parcel) = retry {
                    // It was told of the death with its message in hand, and tries again.
                    self.taken.push(consumer.try_pop()?.open()?);
                    producer.try_push(parcel)?;
                }
                while let Ok(parcel) = consumer.try_pop() {
                    self.taken.push(parcel.open()?);
                }
                // The message of the survivor must be there; a survivor that died in its sleep sends none.
                ensure!(
                    self.taken.pop() == Some(SLEEPERS),
                    "the sleeper's message is lost"
                );
                go_on(&self.ring, Some(producer), Some(consumer), self.taken)
            }
        }
    }
}

/// Takes what is in the ring, then sends messages through it, with the survivors' handles where there are some.
fn go_on(
    ring: &Ring,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    mut taken: Vec<u64>,
) -> Result<String> {
    let mut consumer = match consumer {
        Some(consumer) => consumer,
        None => ring.consumer().context("a new consumer")?,
    };
    let mut producer = match producer {
        Some(producer) => producer,
        None => ring.producer().context("a new producer")?,
    };
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
    let closed = ring.is_closed();
    ensure!(
        end == if closed {
            PopError::Closed
        } else {
            PopError::Empty
        },
        "a drained ring says {end}"
    );
    for round in 0..3 {
        let pushed = (0..CAPACITY as u64)
            .map(|i| LAST + round * 10 + i)
            .take_while(|number| producer.try_push(Parcel::new(*number)).is_ok());
        let pushed: Vec<u64> = pushed.collect();
        let expected = if closed { 0 } else { CAPACITY };
        ensure!(pushed.len() == expected, "newcomers push only {pushed:?}");
        let mut popped = Vec::new();
        drain(&mut popped)?;
        ensure!(
            popped == pushed,
            "newcomers push {pushed:?} and pop {popped:?}"
        );
    }
    let mut found = show(&taken);
    if closed {
        found = if taken.is_empty() {
            "closed".into()
        } else {
            found + " closed"
        };
    }
    Ok(found)
}
