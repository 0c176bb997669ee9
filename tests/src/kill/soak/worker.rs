//! The lives of workers, which end when they are killed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipc_core::ids::{self, Ids};
use ipc_core::segment::{Place, Segment};
use ipc_core::sync::{self, Attach, LockError, Mutex, RwLock};
use ipc_ring::broadcast::Start;
use ipc_ring::{ClaimError, ONLY, PopError, PushError, Ring as _, broadcast};

use super::LIFE;
use crate::kill::adapters::queue::{Bytes, Channel, Lanes, Mpmc, Queue, Spsc};
use crate::kill::parcel::Parcel;

/// The ledger that those who share a lock write to: in the order in which they have the lock.
pub(super) const TURNS: &str = "turns";

/// A worker's life.
pub fn worker(arguments: &[String]) -> Result<()> {
    let [kind, what, life, directory] = arguments else {
        bail!("a worker is told its kind, what to do, its number and where its ledger is")
    };
    let directory = Path::new(directory);
    let work = Work {
        segment: Segment::open(Place::Fd(std::io::stdin().as_fd().try_clone_to_owned()?))?,
        life: life.parse()?,
        ledger: open(&directory.join(format!("{what}-{life}")))?,
    };
    match (kind.as_str(), what.as_str()) {
        ("spsc", what) => work.ring::<Spsc>(what),
        ("mpmc", what) => work.ring::<Mpmc>(what),
        ("bytes", what) => work.ring::<Bytes>(what),
        ("lanes", what) => work.ring::<Lanes>(what),
        ("channel", what) => work.ring::<Channel>(what),
        ("broadcast", what) => work.broadcast(what),
        ("mutex", _) => work.mutex(open(&directory.join(TURNS))?),
        ("rwlock", "lock") => work.write(open(&directory.join(TURNS))?),
        ("rwlock", _) => work.read(),
        ("ids", what) => work.draw(what == "lease"),
        _ => bail!("no such work: {kind}, {what}"),
    }
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// A while, after which the call is made again.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// Claims a role, as soon as whoever had it is cleared up after.
fn claimed<C>(mut claim: impl FnMut() -> Result<C, ClaimError>) -> Result<C> {
    loop {
        match claim() {
            Err(ClaimError::Taken { .. } | ClaimError::NoLane { .. }) => std::thread::yield_now(),
            other => return Ok(other?),
        }
    }
}

struct Work {
    segment: Segment,
    life: u64,
    ledger: File,
}

impl Work {
    fn note(&mut self, number: u64) -> Result<()> {
        Ok(self.ledger.write_all(format!("{number}\n").as_bytes())?)
    }

    fn ring<Q: Queue>(mut self, what: &str) -> Result<()> {
        let ring = Q::Ring::in_segment(&self.segment, ONLY)?;
        if what == "push" {
            let mut producer = claimed(|| Q::producer(&ring))?;
            for number in self.life * LIFE.. {
                loop {
                    match Q::push(&mut producer, number, soon()) {
                        Ok(()) => break,
                        // Another consumer comes.
                        Err(PushError::PeerDead(()) | PushError::TimedOut(())) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                self.note(number)?;
            }
        }
        let mut consumer = claimed(|| Q::consumer(&ring))?;
        loop {
            match Q::pop(&mut consumer, soon()) {
                Ok(parcel) => self.note(parcel.open()?)?,
                Err(PopError::PeerDead | PopError::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn broadcast(mut self, what: &str) -> Result<()> {
        let ring = broadcast::Ring::<Parcel>::in_segment(&self.segment, ONLY)?;
        if what == "push" {
            let mut producer = claimed(|| ring.producer())?;
            for number in self.life * LIFE.. {
                producer.push(Parcel::new(number))?;
                self.note(number)?;
            }
        }
        let mut reader = claimed(|| ring.lossless(Start::Newest))?;
        loop {
            match reader.pop_until(soon()) {
                Ok(parcel) => self.note(parcel.open()?)?,
                Err(PopError::PeerDead | PopError::TimedOut) => {}
                Err(error) => return Err(error).context("a lossless reader"),
            }
        }
    }

    fn mutex(self, mut turns: File) -> Result<()> {
        let mutex = Mutex::<Parcel>::in_segment(&self.segment, sync::ONLY)?;
        for turn in 0_u64.. {
            let (mut guard, died) = match mutex.lock() {
                Ok(guard) => (guard, ""),
                Err(LockError::OwnerDied(guard)) => (guard, " died"),
                Err(error) => bail!("{error}"),
            };
            turns.write_all(format!("{} in{died}\n", self.life).as_bytes())?;
            guard.set(&Parcel::new(turn));
            guard.mark_consistent();
            turns.write_all(format!("{} out\n", self.life).as_bytes())?;
        }
        Ok(())
    }

    fn write(self, mut turns: File) -> Result<()> {
        let lock = RwLock::<Parcel>::in_segment(&self.segment, sync::ONLY)?;
        for turn in 0_u64.. {
            let (mut guard, died) = match lock.write() {
                Ok(guard) => (guard, ""),
                Err(LockError::OwnerDied(guard)) => (guard, " died"),
                Err(error) => bail!("{error}"),
            };
            turns.write_all(format!("{} in{died}\n", self.life).as_bytes())?;
            guard.set(&Parcel::new(turn));
            guard.mark_consistent();
            turns.write_all(format!("{} out\n", self.life).as_bytes())?;
        }
        Ok(())
    }

    /// Reads what writers have written: whole, unless one died in it.
    fn read(self) -> Result<()> {
        let lock = RwLock::<Parcel>::in_segment(&self.segment, sync::ONLY)?;
        loop {
            match lock.read() {
                Ok(guard) => {
                    let value = guard.get();
                    let never = value == bytemuck::Zeroable::zeroed();
                    if !never {
                        value.open()?;
                    }
                }
                // A writer comes to repair it.
                Err(LockError::OwnerDied(())) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn draw(mut self, leased: bool) -> Result<()> {
        let ids = Ids::in_segment(&self.segment, ids::ONLY)?;
        if !leased {
            loop {
                let id = ids.next()?;
                self.note(id)?;
            }
        }
        let mut lease = ids.lease()?;
        loop {
            let id = lease.next()?;
            self.note(id)?;
        }
    }
}

/// Takes what is left in a ring, with all claims of the dead resolved.
pub(super) fn drain<Q: Queue>(segment: &Segment, directory: &Path) -> Result<()> {
    let ring = Q::Ring::in_segment(segment, ONLY)?;
    let mut consumer = Q::consumer(&ring)?;
    let mut rest = open(&directory.join("pop-rest"))?;
    loop {
        match Q::try_pop(&mut consumer) {
            Ok(parcel) => writeln!(rest, "{}", parcel.open()?)?,
            Err(PopError::Empty) => return Ok(()),
            Err(error) => bail!("what is left cannot be taken: {error}"),
        }
    }
}
