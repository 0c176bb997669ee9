//! Seats: a line for each end of a ring, in which whoever works there counts.
//!
//! # Protocol
//!
//! The seats of a ring lie behind all else that it has: first those of producers, then those of consumers. A seat is a
//! [role](crate::role) and some counts:
//!
//! ```text
//! take      claim the role;  base := counts     word by word
//! count     one more, by a plain load and a plain store: the holder is the only one who writes
//! leave     give the role up; the counts stay
//! recover   recovered := recovered + 1;  take the role from the dead one
//! ```
//!
//! So what was ever counted at an end is the sum over its seats, whoever had them, and what a participant has counted is
//! the difference to its base. Nothing is moved or added up when a holder goes, so a death loses no more than the count that
//! it interrupts. One killed while it takes the seat leaves a base of which some words are those of its predecessor; a
//! recoverer that is killed may have counted a recovery that the next one counts again. Nothing is decided by any of
//! these numbers, and they may be any numbers in a ring that somebody writes rubbish to.
//!
//! What is rare is counted when it happens. Messages are counted here only where no position tells how many they were.
//! A handle that finds no free seat works all the same, and is not counted.

use std::sync::atomic::Ordering::Relaxed;

use ipc_core::Mapped;
use ipc_core::memory::{Area, Memory, OutOfArea, Word64, Words};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use crate::role::{Holder, Role};
use crate::side::{End, Moved, Whole};
use crate::{broadcast, broadcast_bytes, bytes, lanes, mpmc, spsc};

/// Bytes of a seat: two lines, so that seats do not disturb each other.
const SEAT: usize = 128;

/// Offsets in a seat, in words of 8 bytes.
mod field {
    /// The role is word 0; the counts follow it.
    pub(super) const COUNTS: u64 = 1;
    pub(super) const BASE: u64 = 8;
}

/// What is counted, in the order of the words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Messages,
    Refused,
    Waits,
    WakeUps,
    Lagged,
    Recovered,
    Bytes,
}

/// How many words there are of them.
const COUNTS: usize = 7;

/// What was counted at an end of a ring, or by one who works there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages published, or taken.
    pub messages: u64,
    /// Bytes of these; of records with what they need for headers and padding.
    pub bytes: u64,
    /// How often a producer found the ring full.
    pub full: u64,
    /// How often a consumer found it empty, or the next message not published yet.
    pub empty: u64,
    /// How often somebody had to wait, polling or asleep.
    pub waits: u64,
    /// How many of these waits took a sleep, and were ended by a wake-up or its deadline.
    pub wake_ups: u64,
    /// Messages that a reader has missed.
    pub lagged: u64,
    /// How often somebody had died here, and was cleared up after.
    pub recovered: u64,
}

/// A place at an end of a ring, and who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Party {
    /// Which end.
    pub end: End,
    /// Which of the places there. Of a ring of lanes: which lane.
    pub index: usize,
    /// Who has it.
    pub holder: Holder,
    /// What the one who has it, or had it last, has counted.
    pub now: Counters,
    /// What all who ever had it have counted.
    pub ever: Counters,
}

/// What was counted in a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// All places that were ever taken.
    pub parties: Vec<Party>,
    /// What was ever counted by all producers together.
    pub produced: Counters,
    /// What was ever counted by all consumers together.
    pub consumed: Counters,
}

/// The seats of a ring.
#[derive(Clone, Debug)]
pub(crate) struct Seats<M> {
    area: Area<M>,
    producers: usize,
    consumers: usize,
}

/// How many seats a ring has for each end, by its tag and the number of its lanes.
fn count(tag: [u8; 8], lanes: u64) -> (usize, usize) {
    const BROADCAST: [u8; 8] = broadcast::KIND.tag;
    const BROADCAST_BYTES: [u8; 8] = broadcast_bytes::KIND.tag;
    const BYTES: [u8; 8] = bytes::KIND.tag;
    const CHANNEL: [u8; 8] = bytes::CHANNEL.tag;
    const LANES: [u8; 8] = lanes::KIND.tag;
    const MPMC: [u8; 8] = mpmc::KIND.tag;
    const SPSC: [u8; 8] = spsc::KIND.tag;
    match tag {
        BROADCAST | BROADCAST_BYTES => (1, 2 * broadcast::LOSSLESS),
        MPMC => (32, 32),
        BYTES | SPSC => (1, 1),
        LANES | CHANNEL => (lanes.min(lanes::MAX_LANES as u64) as usize, 1),
        _ => (0, 0),
    }
}

/// Bytes of a ring with its seats, which is of `len` bytes without them.
pub(crate) fn size(tag: [u8; 8], lanes: u64, len: usize) -> Option<usize> {
    let (producers, consumers) = count(tag, lanes);
    len.checked_next_multiple_of(SEAT)?
        .checked_add((producers + consumers) * SEAT)
}

