//! A fixed number of seats whose holders wait for each other, round by round; a death breaks the round.
//!
//! # Protocol
//!
//! ```text
//! turn    rounds that are complete (32 bits) | rounds that were broken (32 bits)
//! seat    the turn it has arrived for (25 low bits of both) | participant (14 bits)
//!
//! wait    A1  t := turn; my seat := (t, me)
//!         A2  all seats at t? then turn: t -> one more complete, by whoever is first, and wake all
//!         A3  one more complete than t? done.   one more broken? tell so.   else sleep
//! break   turn: t -> one more broken
//! ```
//!
//! Everybody who waits looks whether all have arrived (A2), so nobody in particular is needed to end the round. A round ends
//! in one step, complete or broken, and all who waited for it find the same. Who has arrived for a broken round has
//! not arrived for the next one. Whoever waits no longer, because of a deadline, breaks the round.
//!
//! # Orderings
//!
//! A1 is Release and pairs with the Acquire of A2, the end of a round is Release and pairs with the Acquire of A3: whoever goes on
//! sees what all did before they arrived.
//!
//! # When a participant dies
//!
//! Recovery breaks the round and frees its seats, in this order, so that one cut short breaks it twice rather than not at
//! all. Whoever waits is told [`BarrierError::Broken`], and may wait again, for whoever takes the free seat.
//!
//! Source: the semantics are those of Java's CyclicBarrier, which mends itself here.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use super::{Attach, Base, VERSION, misfit, spec_of};
use crate::Mapped;
use crate::event::{Event, Wait, Waiters, wait_until};
use crate::memory::{Area, Memory, OutOfArea, Word64};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

/// How barriers are told from other objects, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"barrier\0",
    version: VERSION,
    recover,
};

/// The most seats.
const MOST: u16 = 16_382;

mod field {
    pub(super) const CHANGED: usize = 0;
    pub(super) const TURN: usize = 8;
    pub(super) const SEATS: usize = 128;
}

const HOLDER: u64 = (1 << 14) - 1;
const COMPLETE: u64 = 1 << 32;
const BROKEN: u64 = 1;

fn recover(area: &Area<Mapped>, entry: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Seats::new(area, entry.parameters[0] as usize)?.recover(dead);
    Ok(())
}

/// Why a wait did not end the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// All seats are taken by processes that live.
    #[error("all seats of the barrier are taken")]
    NoSeat,
    /// The holder of a seat died, or waited no longer. Everybody who waited is told.
    #[error(
        "a process that takes part in the barrier died or gave up; wait again when all its seats are taken"
    )]
    Broken,
    /// Not all had arrived at the deadline. The round is broken: the others are told so.
    #[error("not all had arrived at the barrier at the deadline")]
    TimedOut,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
}

/// The seats in their area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Seats<M> {
    changed: Event<M>,
    turn: Word64<M>,
    seats: Vec<Word64<M>>,
}

fn holder(seat: u64) -> Option<ParticipantId> {
    ParticipantId::new(seat & HOLDER)
}

/// The seat of somebody who has arrived. It repeats itself after 2^25 broken rounds only: none is complete without it.
fn arrived(turn: u64, me: ParticipantId) -> u64 {
    turn >> 32 << 39 | (turn & ((1 << 25) - 1)) << 14 | u64::from(me.get())
}

