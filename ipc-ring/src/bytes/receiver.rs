//! The consumer's side of all lanes: the protocol of [`bytes`](crate::bytes), step by step.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_core::event::{Event, Wait};
use ipc_core::memory::{Arena, Memory};

use super::lane::{AHEAD, BACK_OFF, LINE, Lane, Shared};
use super::place::Place;
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, Refusal, Side, Whole};

/// Of several lanes, how many bytes the consumer takes from one before it looks at the next.
const TURN: u64 = 64 << 10;

/// The consumer's side of all lanes.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    ends: Vec<Outlet<M>>,
    /// The lane whose turn it is, and its position when that began.
    at: usize,
    turn_since: u64,
    /// Records that we took.
    taken: u64,
    pace: Pace,
}

/// The consumer's side of one lane.
#[derive(Debug)]
struct Outlet<M> {
    lane: Lane<M>,
    /// The producer's position, when last seen.
    tail: u64,
    /// Our position.
    head: u64,
    /// Records taken by all consumers of this lane.
    popped: u64,
    /// The end of what was last lent.
    lent: u64,
    /// What lies in it makes no sense; the lane is left alone.
    broken: bool,
}

impl<M: Memory> Receiver<M> {
    /// The side of all lanes of `ring`. Refused only if none of them makes sense.
    pub(super) fn new(ring: Shared<M>) -> Result<Self, Refusal> {
        let ends: Vec<_> = ring.lanes.iter().map(Outlet::new).collect();
        if ends.iter().all(|end| end.broken) {
            return Err(Refusal::Corrupt);
        }
        Ok(Self {
            ring,
            at: 0,
            turn_since: ends.first().map_or(0, |end| end.head),
            ends,
            taken: 0,
            pace: Pace::new(0),
        })
    }

    /// The next record, which stays where it is until [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is none, [`Refusal::Closed`] if there will be none, [`Refusal::Corrupt`].
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Place, Refusal> {
        let end = &self.ends[self.at];
        let turn_is_over = end.head.wrapping_sub(self.turn_since) >= TURN;
        if end.head == end.tail || turn_is_over {
            self.turn()?;
        }
        let end = &mut self.ends[self.at];
        let published = end.tail.wrapping_sub(end.head);
        let record = Place::read(&end.lane.arena, end.head, published);
        match &record {
            Ok(record) => end.fetch_ahead(record, published),
            Err(_) => end.give_up(),
        }
        record
    }

    /// Copies bytes out of the payload of the next record, from byte `at` on. They must lie within it.
    ///
    /// # Panics
    ///
    /// If they do not.
    #[inline(always)]
    pub fn read(&self, record: &Place, at: usize, into: &mut [u8]) {
        assert!(at <= record.len && into.len() <= record.len - at);
        let position = record.payload.wrapping_add(at as u64);
        self.arena().read(position, into);
    }

    /// Commits the record that [`try_next`](Self::try_next) gave last.
    #[inline(always)]
    pub fn commit(&mut self, record: Place) {
        self.taken = self.taken.wrapping_add(1);
        self.ends[self.at].commit(record.end(), 1);
    }

    /// Notes that the next record is about to be shown before it is committed. Tells whether it was before, by us or by a
    /// consumer that died.
    #[inline]
    pub fn lend(&mut self, record: &Place) -> bool {
        self.ends[self.at].lend(record)
    }

    /// The lane of the record that [`try_next`](Self::try_next) gave last.
    pub fn lane(&self) -> usize {
        self.at
    }

    /// The arena of that record.
    pub(super) fn arena(&self) -> &Arena<M> {
        &self.ends[self.at].lane.arena
    }

    /// Finds the next lane that has something, and makes it its turn.
    #[inline(never)]
    fn turn(&mut self) -> Result<(), Refusal> {
        // ORDERING: Acquire pairs with the Release in `close`: what was pushed before is seen in the tails below.
        let closed = self.ring.closed.load(Acquire) != 0;
        self.pace.stream(&self.ring.items, self.taken);
        let (lanes, mut broken) = (self.ends.len(), 0);
        for step in 1..=lanes {
            let at = (self.at + step) % lanes;
            let end = &mut self.ends[at];
            match end.refresh() {
                Ok(true) => {
                    self.turn_since = end.head;
                    self.at = at;
                    return Ok(());
                }
                Ok(false) => {}
                // Told once; then the others have their turn again.
                Err(refusal) if !end.broken => {
                    end.give_up();
                    return Err(refusal);
                }
                Err(_) => broken += 1,
            }
        }
        Err(match (broken == lanes, closed) {
            (true, _) => Refusal::Corrupt,
            (false, true) => Refusal::Closed,
            (false, false) => Refusal::NotYet,
        })
    }
}

impl<M: Memory> Outlet<M> {
    fn new(lane: &Lane<M>) -> Self {
        let positions = lane.positions();
        let (head, tail) = positions.unwrap_or_default();
        Self {
            popped: lane.popped.load(Relaxed),
            lent: lane.lent.load(Relaxed),
            lane: lane.clone(),
            tail,
            head,
            broken: positions.is_err(),
        }
    }

    /// Looks at the producer's position; whether there is a record.
    fn refresh(&mut self) -> Result<bool, Refusal> {
        if self.broken {
            return Err(Refusal::Corrupt);
        }
        // ORDERING: Acquire pairs with the Release in `Sender::publish`: headers and payloads come before the position.
        let tail = self.lane.tail.load(Acquire);
        let ready = self.lane.distance(self.head, tail)?;
        self.tail = tail;
        Ok(ready > 0)
    }

    /// Fetches the lines of the records to come, where these are published: a processor looks ahead by a few records only.
    #[inline(always)]
    fn fetch_ahead(&self, record: &Place, published: u64) {
        let extent = record.end().wrapping_sub(self.head).min(AHEAD);
        if published < AHEAD + extent {
            return;
        }
        for step in (0..extent).step_by(LINE) {
            let ahead = self.head.wrapping_add(AHEAD + step);
            self.lane.arena.expect_read(ahead);
        }
    }

    /// Leaves the lane alone from now on: what lies in it makes no sense.
    #[cold]
    fn give_up(&mut self) {
        self.broken = true;
        self.tail = self.head;
    }

    #[inline]
    fn commit(&mut self, end: u64, records: u64) {
        self.popped = self.popped.wrapping_add(records);
        self.lane.popped.store(self.popped, Relaxed);
        self.head = end;
        // ORDERING: Release pairs with the Acquire in `Sender::refresh`: the payloads have been read.
        self.lane.head.store(end, Release);
        self.lane.space.notify(1);
    }

    fn lend(&mut self, record: &Place) -> bool {
        let lent = self.lent.wrapping_sub(self.head);
        let end = record.end();
        if lent <= self.lane.arena.len() as u64 && lent >= end.wrapping_sub(self.head) {
            return true;
        }
        self.lent = end;
        // Only a successor reads it, after our death, which orders everything.
        self.lane.lent.store(end, Relaxed);
        false
    }
}

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    fn event(&self) -> &Event<M> {
        &self.ring.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        match self.ring.lanes.as_slice() {
            [lane] => Some(&lane.producer),
            // Where there are many, there is no end of them.
            _ => None,
        }
    }

    fn before_wait(&mut self, wait: Wait) {
        let memory = self.ring.items.memory();
        self.pace.before_wait(memory, self.taken, wait, BACK_OFF);
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.taken, slept);
    }
}
