//! A ring in the state of a case, and those who read and push beside the victim.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{Place, Segment};
use ipc_ring::broadcast::{LOSSLESS, Start};
use ipc_ring::{ONLY, PopError, PushError, Ring as _};

use super::kinds::{Air, Reader};
use super::look::read;
use super::{CAPACITY, PATIENCE, SLEEPERS, cases, look};
use crate::kill::adapter::{Case, Cast, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;
use crate::kill::sleeper::Sleeper;

type Popped<R> = (R, Result<Parcel, PopError>);
type Pushed<A> = (<A as Air>::Producer, Result<(), PushError<()>>);

enum Asleep<A: Air> {
    Lossless(Sleeper<Popped<A::Lossless>>),
    Lossy(Sleeper<Popped<A::Lossy>>),
    Producer(Sleeper<Pushed<A>>),
}

struct Stage<A: Air> {
    case: Case,
    ground: Ground,
    ring: A::Ring,
    producer: Option<A::Producer>,
    /// Has taken some, and shall get every one of the rest.
    lossless: Option<A::Lossless>,
    others: Vec<A::Lossless>,
    asleep: Option<Asleep<A>>,
    /// Who should sleep is not there: what wakes up changes the ring while newcomers look at copies of it.
    wakeful: bool,
    /// What the lossless survivor has taken while the victim lived.
    taken: Vec<u64>,
    /// How many it was told to have missed.
    missed: u64,
}

/// Brings a new ring into the state of the case.
pub(super) fn stage<A: Air>(case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
    let patience = (!cases::is_patient(case)).then_some(Duration::ZERO);
    let options = A::options(patience).participants(4);
    let ring = options.create(Place::Memfd("kill".into()))?;
    let mut tx = A::producer(&ring)?;
    let victim_reads = cases::is_reader(case.operation);
    let elsewhere = Segment::open(Place::Fd(A::segment(&ring).as_fd().try_clone_to_owned()?))?;
    let its = A::Ring::in_segment(&elsewhere, ONLY)?;
    let mut rx = (!victim_reads)
        .then(|| A::lossless(&its, Start::Newest))
        .transpose()?;
    let (pushed, taken) = cases::contents(case.state);
    for number in 1..=pushed {
        A::try_push(&mut tx, number).context("fill")?;
        if let Some(rx) = rx.as_mut().filter(|_| number <= taken) {
            ensure!(rx.try_pop()?.open()? == number, "not the next one");
        }
    }
    let ground = Ground::Region(A::segment(&ring).clone());
    // In a copy, all who had a part in the ring are dead.
    match case.state {
        "reader dead" => {
            // Another participant than whoever had the producer's role: claiming that must not clear up after it.
            drop(tx);
            return Ok(Box::new(Stage::<A>::alone(case, ground.copy()?)?));
        }
        "holder dead" | "two taken" => {
            if case.state == "holder dead" {
                A::try_push(&mut tx, 1).context("one")?;
            }
            return Ok(Box::new(Stage::<A>::alone(case, ground.copy()?)?));
        }
        "holder half way" => {
            let mut copy = None;
            A::while_reserved(&mut tx, || {
                copy = Some(ground.copy()?);
                Ok(())
            })?;
            let copy = copy.context("a copy")?;
            return Ok(Box::new(Stage::<A>::alone(case, copy)?));
        }
        _ => {}
    }
    let mut others = Vec::new();
    if case.state == "every place taken" {
        while others.len() + 1 < LOSSLESS {
            others.push(A::lossless(&ring, Start::Newest)?);
        }
    }
    let keeps_producer = victim_reads || (case.operation.contains("join"));
    Ok(Box::new(Stage::<A> {
        case: case.clone(),
        ground,
        ring,
        producer: Some(tx).filter(|_| keeps_producer),
        lossless: rx,
        others,
        asleep: None,
        wakeful: cast == Cast::Nobody,
        taken: Vec::new(),
        missed: 0,
    }))
}

impl<A: Air> Stage<A> {
    fn alone(case: &Case, ground: Ground) -> Result<Self> {
        Ok(Self {
            case: case.clone(),
            ring: A::Ring::in_segment(ground.segment(), ONLY)?,
            ground,
            producer: None,
            lossless: None,
            others: Vec::new(),
            asleep: None,
            wakeful: false,
            taken: Vec::new(),
            missed: 0,
        })
    }

    /// The producer was asleep, waiting for the reader that the victim was.
    fn wake_producer(&mut self, sleeper: Sleeper<Pushed<A>>, unaided: bool) -> Result<()> {
        let (producer, pushed) = sleeper.wake(unaided)?;
        if let Err(error) = pushed {
            bail!("the sleeping producer was told: {error}");
        }
        self.producer = Some(producer);
        Ok(())
    }

    /// A reader was asleep on an empty ring.
    fn back(&mut self, popped: Result<Parcel, PopError>) -> Result<()> {
        match popped {
            Ok(parcel) => self.taken.push(parcel.open()?),
            Err(PopError::PeerDead | PopError::Closed) => {}
            Err(error) => bail!("the sleeper was told: {error}"),
        }
        Ok(())
    }
}

impl<A: Air> Scene for Stage<A> {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn poise(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        match self.case.state {
            "lossless reader asleep" | "lossy reader asleep" if self.wakeful => {}
            "lossless reader asleep" => {
                let mut reader = self.lossless.take().context("a reader")?;
                self.asleep = Some(Asleep::Lossless(Sleeper::start(move || {
                    let popped = reader.pop(until);
                    (reader, popped)
                })?));
            }
            "lossy reader asleep" => {
                let mut reader = A::lossy(&self.ring, Start::Newest)?;
                self.asleep = Some(Asleep::Lossy(Sleeper::start(move || {
                    let popped = reader.pop(until);
                    (reader, popped)
                })?));
            }
            "producer asleep" => {
                let mut producer = self.producer.take().context("a producer")?;
                for number in 1..=CAPACITY as u64 {
                    A::try_push(&mut producer, number).context("fill")?;
                }
                if self.wakeful {
                    self.producer = Some(producer);
                    return Ok(());
                }
                self.asleep = Some(Asleep::Producer(Sleeper::start(move || {
                    let pushed = A::push(&mut producer, SLEEPERS, until);
                    (producer, pushed)
                })?));
            }
            "overtaken" | "let go" => {
                let producer = self.producer.as_mut().context("a producer")?;
                for number in 1..=CAPACITY as u64 + 1 {
                    A::try_push(producer, number).context("fill")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn release(&mut self) -> Result<bool> {
        if let Some(reader) = &mut self.lossless {
            self.taken.push(reader.try_pop()?.open()?);
        } else if let Some(producer) = &mut self.producer {
            A::try_push(producer, 60).context("release")?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn carry_on(&mut self) -> Result<bool> {
        let mut gave_room = false;
        if let Some(reader) = &mut self.lossless {
            let more = read(reader)?;
            gave_room = !more.numbers.is_empty();
            self.taken.extend(more.numbers);
            self.missed += more.missed;
        }
        Ok(!gave_room)
    }

    fn vacate(&mut self) -> Result<()> {
        (self.producer, self.lossless) = (None, None);
        Ok(())
    }

    fn survive(mut self: Box<Self>, unaided: bool) -> Result<String> {
        let mut lossy_woke = None;
        match self.asleep.take() {
            None => {}
            Some(Asleep::Producer(sleeper)) => self.wake_producer(sleeper, unaided)?,
            Some(Asleep::Lossless(sleeper)) => {
                let (reader, popped) = sleeper.wake(unaided)?;
                self.lossless = Some(reader);
                self.back(popped)?;
            }
            Some(Asleep::Lossy(sleeper)) => {
                let (reader, popped) = sleeper.wake(unaided)?;
                lossy_woke = Some(reader);
                self.back(popped)?;
            }
        }
        if let Some(reader) = &mut self.lossless {
            let more = read(reader).context("the lossless survivor")?;
            self.missed += more.missed;
            let patient = cases::is_patient(&self.case);
            ensure!(
                self.missed == 0 || !patient,
                "a lossless reader missed {}",
                self.missed
            );
            let (_, from) = cases::contents(self.case.state);
            // What it is told to have missed it has not read, and nothing else.
            let from = from + self.missed;
            self.taken.extend(more.numbers);
            // Everything that newcomers find there, as far back as they reach.
            let there = read(&mut A::lossy(&self.ring, Start::Oldest)?)?.numbers;
            let all: Vec<u64> = (1..=from).chain(self.taken.iter().copied()).collect();
            ensure!(
                all.ends_with(&there),
                "a lossless survivor has read {all:?}, and {there:?} are there"
            );
        }
        drop(lossy_woke);
        (self.producer, self.lossless) = (None, None);
        self.others.clear();
        look::inspect::<A>(&self.case, &self.ring)
    }
}