impl<M: Memory> Seats<M> {
    /// So many seats in `area`.
    ///
    /// # Errors
    ///
    /// If the area is too short for them.
    pub fn new(area: &Area<M>, count: usize) -> Result<Self, OutOfArea> {
        let seat = |index| area.word64(field::SEATS + 8 * index);
        Ok(Self {
            changed: Event::new(area, field::CHANGED, Waiters::Many)?,
            turn: area.word64(field::TURN)?,
            seats: (0..count.min(MOST.into()))
                .map(seat)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Takes a free seat.
    pub fn sit(&self, me: ParticipantId) -> Option<usize> {
        // Nobody has arrived for the turn before this one, which is over.
        let nowhere = arrived(self.turn.load(Relaxed).wrapping_sub(COMPLETE), me);
        let free = |word: &Word64<M>| {
            let found = word.load(Relaxed);
            // ORDERING: Acquire pairs with the Release in `stand` and in `recover`: its last holder is done with it.
            holder(found).is_none() && word.exchange(found, nowhere, Acquire).is_ok()
        };
        self.seats.iter().position(free)
    }

    /// Gives the seat back.
    pub fn stand(&self, me: ParticipantId, index: usize) {
        let word = &self.seats[index];
        let found = word.load(Relaxed);
        if holder(found) == Some(me) {
            // ORDERING: Release pairs with the Acquire in `sit`.
            let _ = word.exchange(found, 0, Release);
        }
    }

    /// A1 to A3. True for the one that ended the round.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] if the holder of a seat died or gave up, [`BarrierError::TimedOut`] at the deadline.
    pub fn wait(
        &self,
        me: ParticipantId,
        index: usize,
        wait: Wait,
        deadline: Option<Duration>,
        mut recover: impl FnMut(ParticipantId),
    ) -> Result<bool, BarrierError> {
        // ORDERING: each Acquire of the turn pairs with the Release in `end`: who goes on sees what all did before.
        let turn = self.turn.load(Acquire);
        // ORDERING: Release pairs with the Acquire in `all_arrived`.
        self.seats[index].store(arrived(turn, me), Release);
        let waited = wait_until(
            &self.changed,
            wait,
            deadline,
            || match self.turn.load(Acquire) {
                now if now == turn && self.all_arrived(turn) => {
                    let ended = self.end(turn, turn.wrapping_add(COMPLETE));
                    Ok(ended.then_some(true))
                }
                now if now == turn => Ok(None),
                now if now >> 32 == turn >> 32 => Err(BarrierError::Broken),
                _ => Ok(Some(false)),
            },
            || {
                self.seated().filter(|id| *id != me).for_each(&mut recover);
                Ok(())
            },
        )?;
        match waited.got {
            Some(first) => Ok(first),
            None if self.end(turn, broken(turn)) => Err(BarrierError::TimedOut),
            // It has ended meanwhile. ORDERING: as above; the Release in `end`.
            None if self.turn.load(Acquire) >> 32 == turn >> 32 => Err(BarrierError::Broken),
            None => Ok(false),
        }
    }

    /// Ends the round, unless it has ended.
    fn end(&self, turn: u64, next: u64) -> bool {
        // ORDERING: AcqRel pairs with itself, in `end`, and its Release with the Acquire in `wait`: whoever goes on sees what
        // all did before.
        let ended = self.turn.exchange(turn, next, AcqRel).is_ok();
        if ended {
            self.changed.notify(u32::MAX);
        }
        ended
    }

    fn all_arrived(&self, turn: u64) -> bool {
        self.seats.iter().all(|word| {
            // ORDERING: Acquire pairs with the Release in `wait`.
            let found = word.load(Acquire);
            holder(found).is_some_and(|id| found == arrived(turn, id))
        })
    }

    /// Who has seats.
    pub fn seated(&self) -> impl Iterator<Item = ParticipantId> {
        self.seats
            .iter()
            .filter_map(|word| holder(word.load(Relaxed)))
    }

    /// Breaks the round and frees the seats of a participant that is proven dead. Idempotent, but that it may break the
    /// next round too.
    pub fn recover(&self, dead: ParticipantId) {
        if self.seated().all(|id| id != dead) {
            return;
        }
        loop {
            let turn = self.turn.load(Relaxed);
            if self.end(turn, broken(turn)) {
                break;
            }
        }
        for word in &self.seats {
            let found = word.load(Relaxed);
            if holder(found) == Some(dead) {
                // ORDERING: Release pairs with the Acquire in `sit`: the round is broken for whoever takes the seat.
                let _ = word.exchange(found, 0, Release);
            }
        }
    }
}

/// One more broken, and no carry into the complete ones.
fn broken(turn: u64) -> u64 {
    turn & !(COMPLETE - 1) | turn.wrapping_add(BROKEN) & (COMPLETE - 1)
}

/// A fixed number of seats whose holders wait for each other.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, Barrier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let start = Barrier::create(Place::Anonymous, 2)?;
/// // Threads here, processes as a rule.
/// let [one, another] = std::thread::scope(|scope| {
///     let comes = || scope.spawn(|| start.sit().and_then(|mut seat| seat.wait()));
///     [comes(), comes()].map(|side| side.join().expect("no panic"))
/// });
/// // One of them ended the round.
/// assert!(one? != another?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    base: Base,
    seats: Seats<Mapped>,
    wait: Wait,
}

impl Attach for Barrier {
    /// How many wait for each other: 1 to 16,382.
    type Parameters = u16;

    fn spec(seats: u16) -> Result<ObjectSpec, SegmentError> {
        if !(1..=MOST).contains(&seats) {
            return Err(SegmentError::Object(format!(
                "a barrier has 1 to {MOST} seats, not {seats}"
            )));
        }
        let len = field::SEATS + 8 * usize::from(seats);
        Ok(spec_of(KIND, len, String::new(), [seats.into(), 0]))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, "")?;
        let count = base.object.entry().parameters[0] as usize;
        let seats = Seats::new(base.object.area(), count).map_err(misfit(base.object.entry()))?;
        Ok(Self {
            base,
            seats,
            wait: Wait::default(),
        })
    }

    fn object(&self) -> &Object {
        &self.base.object
    }
}

impl Barrier {
    /// How to wait for the others. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Takes a seat. Those of the dead are cleared first if there is no other.
    ///
    /// # Errors
    ///
    /// [`BarrierError::NoSeat`], [`BarrierError::Forked`].
    pub fn sit(&self) -> Result<Seat<'_>, BarrierError> {
        if !self.base.is_here() {
            return Err(BarrierError::Forked);
        }
        let sit = || self.seats.sit(self.base.me);
        let index = sit().or_else(|| {
            let seated = self
                .seats
                .seats
                .iter()
                .filter_map(|word| holder(word.load(Relaxed)));
            seated
                .filter(|id| *id != self.base.me)
                .for_each(|id| self.base.recover(id));
            sit()
        });
        index
            .map(|index| Seat {
                barrier: self,
                index,
            })
            .ok_or(BarrierError::NoSeat)
    }

