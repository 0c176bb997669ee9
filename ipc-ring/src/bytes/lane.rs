//! The algorithm under `bytes` and `lanes`: lanes of records from one producer each to a consumer that they share.
//!
//! The [parent](super) describes the protocol of one lane. What lanes share is the word that a sleeping consumer waits on,
//! the word that closes all of them, and the consumer's role. A byte ring has one lane.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Wait, Waiters};
use ipc_core::memory::{Area, Arena, Memory, OutOfArea, Word32, Word64};
use ipc_core::participant::ParticipantId;

use super::place::{Place, is_start, max_len};
use crate::role::Role;
use crate::side::{Refusal, Side};

/// Offsets in the object. Each line of 128 bytes has one writer, or is hardly ever written.
mod field {
    /// Read by producers with every record, written when the consumer's mood changes.
    pub(super) const ITEMS: usize = 0;
    pub(super) const CLOSED: usize = 4;
    /// Written when the role changes hands.
    pub(super) const CONSUMER: usize = 128;
    pub(super) const LANES: usize = 256;

    /// Of a lane. Written by its producer.
    pub(super) const TAIL: usize = 0;
    pub(super) const PUSHED: usize = 8;
    /// Written by the consumer.
    pub(super) const HEAD: usize = 128;
    pub(super) const POPPED: usize = 136;
    pub(super) const LENT: usize = 144;
    /// Read by the consumer with every record, written when the producer's mood changes.
    pub(super) const SPACE: usize = 256;
    /// Written when the role changes hands.
    pub(super) const PRODUCER: usize = 384;
    pub(super) const ARENA: usize = 512;
}

/// What lanes begin at a multiple of.
const ALIGN: usize = 128;

/// After so many records without a sleep, a side promises not to sleep for now.
const CALM: u64 = 4096;

/// How long a side that has caught up with the other in a stream leaves its lines alone.
const BACK_OFF: Duration = Duration::from_micros(3);

/// How far ahead of a record a producer fetches lines for those to come.
const AHEAD: u64 = 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Of several lanes, how many bytes the consumer takes from one before it looks at the next.
const TURN: u64 = 64 << 10;

/// The lanes in their area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    lanes: Vec<Lane<M>>,
    items: Event<M>,
    closed: Word32<M>,
    consumer: Role<M>,
}

/// One of them.
#[derive(Clone, Debug)]
struct Lane<M> {
    tail: Word64<M>,
    pushed: Word64<M>,
    head: Word64<M>,
    popped: Word64<M>,
    lent: Word64<M>,
    space: Event<M>,
    producer: Role<M>,
    arena: Arena<M>,
    items: Event<M>,
    closed: Word32<M>,
}

impl<M: Memory> Shared<M> {
    /// `lanes` lanes in `area`, each with an arena of `capacity` bytes.
    pub fn new(area: &Area<M>, lanes: usize, capacity: usize) -> Result<Self, OutOfArea> {
        let items = Event::new(area, field::ITEMS, Waiters::One)?;
        let closed = area.word32(field::CLOSED)?;
        let size = Self::size(lanes, capacity);
        let whole = area.part(0, size.unwrap_or(usize::MAX))?;
        let lane = |index: usize| {
            let at = field::LANES + index * lane_size(capacity).unwrap_or(usize::MAX);
            Ok(Lane {
                tail: whole.word64(at + field::TAIL)?,
                pushed: whole.word64(at + field::PUSHED)?,
                head: whole.word64(at + field::HEAD)?,
                popped: whole.word64(at + field::POPPED)?,
                lent: whole.word64(at + field::LENT)?,
                space: Event::new(&whole, at + field::SPACE, Waiters::One)?,
                producer: Role::new(&whole, at + field::PRODUCER)?,
                arena: whole.arena(at + field::ARENA, capacity)?,
                items: items.clone(),
                closed: closed.clone(),
            })
        };
        Ok(Self {
            lanes: (0..lanes).map(lane).collect::<Result<_, _>>()?,
            consumer: Role::new(area, field::CONSUMER)?,
            items,
            closed,
        })
    }

