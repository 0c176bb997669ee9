//! The producer's side of a lane: the protocol of [`bytes`](crate::bytes), step by step.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_core::event::{Event, Wait};
use ipc_core::memory::{Arena, Memory};

use super::lane::{AHEAD, BACK_OFF, LINE, Lane, Shared};
use super::place::Place;
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, Refusal, Side, Whole};

/// Of a long record, so many bytes further on are fetched: those that come later would only push others out of the cache.
const FETCHED: u64 = 16 << 10;

/// The producer's side of a lane.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    index: usize,
    lane: Lane<M>,
    /// Our position.
    tail: u64,
    /// The consumer's, when last seen.
    head: u64,
    /// Records pushed by all producers of this lane.
    pushed: u64,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    /// The side of the lane of `ring` that has this index.
    pub(super) fn new(ring: Shared<M>, index: usize) -> Result<Self, Refusal> {
        let lane = ring.lanes[index].clone();
        let (head, tail) = lane.positions()?;
        lane.show(head);
        let pushed = lane.pushed.load(Relaxed);
        Ok(Self {
            ring,
            index,
            lane,
            tail,
            head,
            pushed,
            pace: Pace::new(pushed),
        })
    }

    /// Room for a record of `len` bytes, which are at most half the arena. Nothing is written to shared memory: to
    /// forget the record is to give it back.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is no room, [`Refusal::Closed`], [`Refusal::Corrupt`].
    #[inline(always)]
    pub fn try_reserve(&mut self, len: usize) -> Result<Place, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        self.fit(self.tail, len)
    }

    /// Copies as many records in as there is room for, and publishes them in one step. At least one, unless refused.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is no room, [`Refusal::Closed`], [`Refusal::Corrupt`].
    pub fn try_push_batch(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<usize, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        let (mut end, mut count) = (self.tail, 0);
        for payload in payloads {
            let payload = payload.as_ref();
            let record = match self.fit(end, payload.len()) {
                Ok(record) => record,
                Err(Refusal::NotYet) if count > 0 => break,
                Err(refusal) => return Err(refusal),
            };
            self.lane.arena.write(record.payload, payload);
            self.lane.arena.store(record.start, record.header());
            end = record.end();
            count += 1;
        }
        self.publish(end, count as u64);
        Ok(count)
    }

    /// Copies bytes into the payload of a record that is reserved, from byte `at` on. They must lie within it.
    ///
    /// # Panics
    ///
    /// If they do not.
    #[inline(always)]
    pub fn write(&self, record: &Place, at: usize, bytes: &[u8]) {
        assert!(at <= record.len && bytes.len() <= record.len - at);
        let position = record.payload.wrapping_add(at as u64);
        self.lane.arena.write(position, bytes);
    }

    /// Publishes the record that was reserved last.
    #[inline(always)]
    pub fn commit(&mut self, record: Place) {
        self.lane.arena.store(record.start, record.header());
        self.publish(record.end(), 1);
    }

    /// Whether somebody has closed the ring.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.lane.closed.load(Relaxed) != 0
    }

    /// The arena, for views of a record.
    pub(super) fn arena(&self) -> &Arena<M> {
        &self.lane.arena
    }

    /// Room for a record that begins at `start`, behind what we have written.
    #[inline(always)]
    fn fit(&mut self, start: u64, len: usize) -> Result<Place, Refusal> {
        let record = Place::new(&self.lane.arena, start, len);
        // Stores wait in a queue for the lines they go to. Those of the next records are fetched while this one is copied.
        let extent = record.end().wrapping_sub(start).min(FETCHED);
        for step in (0..extent).step_by(LINE) {
            let ahead = start.wrapping_add(step).wrapping_add(AHEAD);
            self.lane.arena.expect_write(ahead);
        }
        if record.end().wrapping_sub(self.head) > self.lane.arena.len() as u64 {
            self.refresh(record.end())?;
        }
        Ok(record)
    }

    /// Looks at the consumer's position; `NotYet` if it leaves no room up to `end`.
    #[inline(never)]
    fn refresh(&mut self, end: u64) -> Result<(), Refusal> {
        // ORDERING: Acquire pairs with the Release in `Outlet::commit`: the payloads have been read.
        let head = self.lane.head.load(Acquire);
        self.lane.distance(head, self.tail)?;
        self.head = head;
        self.lane.show(head);
        self.pace.stream(&self.lane.space, self.pushed);
        if end.wrapping_sub(head) > self.lane.arena.len() as u64 {
            Err(Refusal::NotYet)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn publish(&mut self, end: u64, records: u64) {
        self.pushed = self.pushed.wrapping_add(records);
        self.lane.pushed.store(self.pushed, Relaxed);
        self.tail = end;
        // ORDERING: Release pairs with the Acquire in `Outlet::refresh`: headers and payloads come before the position.
        self.lane.tail.store(end, Release);
        self.lane.items.notify(1);
    }
}

impl<M: Memory> Side for Sender<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Producer
    }

    fn place(&self) -> Option<usize> {
        Some(self.index)
    }

    fn event(&self) -> &Event<M> {
        &self.lane.space
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.consumer)
    }

    /// Those of this lane.
    fn len(&self) -> usize {
        self.lane.len()
    }

    fn before_wait(&mut self, wait: Wait) {
        let memory = self.lane.space.memory();
        self.pace.before_wait(memory, self.pushed, wait, BACK_OFF);
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.pushed, slept);
    }
}