    /// How many seats were taken when looked at, those of the dead included.
    pub fn seated(&self) -> usize {
        self.seats.seated().count()
    }
}

/// A seat in a [`Barrier`], given back on drop.
#[derive(Debug)]
pub struct Seat<'b> {
    barrier: &'b Barrier,
    index: usize,
}

impl Seat<'_> {
    /// Waits until all seats are taken and all who have them wait. True for one of them.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`], [`BarrierError::Forked`].
    pub fn wait(&mut self) -> Result<bool, BarrierError> {
        self.wait_within(None)
    }

    /// As [`wait`](Self::wait), until `deadline`.
    ///
    /// # Errors
    ///
    /// As there, and [`BarrierError::TimedOut`].
    pub fn wait_until(&mut self, deadline: Instant) -> Result<bool, BarrierError> {
        self.wait_within(Some(deadline))
    }

    fn wait_within(&mut self, deadline: Option<Instant>) -> Result<bool, BarrierError> {
        let Barrier { base, seats, wait } = self.barrier;
        if !base.is_here() {
            return Err(BarrierError::Forked);
        }
        let deadline = base.deadline(deadline);
        let recover = |id| base.recover(id);
        seats.wait(base.me, self.index, *wait, deadline, recover)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Barrier { base, seats, .. } = self.barrier;
        if base.is_here() {
            seats.stand(base.me, self.index);
        }
    }
}