impl<M: Memory> Seats<M> {
    /// The seats of the ring in `area`.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let (producers, consumers) = count(entry.kind, entry.parameters[1]);
        let len = (producers + consumers) * SEAT;
        let at = area.len().checked_sub(len).unwrap_or(usize::MAX);
        Ok(Self {
            area: area.part(at, len)?,
            producers,
            consumers,
        })
    }

    fn seat(&self, end: End, index: usize) -> Result<Seat<M>, OutOfArea> {
        let at = match end {
            End::Producer => index,
            End::Consumer => self.producers + index,
        };
        let words = self.area.slots(at * SEAT, 8, SEAT / 8)?;
        let words = words.words(0)?;
        let count = |count: Count| {
            let word = field::COUNTS as usize + count as usize;
            self.area.word64(at * SEAT + 8 * word)
        };
        Ok(Seat {
            messages: count(Count::Messages)?,
            bytes: count(Count::Bytes)?,
            role: Role::new(&self.area, at * SEAT)?,
            before: Moved::default(),
            words,
        })
    }

    fn all(&self) -> impl Iterator<Item = (End, usize, Seat<M>)> {
        let producers = (0..self.producers).map(|index| (End::Producer, index));
        let consumers = (0..self.consumers).map(|index| (End::Consumer, index));
        producers
            .chain(consumers)
            .filter_map(|(end, index)| Some((end, index, self.seat(end, index).ok()?)))
    }

    /// Takes the seat that was asked for, or any at that end.
    pub(crate) fn take(
        &self,
        end: End,
        index: Option<usize>,
        me: ParticipantId,
        ring: &dyn Whole,
    ) -> Option<Seat<M>> {
        let most = match end {
            End::Producer => self.producers,
            End::Consumer => self.consumers,
        };
        let indices = index.map_or(0..most, |index| index..most.min(index + 1));
        for index in indices {
            let mut seat = self.seat(end, index).ok()?;
            if seat.role.claim(me).is_ok() {
                // Only now nobody else counts there.
                seat.before = seat.moved();
                let counts = seat.raw(end, index, ring);
                for (at, count) in counts.into_iter().enumerate() {
                    seat.words.store(field::BASE + at as u64, count, Relaxed);
                }
                return Some(seat);
            }
        }
        None
    }

    /// Takes the seats of a participant that is proven dead.
    fn recover(&self, dead: ParticipantId) {
        for (_, _, seat) in self.all() {
            if seat.role.holder() == Holder::Present(dead) {
                seat.add(Count::Recovered, 1);
                seat.role.recover(dead);
            }
        }
    }

    /// What was counted.
    pub(crate) fn statistics(&self, ring: &dyn Whole) -> Statistics {
        let mut all = Statistics::default();
        for (end, index, seat) in self.all() {
            let holder = seat.role.holder();
            if holder == Holder::Never {
                continue;
            }
            let raw = seat.raw(end, index, ring);
            let base = |at: usize| seat.words.load(field::BASE + at as u64, Relaxed);
            let now = std::array::from_fn(|at| raw[at].wrapping_sub(base(at)));
            let (now, ever) = (Counters::new(end, now), Counters::new(end, raw));
            match end {
                End::Producer => all.produced.add(&ever),
                End::Consumer => all.consumed.add(&ever),
            }
            all.parties.push(Party {
                end,
                index,
                holder,
                now,
                ever,
            });
        }
        all
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Seat<M> {
    role: Role<M>,
    words: Words<M>,
    /// Those of the words that are written with every message.
    messages: Word64<M>,
    bytes: Word64<M>,
    /// What those counted who had the seat before.
    before: Moved,
}

impl<M: Memory> Seat<M> {
    /// Tells what was moved since the seat was taken.
    #[inline]
    pub(crate) fn set_moved(&self, messages: u64, bytes: Option<u64>) {
        let Moved {
            messages: before,
            bytes: bytes_before,
        } = self.before;
        self.messages.store(before.wrapping_add(messages), Relaxed);
        if let Some(bytes) = bytes {
            self.bytes.store(bytes_before.wrapping_add(bytes), Relaxed);
        }
    }

    /// What was moved by all who had it, as they counted.
    fn moved(&self) -> Moved {
        Moved {
            messages: self.messages.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    fn get(&self, count: Count) -> u64 {
        self.words.load(field::COUNTS + count as u64, Relaxed)
    }

    #[inline]
    fn set(&self, count: Count, sum: u64) {
        self.words.store(field::COUNTS + count as u64, sum, Relaxed);
    }

    /// Counts.
    #[inline]
    pub(crate) fn add(&self, count: Count, by: u64) {
        self.set(count, self.get(count).wrapping_add(by));
    }

    /// Gives the seat up.
    pub(crate) fn leave(&self, me: ParticipantId) {
        self.role.give_up(me);
    }

    /// The counts as they are, or as the positions of the ring tell.
    fn raw(&self, end: End, index: usize, ring: &dyn Whole) -> [u64; COUNTS] {
        let load = |at: usize| self.words.load(field::COUNTS + at as u64, Relaxed);
        let mut raw = std::array::from_fn(load);
        let moved = ring.moved(end, index, self.moved());
        raw[Count::Messages as usize] = moved.messages;
        raw[Count::Bytes as usize] = moved.bytes;
        raw
    }
}

impl Counters {
    fn new(end: End, raw: [u64; COUNTS]) -> Self {
        let [messages, refused, waits, wake_ups, lagged, recovered, bytes] = raw;
        let (full, empty) = match end {
            End::Producer => (refused, 0),
            End::Consumer => (0, refused),
        };
        Self {
            messages,
            bytes,
            full,
            empty,
            waits,
            wake_ups,
            lagged,
            recovered,
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.full, other.full),
            (&mut self.empty, other.empty),
            (&mut self.waits, other.waits),
            (&mut self.wake_ups, other.wake_ups),
            (&mut self.lagged, other.lagged),
            (&mut self.recovered, other.recovered),
        ];
        for (sum, count) in pairs {
            *sum = sum.wrapping_add(count);
        }
    }
}

/// Clears up after a dead participant in a ring, which `of` makes of its area.
pub(crate) fn recover<W: Whole>(
    area: &Area<Mapped>,
    entry: &Entry,
    dead: ParticipantId,
    of: fn(&Area<Mapped>, &Entry) -> Result<W, OutOfArea>,
) -> Result<(), OutOfArea> {
    let ring = of(area, entry)?;
    Seats::of(area, entry)?.recover(dead);
    ring.recover(dead);
    Ok(())
}