    /// Bytes that they take; `None` if they cannot be counted.
    pub fn size(lanes: usize, capacity: usize) -> Option<usize> {
        lane_size(capacity)?
            .checked_mul(lanes)?
            .checked_add(field::LANES)
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Bytes of the arena of each lane.
    pub fn capacity(&self) -> usize {
        self.lanes.first().map_or(0, |lane| lane.arena.len())
    }

    /// The longest record, in bytes: half an arena.
    pub fn max_len(&self) -> usize {
        max_len(self.capacity())
    }

    /// The role of the producer of a lane.
    pub fn producer(&self, lane: usize) -> &Role<M> {
        &self.lanes[lane].producer
    }

    /// The consumer's role.
    pub fn consumer(&self) -> &Role<M> {
        &self.consumer
    }

    /// What the holder of the producer's role of a lane works with.
    pub fn sender(&self, lane: usize) -> Result<Sender<M>, Refusal> {
        let lane = self.lanes[lane].clone();
        let (head, tail) = lane.positions()?;
        Ok(Sender {
            pushed: lane.pushed.load(Relaxed),
            calm_since: lane.pushed.load(Relaxed),
            run_since: lane.pushed.load(Relaxed),
            ring: self.clone(),
            lane,
            tail,
            head,
        })
    }

    /// What the holder of the consumer's role works with. Refused only if no lane makes sense.
    pub fn receiver(&self) -> Result<Receiver<M>, Refusal> {
        let end = |lane: &Lane<M>| {
            let positions = lane.positions();
            let (head, tail) = positions.unwrap_or_default();
            End {
                popped: lane.popped.load(Relaxed),
                lent: lane.lent.load(Relaxed),
                lane: lane.clone(),
                tail,
                head,
                broken: positions.is_err(),
            }
        };
        let ends: Vec<_> = self.lanes.iter().map(end).collect();
        if ends.iter().all(|end| end.broken) {
            return Err(Refusal::Corrupt);
        }
        Ok(Receiver {
            ring: self.clone(),
            at: 0,
            turn_since: ends.first().map_or(0, |end| end.head),
            ends,
            taken: 0,
            run_since: 0,
            calm_since: 0,
        })
    }

    /// Closes all lanes for good, and wakes everybody.
    pub fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `Receiver::turn`: who sees them closed sees every record that was
        // pushed before.
        self.closed.store(1, Release);
        self.items.notify(1);
        for lane in &self.lanes {
            lane.space.notify(1);
        }
    }

    /// Whether somebody has closed them.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }

    /// Takes its roles from a participant that is proven dead. What it had not published or committed is as if it had
    /// never begun; nothing else needs repair. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        self.consumer.recover(dead);
        for lane in &self.lanes {
            lane.producer.recover(dead);
        }
    }

    /// Records in all lanes when looked at.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// Whether nothing was in them when looked at.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.used() == 0)
    }

    /// Bytes that the records in a lane take, headers and padding included, when looked at.
    pub fn used(&self, lane: usize) -> usize {
        self.lanes[lane].used()
    }

    /// How many records have gone into a lane, and how many have come out. Whoever is killed between a record and its
    /// count leaves it out of the count.
    pub fn counts(&self, lane: usize) -> (u64, u64) {
        let lane = &self.lanes[lane];
        (lane.pushed.load(Relaxed), lane.popped.load(Relaxed))
    }
}

/// Bytes from one lane to the next.
fn lane_size(capacity: usize) -> Option<usize> {
    capacity
        .checked_add(field::ARENA)?
        .checked_next_multiple_of(ALIGN)
}

impl<M: Memory> Lane<M> {
    /// Where both sides are; where there is one, the caller is one of them.
    fn positions(&self) -> Result<(u64, u64), Refusal> {
        // The head first: it never passes a tail that is loaded later. The tail may run on meanwhile, but not for a whole
        // arena, since the head that limits it can only have moved as well.
        let head = self.head.load(Acquire);
        let tail = self.tail.load(Acquire);
        let head = if self.distance(head, tail).is_ok() {
            head
        } else {
            self.head.load(Acquire)
        };
        self.distance(head, tail).map(|_| (head, tail))
    }

    fn used(&self) -> usize {
        self.positions()
            .map_or(0, |(head, tail)| tail.wrapping_sub(head) as usize)
    }

    /// Records, as the two sides count them. Where the counts contradict the positions, the positions are right.
    fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        let count = self.pushed.load(Relaxed).wrapping_sub(popped) as usize;
        match self.used() {
            0 => 0,
            used => count.clamp(1, used / 8),
        }
    }

    /// Bytes between two positions; `Corrupt` if there can be no so many, or no record begins there.
    #[inline]
    fn distance(&self, head: u64, tail: u64) -> Result<u64, Refusal> {
        let distance = tail.wrapping_sub(head);
        if distance > self.arena.len() as u64 || !is_start(head | tail) {
            Err(Refusal::Corrupt)
        } else {
            Ok(distance)
        }
    }
}

/// The producer's side of a lane.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    lane: Lane<M>,
    /// Our position.
    tail: u64,
    /// The consumer's, when last seen.
    head: u64,
    /// Records pushed by all producers of this lane.
    pushed: u64,
    /// Of these, how many when we last found no room, and when we last slept.
    run_since: u64,
    calm_since: u64,
}

