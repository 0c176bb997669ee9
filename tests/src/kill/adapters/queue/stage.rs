//! A ring in the state of a case, its survivors, and what they have taken.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::Place;
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring};

use super::kinds::Queue;
use super::{CAPACITY, LAST, PATIENCE, SLEEPERS, cases, go_on, is_consumer};
use crate::kill::adapter::{Case, Cast, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;
use crate::kill::sleeper::Sleeper;

/// What a sleeping consumer comes back with.
type Popped<Q> = (<Q as Queue>::Consumer, Result<Parcel, PopError>);
/// What a sleeping producer comes back with.
type Pushed<Q> = (<Q as Queue>::Producer, Result<(), PushError<()>>);

struct Stage<Q: Queue> {
    case: Case,
    ground: Ground,
    ring: Q::Ring,
    producer: Option<Q::Producer>,
    consumer: Option<Q::Consumer>,
    bystander: Option<Q::Producer>,
    asleep: Option<Asleep<Q>>,
    taken: Vec<u64>,
}

enum Asleep<Q: Queue> {
    Consumer(Sleeper<Popped<Q>>),
    Producer(Sleeper<Pushed<Q>>),
}

/// Brings a new ring into the state of the case.
pub(super) fn stage<Q: Queue>(case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
    let options = Q::options().capacity(Q::CAPACITY).participants(4);
    let ring = options.create(Place::Memfd("kill".into()))?;
    let mut producer = Q::producer(&ring)?;
    let mut consumer = Q::consumer(&ring)?;
    let bystander = Q::bystander(&ring)?;
    let (passed, within) = cases::contents(case.state);
    for number in 1..=passed {
        Q::try_push(&mut producer, number)?;
        ensure!(Q::try_pop(&mut consumer)?.open()? == number);
    }
    let mut copy = None;
    let mut fill = || {
        for number in passed + 1..=passed + within {
            Q::try_push(&mut producer, number)?;
        }
        copy = Some(Ground::Region(Q::segment(&ring).clone()).copy()?);
        Ok(())
    };
    match case.state {
        // Somebody claims the place before these messages, and dies before he has written it.
        "writer dead" => {
            Q::while_reserved(&mut Q::producer(&ring)?, &mut fill)?;
            return Ok(Box::new(Stage::<Q>::new(case, copy.context("a copy")?)?));
        }
        // Somebody takes the first message, and dies before he has released it.
        "reader dead" => {
            fill()?;
            let mut again = || {
                copy = Some(Ground::Region(Q::segment(&ring).clone()).copy()?);
                Ok(())
            };
            Q::while_lent(&mut consumer, &mut again)?;
            return Ok(Box::new(Stage::<Q>::new(case, copy.context("a copy")?)?));
        }
        _ => fill()?,
    }
    let mut scene = Stage::<Q> {
        case: case.clone(),
        ground: Ground::Region(Q::segment(&ring).clone()),
        ring,
        producer: Some(producer),
        consumer: Some(consumer),
        bystander,
        asleep: None,
        taken: Vec::new(),
    };
    if is_consumer(case.operation) {
        scene.consumer = scene.consumer.filter(|_| case.state == "holder dead");
    } else {
        scene.producer = scene.producer.filter(|_| case.state == "holder dead");
    }
    let asleep = case.state.ends_with("asleep");
    if case.state != "holder dead" && (cast == Cast::Living || !asleep) {
        return Ok(Box::new(scene));
    }
    // In a copy of the region all who had a part in it are dead.
    scene.fall_asleep()?;
    let ground = scene.ground.copy()?;
    scene.abandon()?;
    Ok(Box::new(Stage::<Q>::new(case, ground)?))
}

impl<Q: Queue> Stage<Q> {
    /// A scene without survivors.
    fn new(case: &Case, ground: Ground) -> Result<Self> {
        Ok(Self {
            case: case.clone(),
            ring: Q::Ring::in_segment(ground.segment(), ONLY)?,
            ground,
            producer: None,
            consumer: None,
            bystander: None,
            asleep: None,
            taken: Vec::new(),
        })
    }

    /// Where the case has it so, the survivor falls asleep; not if it died in its sleep before.
    fn fall_asleep(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        if self.case.state == "waiter asleep"
            && let Some(mut consumer) = self.consumer.take()
        {
            self.asleep = Some(Asleep::Consumer(Sleeper::start(move || {
                let popped = Q::pop(&mut consumer, deadline);
                (consumer, popped)
            })?));
        }
        if self.case.state == "producer asleep"
            && let Some(mut producer) = self.producer.take()
        {
            self.asleep = Some(Asleep::Producer(Sleeper::start(move || {
                let pushed = Q::push(&mut producer, SLEEPERS, deadline);
                (producer, pushed)
            })?));
        }
        Ok(())
    }

    /// Ends the sleepers of a rehearsal.
    fn abandon(self) -> Result<()> {
        Q::close(&self.ring);
        match self.asleep {
            Some(Asleep::Consumer(sleeper)) => drop(sleeper.wake(false)?),
            Some(Asleep::Producer(sleeper)) => drop(sleeper.wake(false)?),
            None => {}
        }
        Ok(())
    }

    /// A consumer was asleep on an empty ring.
    fn wake_consumer(mut self, sleeper: Sleeper<Popped<Q>>, unaided: bool) -> Result<String> {
        let mut successor = None;
        let nothing_else = !unaided && Q::len(&self.ring) == 0;
        if !Q::is_closed(&self.ring) && (!Q::TELLS || nothing_else) {
            // So that nobody waits for the end of a sleep: the successor's message comes first. Where there is no one
            // producer whose death would be told, that message may be all that there is to wait for.
            let mut next = Q::producer(&self.ring)?;
            drop(Q::try_push(&mut next, LAST - 1));
            successor = Some(next);
        }
        let (consumer, popped) = sleeper.wake(unaided)?;
        match popped {
            Ok(parcel) => self.taken.push(parcel.open()?),
            Err(PopError::PeerDead | PopError::Closed) => {}
            Err(error) => bail!("the sleeper was told: {error}"),
        }
        go_on::<Q>(&self.ring, successor, Some(consumer), self.taken)
    }

    /// A producer was asleep on a full ring.
    fn wake_producer(mut self, sleeper: Sleeper<Pushed<Q>>, unaided: bool) -> Result<String> {
        let mut successor = None;
        if (!unaided || !Q::EXCLUSIVE) && Q::len(&self.ring) == CAPACITY {
            let mut next = Q::consumer(&self.ring)?;
            if !Q::EXCLUSIVE {
                let segment = Q::segment(&self.ring);
                for id in segment.participants() {
                    segment.recover(id);
                }
            }
            self.taken.push(Q::try_pop(&mut next)?.open()?);
            successor = Some(next);
        }
        let (mut producer, pushed) = sleeper.wake(unaided)?;
        let mut retry = false;
        match pushed {
            Ok(()) => {}
            Err(PushError::PeerDead(())) => retry = true,
            Err(error) => bail!("the sleeper was told: {error}"),
        }
        let mut consumer = match successor {
            Some(consumer) => consumer,
            None => Q::consumer(&self.ring)?,
        };
        if retry {
            // It was told of the death with its message in hand, and tries again.
            self.taken.push(Q::try_pop(&mut consumer)?.open()?);
            Q::try_push(&mut producer, SLEEPERS)?;
        }
        while let Ok(parcel) = Q::try_pop(&mut consumer) {
            self.taken.push(parcel.open()?);
        }
        ensure!(
            self.taken.pop() == Some(SLEEPERS),
            "the sleeper's message is lost"
        );
        go_on::<Q>(&self.ring, Some(producer), Some(consumer), self.taken)
    }
}

impl<Q: Queue> Scene for Stage<Q> {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn ledger(&self) -> Vec<u64> {
        self.taken.clone()
    }

    fn poise(&mut self) -> Result<()> {
        if self.case.state == "room since seen full" {
            // The victim took its part while the ring was full, and believes so until it looks again.
            let consumer = self.consumer.as_mut().context("a consumer")?;
            self.taken.push(Q::try_pop(consumer)?.open()?);
        }
        self.fall_asleep()
    }

    fn release(&mut self) -> Result<bool> {
        if let Some(consumer) = &mut self.consumer {
            let whole = self.case.operation == "push whole batch";
            for _ in 0..if whole { 3 } else { 1 } {
                self.taken.push(Q::try_pop(consumer)?.open()?);
            }
        } else if let Some(producer) = &mut self.producer {
            Q::try_push(producer, 60)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn carry_on(&mut self) -> Result<bool> {
        let settled = ["push", "push batch", "pop", "pop batch"].contains(&self.case.operation);
        if Q::EXCLUSIVE && settled {
            let refused = if is_consumer(self.case.operation) {
                Q::consumer(&self.ring).map(drop)
            } else {
                Q::producer(&self.ring).map(drop)
            };
            ensure!(
                matches!(
                    refused,
                    Err(ClaimError::Taken { .. } | ClaimError::NoLane { .. })
                ),
                "the role of a stopped process was given away: {refused:?}"
            );
        }
        let mut gave_room = false;
        if let Some(consumer) = &mut self.consumer {
            while let Ok(parcel) = Q::try_pop(consumer) {
                self.taken.push(parcel.open()?);
                gave_room = true;
            }
        }
        Ok(!gave_room)
    }

    fn vacate(&mut self) -> Result<()> {
        (self.producer, self.consumer, self.bystander) = (None, None, None);
        Ok(())
    }

    fn survive(mut self: Box<Self>, unaided: bool) -> Result<String> {
        // Newcomers look whether they can have every part, this one's too.
        drop(self.bystander.take());
        match self.asleep.take() {
            None => go_on::<Q>(&self.ring, self.producer, self.consumer, self.taken),
            Some(Asleep::Consumer(sleeper)) => self.wake_consumer(sleeper, unaided),
            Some(Asleep::Producer(sleeper)) => self.wake_producer(sleeper, unaided),
        }
    }
}
