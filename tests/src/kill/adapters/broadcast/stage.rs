//! A ring in the state of a case, and those who read and push beside the victim.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{Place, Segment};
use ipc_ring::broadcast::{LOSSLESS, Lossless, Lossy, Producer, Start};
use ipc_ring::{ONLY, PopError, PushError, Ring as _};

use super::look::read;
use super::{CAPACITY, Of, PATIENCE, SLEEPERS, cases, look, lossless, lossy, producer};
use crate::kill::adapter::{Case, Cast, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;
use crate::kill::sleeper::Sleeper;

type Popped<R> = (R, Result<Parcel, PopError>);
type Pushed = (Producer<Parcel>, Result<(), PushError<Parcel>>);

enum Asleep {
    Lossless(Sleeper<Popped<Lossless<Parcel>>>),
    Lossy(Sleeper<Popped<Lossy<Parcel>>>),
    Producer(Sleeper<Pushed>),
}

struct Stage {
    case: Case,
    ground: Ground,
    ring: Of,
    producer: Option<Producer<Parcel>>,
    /// Has taken some, and shall get every one of the rest.
    lossless: Option<Lossless<Parcel>>,
    others: Vec<Lossless<Parcel>>,
    asleep: Option<Asleep>,
    /// Who should sleep is not there: what wakes up changes the ring while newcomers look at copies of it.
    wakeful: bool,
    /// What the lossless survivor has taken while the victim lived.
    taken: Vec<u64>,
}

/// Brings a new ring into the state of the case.
pub(super) fn stage(case: &Case, cast: Cast) -> Result<Box<dyn Scene>> {
    let options = Of::options().capacity(CAPACITY).participants(4);
    let ring = options.create(Place::Memfd("kill".into()))?;
    let mut tx = producer(&ring)?;
    let victim_reads = cases::is_reader(case.operation);
    let elsewhere = Segment::open(Place::Fd(ring.segment().as_fd().try_clone_to_owned()?))?;
    let its = Of::in_segment(&elsewhere, ONLY)?;
    let mut rx = (!victim_reads)
        .then(|| lossless(&its, Start::Newest))
        .transpose()?;
    let (pushed, taken) = cases::contents(case.state);
    for number in 1..=pushed {
        tx.try_push(Parcel::new(number)).context("fill")?;
        if let Some(rx) = rx.as_mut().filter(|_| number <= taken) {
            ensure!(rx.try_pop()?.open()? == number, "not the next one");
        }
    }
    let ground = Ground::Region(ring.segment().clone());
    // In a copy, all who had a part in the ring are dead.
    match case.state {
        "reader dead" => {
            // Another participant than whoever had the producer's role: claiming that must not clear up after it.
            drop(tx);
            return Ok(Box::new(Stage::alone(case, ground.copy()?)?));
        }
        "holder dead" | "two taken" => {
            if case.state == "holder dead" {
                tx.try_push(Parcel::new(1)).context("one")?;
            }
            return Ok(Box::new(Stage::alone(case, ground.copy()?)?));
        }
        "holder half way" => {
            let place = tx.try_reserve()?;
            let copy = ground.copy()?;
            drop(place);
            return Ok(Box::new(Stage::alone(case, copy)?));
        }
        _ => {}
    }
    let mut others = Vec::new();
    if case.state == "every place taken" {
        while others.len() + 1 < LOSSLESS {
            others.push(lossless(&ring, Start::Newest)?);
        }
    }
    let keeps_producer = victim_reads || (case.operation.contains("join"));
    Ok(Box::new(Stage {
        case: case.clone(),
        ground,
        ring,
        producer: Some(tx).filter(|_| keeps_producer),
        lossless: rx,
        others,
        asleep: None,
        wakeful: cast == Cast::Nobody,
        taken: Vec::new(),
    }))
}

impl Stage {
    fn alone(case: &Case, ground: Ground) -> Result<Self> {
        Ok(Self {
            case: case.clone(),
            ring: Of::in_segment(ground.segment(), ONLY)?,
            ground,
            producer: None,
            lossless: None,
            others: Vec::new(),
            asleep: None,
            wakeful: false,
            taken: Vec::new(),
        })
    }

    /// The producer was asleep, waiting for the reader that the victim was.
    fn wake_producer(&mut self, sleeper: Sleeper<Pushed>, unaided: bool) -> Result<()> {
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

impl Scene for Stage {
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
                    let popped = reader.pop_until(until);
                    (reader, popped)
                })?));
            }
            "lossy reader asleep" => {
                let mut reader = lossy(&self.ring, Start::Newest)?;
                self.asleep = Some(Asleep::Lossy(Sleeper::start(move || {
                    let popped = reader.pop_until(until);
                    (reader, popped)
                })?));
            }
            "producer asleep" => {
                let mut producer = self.producer.take().context("a producer")?;
                for number in 1..=CAPACITY as u64 {
                    producer.try_push(Parcel::new(number)).context("fill")?;
                }
                if self.wakeful {
                    self.producer = Some(producer);
                    return Ok(());
                }
                self.asleep = Some(Asleep::Producer(Sleeper::start(move || {
                    let pushed = producer.push_until(Parcel::new(SLEEPERS), until);
                    (producer, pushed)
                })?));
            }
            "overtaken" => {
                let producer = self.producer.as_mut().context("a producer")?;
                for number in 1..=CAPACITY as u64 + 1 {
                    producer.try_push(Parcel::new(number)).context("fill")?;
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
            producer.try_push(Parcel::new(60)).context("release")?;
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
            ensure!(more.missed == 0, "a lossless reader missed {}", more.missed);
            self.taken.extend(more.numbers);
            // Everything that newcomers find there, as far back as they reach.
            let there = read(&mut lossy(&self.ring, Start::Oldest)?)?.numbers;
            let (_, from) = cases::contents(self.case.state);
            let all: Vec<u64> = (1..=from).chain(self.taken.iter().copied()).collect();
            ensure!(
                all.ends_with(&there),
                "a lossless survivor has read {all:?}, and {there:?} are there"
            );
        }
        drop(lossy_woke);
        (self.producer, self.lossless) = (None, None);
        self.others.clear();
        look::inspect(&self.case, &self.ring)
    }
}