impl<M: Memory> Sender<M> {
    /// Room for a record of `len` bytes, which are at most half the arena. Nothing is written to shared memory: to
    /// forget the record is to give it back.
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Place, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        self.fit(self.tail, len)
    }

    /// Copies as many records in as there is room for, and publishes them in one step. At least one, unless refused.
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
    #[inline]
    pub fn write(&self, record: &Place, at: usize, bytes: &[u8]) {
        assert!(at <= record.len && bytes.len() <= record.len - at);
        let position = record.payload.wrapping_add(at as u64);
        self.lane.arena.write(position, bytes);
    }

    /// Publishes the record that was reserved last.
    #[inline]
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
    #[inline]
    fn fit(&mut self, start: u64, len: usize) -> Result<Place, Refusal> {
        let record = Place::new(&self.lane.arena, start, len);
        // Stores wait in a queue for the lines they go to. Those of the next records are fetched while this one is copied.
        let extent = record.end().wrapping_sub(start);
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
        // ORDERING: Acquire pairs with the Release in `End::commit`: the payloads have been read.
        let head = self.lane.head.load(Acquire);
        self.lane.distance(head, self.tail)?;
        self.head = head;
        if self.pushed.wrapping_sub(self.calm_since) > CALM {
            self.lane.space.start_streaming();
        }
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
        // ORDERING: Release pairs with the Acquire in `End::refresh`: headers and payloads come before the position.
        self.lane.tail.store(end, Release);
        self.lane.items.notify(1);
    }
}

impl<M: Memory> Side for Sender<M> {
    type Memory = M;

    fn event(&self) -> &Event<M> {
        &self.lane.space
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.ring.consumer)
    }

    fn len(&self) -> usize {
        self.lane.len()
    }

    fn capacity(&self) -> usize {
        self.lane.arena.len()
    }

    fn close(&self) {
        self.ring.close();
    }

    fn before_wait(&mut self, wait: Wait) {
        let run = self.pushed.wrapping_sub(self.run_since);
        back_off(self.event(), run, wait);
        self.run_since = self.pushed;
    }

    fn after_wait(&mut self, slept: bool) {
        if slept {
            self.calm_since = self.pushed;
        }
    }

    fn leave(&mut self) {}
}

/// The consumer's side of all lanes.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    ends: Vec<End<M>>,
    /// The lane whose turn it is, and its position when that began.
    at: usize,
    turn_since: u64,
    /// Records that we took, and how many when we last found nothing, and when we last slept.
    taken: u64,
    run_since: u64,
    calm_since: u64,
}

/// The consumer's side of one lane.
#[derive(Debug)]
struct End<M> {
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
    /// The next record, which stays where it is until [`commit`](Self::commit).
    #[inline]
    pub fn try_next(&mut self) -> Result<Place, Refusal> {
        let end = &self.ends[self.at];
        let turn_is_over = end.head.wrapping_sub(self.turn_since) >= TURN;
        if end.head == end.tail || turn_is_over {
            self.turn()?;
        }
        let end = &mut self.ends[self.at];
        let published = end.tail.wrapping_sub(end.head);
        let record = Place::read(&end.lane.arena, end.head, published);
        if record.is_err() {
            end.give_up();
        }
        record
    }

    /// Copies bytes out of the payload of the next record, from byte `at` on. They must lie within it.
    #[inline]
    pub fn read(&self, record: &Place, at: usize, into: &mut [u8]) {
        assert!(at <= record.len && into.len() <= record.len - at);
        let position = record.payload.wrapping_add(at as u64);
        self.arena().read(position, into);
    }

    /// Commits the record that [`try_next`](Self::try_next) gave last.
    #[inline]
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
        if self.taken.wrapping_sub(self.calm_since) > CALM {
            self.ring.items.start_streaming();
        }
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

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

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

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    fn close(&self) {
        self.ring.close();
    }

    fn before_wait(&mut self, wait: Wait) {
        let run = self.taken.wrapping_sub(self.run_since);
        back_off(self.event(), run, wait);
    }

    fn after_wait(&mut self, slept: bool) {
        self.run_since = self.taken;
        if slept {
            self.calm_since = self.taken;
        }
    }

    fn leave(&mut self) {}
}

impl<M: Memory> End<M> {
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

/// Where a side has caught up with a stream, polling now would take the line that is being written away from the other
/// side for every single record.
fn back_off<M: Memory>(event: &Event<M>, run: u64, wait: Wait) {
    if run > 1 && wait != Wait::Block {
        let memory = event.memory();
        let until = memory.now() + BACK_OFF;
        while memory.now() < until {
            memory.pause();
        }
    }
}
