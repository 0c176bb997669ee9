//! The ring in its area of shared memory, and its producer: the protocol of [`broadcast_bytes`](crate::broadcast_bytes).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::Event;
use ipc_core::memory::{Area, Arena, Memory, OutOfArea, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use super::mark::{self, Mark, Note};
use crate::broadcast::audience::{Audience, Heed, field, patience_of};
use crate::bytes::{Place, SendRecords};
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, Moved, NoPeek, Peek, Refusal, Side, Spot, Whole};

/// Where the mark of the oldest record is, behind that of the tail; and how many times the producer has looked at its
/// readers' row, beside the count of them.
const OLDEST: usize = 64;
const SEEN: usize = field::JOINED + 8;
const _: () = assert!(mark::SIZE <= OLDEST && OLDEST + mark::SIZE <= field::ITEMS);

/// What part of the arena is given up at a time, so that readers find the mark of the oldest record where it was.
const STEP: u64 = 16;

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    pub(super) audience: Audience<M>,
    pub(super) tail: Mark<M>,
    pub(super) oldest: Mark<M>,
    /// Of the counts of those who have joined, the one that the producer has taken note of.
    pub(super) seen: Word64<M>,
    /// Where the lossless readers are.
    pub(super) heads: Vec<Mark<M>>,
    pub(super) arena: Arena<M>,
}

impl<M: Memory> Shared<M> {
    /// The ring with an arena of `capacity` bytes in `area`.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
    pub fn new(area: &Area<M>, capacity: usize) -> Result<Self, OutOfArea> {
        let audience = Audience::new(area)?;
        let rows = 0..audience.rows.len();
        let heads = rows.map(|row| Mark::new(area, field::ROWS + row * field::ROW + field::HEAD));
        Ok(Self {
            tail: Mark::new(area, field::TAIL)?,
            oldest: Mark::new(area, OLDEST)?,
            seen: area.word64(SEEN)?,
            heads: heads.collect::<Result<_, _>>()?,
            arena: area.arena(field::END, capacity)?,
            audience,
        })
    }

    /// The ring that the directory says is in `area`.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let [capacity, patience] = entry.parameters;
        let ring = Self::new(area, capacity as usize)?;
        Ok(ring.with_patience(patience_of(patience)))
    }

    /// The same ring, whose producer lets go of a lossless reader that holds up a push for so long; never if `None`.
    pub fn with_patience(self, patience: Option<Duration>) -> Self {
        Self {
            audience: self.audience.with_patience(patience),
            ..self
        }
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize) -> Option<usize> {
        capacity.checked_add(field::END)
    }

    /// The producer's role.
    pub fn producer(&self) -> &Role<M> {
        &self.audience.producer
    }

    /// The roles of the lossless readers.
    pub fn readers(&self) -> impl Iterator<Item = &Role<M>> {
        self.audience.rows.iter().map(|row| &row.role)
    }

    /// What the holder of the producer's role works with.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`] if the marks contradict each other.
    pub fn sender(&self) -> Result<Sender<M>, Refusal> {
        let tail = self.tail.get().ok_or(Refusal::Corrupt)?;
        let oldest = self.oldest.get().ok_or(Refusal::Corrupt)?;
        let kept = tail.position.wrapping_sub(oldest.position);
        if kept > self.arena.len() as u64 || (tail.position | oldest.position) % 8 != 0 {
            return Err(Refusal::Corrupt);
        }
        Ok(Sender {
            ring: self.clone(),
            tail: tail.position,
            number: tail.number,
            oldest,
            heed: Heed::new(tail.position),
            pace: Pace::new(tail.number),
        })
    }
}

impl<M: Memory> Whole for Shared<M> {
    /// Records that the slowest lossless reader has still to take.
    fn len(&self) -> usize {
        let Some(tail) = self.tail.get() else {
            return 0;
        };
        let behind = |row: usize| {
            let head = self.heads[row].get().filter(|_| self.audience.heeds(row))?;
            Some(tail.number.wrapping_sub(head.number) as usize)
        };
        let slowest = (0..self.heads.len()).filter_map(behind).max();
        slowest.unwrap_or(0).min(self.arena.len() / 8)
    }

    fn capacity(&self) -> usize {
        self.arena.len()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.audience.is_closed()
    }

    fn close(&self) {
        self.audience.close();
    }

    /// The producer stops waiting for the dead one.
    fn recover(&self, dead: ParticipantId) {
        self.audience.recover(dead);
    }

    /// The bytes are those of the arena, headers and padding included.
    fn moved(&self, end: End, _place: usize, counted: Moved) -> Moved {
        match (end, self.tail.spot()) {
            (End::Producer, Spot { position, number }) => Moved {
                messages: number,
                bytes: position,
            },
            (End::Consumer, _) => counted,
        }
    }
}

impl<M: Memory> Peek for Shared<M> {
    fn oldest(&self, _lane: usize) -> Spot {
        self.oldest.spot()
    }

    fn newest(&self, _lane: usize) -> Spot {
        self.tail.spot()
    }

    fn peek(&self, _lane: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek> {
        let published = self.tail.position().wrapping_sub(at.position);
        if published as i64 <= 0 {
            return Err(NoPeek::NotYet);
        }
        let record = Place::read(&self.arena, at.position, published);
        if let Ok(record) = &record {
            into.resize(record.len, 0);
            record.read_at(&self.arena, 0, into);
        }
        // ORDERING: pairs with the fence in `Sender::give_up_oldest`, as in `Cursor::is_whole`.
        self.audience.items.memory().fence(Acquire);
        if self.oldest.has_passed(at.position) {
            // Where it moves too fast to be caught, the next attempt may.
            let oldest = self.oldest.get().ok_or(NoPeek::NotYet)?;
            return Err(NoPeek::Gone(oldest.spot()));
        }
        record.map_err(|_| NoPeek::Corrupt).map(|record| Spot {
            position: record.end(),
            number: at.number.wrapping_add(1),
        })
    }
}

/// The producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    /// Our position, and the number of the next record.
    tail: u64,
    number: u64,
    /// The oldest record that we have not begun to write over.
    oldest: Note,
    heed: Heed,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    /// Whether the readers let us write up to `end`.
    #[inline]
    fn room(&mut self, end: u64) -> Result<(), Refusal> {
        if self.heed.suffices(&self.ring.audience, self.tail, end) {
            return Ok(());
        }
        self.look_at_readers(end)
    }

    #[inline(never)]
    fn look_at_readers(&mut self, end: u64) -> Result<(), Refusal> {
        let ring = &self.ring;
        self.pace.stream(&ring.audience.space, self.number);
        let capacity = ring.arena.len() as u64;
        let looked = self.heed.look(&ring.audience, self.tail, end, capacity);
        let seen = self.heed.joined();
        if ring.seen.load(Relaxed) != seen {
            // ORDERING: Release pairs with the Acquire in `Receiver::is_settled`: the mark of the oldest record is where it was
            // before we looked.
            ring.seen.store(seen, Release);
        }
        looked
    }

    /// Gives up the oldest records as far as one that ends at `end` needs their place.
    #[inline]
    fn make_room(&mut self, end: u64) {
        if end.wrapping_sub(self.oldest.position) > self.ring.arena.len() as u64 {
            self.give_up_oldest(end);
        }
    }

    #[inline(never)]
    fn give_up_oldest(&mut self, end: u64) {
        let arena = &self.ring.arena;
        let capacity = arena.len() as u64;
        // A little more than is needed, but nothing that a lossless reader has still to take.
        let spare = self.heed.limit.wrapping_sub(end).min(capacity / STEP);
        let end = end.wrapping_add(spare);
        let Note {
            position: from,
            mut number,
            ..
        } = self.oldest;
        let mut at = from;
        while at != self.tail && end.wrapping_sub(at) > capacity {
            match Place::read(arena, at, self.tail.wrapping_sub(at)) {
                Ok(record) => {
                    at = record.end();
                    number = number.wrapping_add(1);
                }
                // Somebody has written rubbish: nothing before the tail is to be trusted any more.
                Err(_) => (at, number) = (self.tail, self.number),
            }
        }
        self.oldest = Note {
            position: at,
            number,
            before: 0,
        };
        self.ring.oldest.set(from, self.oldest);
        // ORDERING: pairs with the fence in `Cursor::is_whole`: who has copied a byte that is written from here on sees that
        // the mark has moved.
        self.ring.audience.items.memory().fence(Release);
    }

    /// Publishes a record whose payload is there.
    #[inline]
    fn publish(&mut self, record: Place) {
        self.ring.arena.store(record.start, record.header());
        self.number = self.number.wrapping_add(1);
        let from = std::mem::replace(&mut self.tail, record.end());
        let note = Note {
            position: self.tail,
            number: self.number,
            before: record.start,
        };
        self.ring.tail.set(from, note);
    }
}

impl<M: Memory> SendRecords for Sender<M> {
    /// What lies in the way is lost to readers that may miss records, also if the room is given back.
    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<Place, Refusal> {
        if self.ring.is_closed() {
            return Err(Refusal::Closed);
        }
        let record = Place::new(&self.ring.arena, self.tail, len);
        self.room(record.end())?;
        self.make_room(record.end());
        Ok(record)
    }

    #[inline]
    fn write(&self, record: &Place, at: usize, bytes: &[u8]) {
        record.write(&self.ring.arena, at, bytes);
    }

    #[inline]
    fn commit(&mut self, record: Place) {
        self.publish(record);
        self.ring.audience.items.notify(u32::MAX);
    }

    /// Publishes them one by one, and tells the readers once.
    fn try_push_batch(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<usize, Refusal> {
        let mut count = 0;
        for payload in payloads {
            let payload = payload.as_ref();
            match self.try_reserve(payload.len()) {
                Ok(record) => {
                    self.write(&record, 0, payload);
                    self.publish(record);
                }
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
            count += 1;
        }
        self.ring.audience.items.notify(u32::MAX);
        Ok(count)
    }

    fn arena(&self) -> &Arena<M> {
        &self.ring.arena
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

    fn event(&self) -> &Event<M> {
        &self.ring.audience.space
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.number, slept);
    }
}

/// Whether the ring was closed before the tail that is loaded after this.
#[inline]
pub(super) fn is_closed<M: Memory>(ring: &Shared<M>) -> bool {
    // ORDERING: Acquire pairs with the Release in `Audience::close`: what was pushed before is seen by the load of the tail.
    ring.audience.closed.load(Acquire) != 0
}
