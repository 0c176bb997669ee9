//! The algorithm under `bytes` and `lanes`: lanes of records from one producer each to a consumer that they share.
//!
//! The [parent](super) describes the protocol of one lane. What lanes share is the word that a sleeping consumer waits on,
//! the word that closes all of them, and the consumer's role. A byte ring has one lane.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, Arena, Memory, OutOfArea, Word32, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use super::place::{Place, is_start, max_len};
use super::receiver::Receiver;
use super::sender::Sender;
use crate::role::Role;
use crate::side::{End, Moved, NoPeek, Peek, Refusal, Spot, Whole};

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
    pub(super) const SEEN: usize = 16;
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

/// How long a side that has caught up with the other in a stream leaves its lines alone.
pub(super) const BACK_OFF: Duration = Duration::from_micros(3);

/// How far ahead of a record a side fetches lines for those to come.
pub(super) const AHEAD: u64 = 1024;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// How often an observer looks at a position and a count that move under its eyes.
const TRIES: u32 = 16;

/// The lanes in their area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    pub(super) lanes: Vec<Lane<M>>,
    pub(super) items: Event<M>,
    pub(super) closed: Word32<M>,
    pub(super) consumer: Role<M>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Lane<M> {
    pub(super) tail: Word64<M>,
    pub(super) pushed: Word64<M>,
    /// The head that the producer goes by. It writes nothing an arena ahead of it.
    pub(super) seen: Word64<M>,
    pub(super) head: Word64<M>,
    pub(super) popped: Word64<M>,
    pub(super) lent: Word64<M>,
    pub(super) space: Event<M>,
    pub(super) producer: Role<M>,
    pub(super) arena: Arena<M>,
    pub(super) items: Event<M>,
    pub(super) closed: Word32<M>,
}

impl<M: Memory> Shared<M> {
    /// `lanes` lanes in `area`, each with an arena of `capacity` bytes.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
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
                seen: whole.word64(at + field::SEEN)?,
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

    /// The lanes that the directory says are in `area`.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let [capacity, lanes] = entry.parameters;
        Self::new(area, lanes as usize, capacity as usize)
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
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`] if the positions of the lane contradict each other.
    pub fn sender(&self, lane: usize) -> Result<Sender<M>, Refusal> {
        Sender::new(self.clone(), lane)
    }

    /// What the holder of the consumer's role works with. Refused only if no lane makes sense.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`], in that case.
    pub fn receiver(&self) -> Result<Receiver<M>, Refusal> {
        Receiver::new(self.clone())
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

impl<M: Memory> Whole for Shared<M> {
    /// Records in all lanes.
    fn len(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.used() == 0)
    }

    /// Bytes of the arena of each lane.
    fn capacity(&self) -> usize {
        self.lanes.first().map_or(0, |lane| lane.arena.len())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }

    fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `Receiver::turn`: who sees them closed sees every record that was
        // pushed before.
        self.closed.store(1, Release);
        self.items.notify(1);
        for lane in &self.lanes {
            lane.space.notify(1);
        }
    }

    /// What the dead one had not published or committed is as if it had never begun: nothing but its roles needs repair.
    fn recover(&self, dead: ParticipantId) {
        self.consumer.recover(dead);
        for lane in &self.lanes {
            lane.producer.recover(dead);
        }
    }

    /// The bytes are those of the arena, headers and padding included.
    fn moved(&self, end: End, place: usize, _counted: Moved) -> Moved {
        let lanes = match end {
            End::Producer => self.lanes.get(place..=place).unwrap_or_default(),
            End::Consumer => &self.lanes,
        };
        let mut all = Moved::default();
        for lane in lanes {
            let (records, position) = match end {
                End::Producer => (&lane.pushed, &lane.tail),
                End::Consumer => (&lane.popped, &lane.head),
            };
            all.messages = all.messages.wrapping_add(records.load(Relaxed));
            all.bytes = all.bytes.wrapping_add(position.load(Relaxed));
        }
        all
    }
}

impl<M: Memory> Peek for Shared<M> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn oldest(&self, lane: usize) -> Spot {
        self.lanes[lane].spot(|lane| (&lane.head, &lane.popped))
    }

    fn newest(&self, lane: usize) -> Spot {
        self.lanes[lane].spot(|lane| (&lane.tail, &lane.pushed))
    }

    fn peek(&self, index: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek> {
        let lane = &self.lanes[index];
        let start = at.position;
        // ORDERING: Acquire pairs with the Release in `Sender::publish`: header and payload come before the position.
        let published = lane.tail.load(Acquire).wrapping_sub(start);
        if published as i64 <= 0 {
            return Err(NoPeek::NotYet);
        }
        let record = Place::read(&lane.arena, start, published);
        if let Ok(record) = &record {
            into.resize(record.len, 0);
            lane.arena.read(record.payload, into);
        }
        // ORDERING: pairs with the fence in `Lane::show`.
        lane.space.memory().fence(Acquire);
        // ORDERING: Acquire pairs with the Release in `show`: where we go on is no older.
        if lane.seen.load(Acquire).wrapping_sub(start) as i64 > 0 {
            return Err(NoPeek::Gone(self.oldest(index)));
        }
        record.map_err(|_| NoPeek::Corrupt).map(|record| Spot {
            position: record.end(),
            number: at.number.wrapping_add(1),
        })
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
    pub(super) fn positions(&self) -> Result<(u64, u64), Refusal> {
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

    pub(super) fn used(&self) -> usize {
        self.positions()
            .map_or(0, |(head, tail)| tail.wrapping_sub(head) as usize)
    }

    /// Tells observers which records the producer may write over from now on.
    pub(super) fn show(&self, head: u64) {
        // ORDERING: Release pairs with the Acquire in `peek`: who sees it sees a head that is no older.
        self.seen.store(head, Release);
        // ORDERING: Release pairs with the Acquire fence in `peek`: who copies a byte of a later record sees the head that
        // let it be written.
        self.space.memory().fence(Release);
    }

    /// A position, and how many records came before it: as the side counts that moves them, so those of a batch that it is
    /// just moving may be among them, and those that its predecessors were killed at.
    fn spot(&self, words: fn(&Self) -> (&Word64<M>, &Word64<M>)) -> Spot {
        let (position, number) = words(self);
        let mut spot = Spot::default();
        for _ in 0..TRIES {
            spot.position = position.load(Acquire);
            // ORDERING: Acquire keeps the second look behind it.
            spot.number = number.load(Acquire);
            if position.load(Relaxed) == spot.position {
                break;
            }
        }
        spot
    }

    /// Records, as the two sides count them. Where the counts contradict the positions, the positions are right.
    pub(super) fn len(&self) -> usize {
        let popped = self.popped.load(Relaxed);
        let count = self.pushed.load(Relaxed).wrapping_sub(popped) as usize;
        match self.used() {
            0 => 0,
            used => count.clamp(1, used / 8),
        }
    }

    /// Bytes between two positions; `Corrupt` if there can be no so many, or no record begins there.
    #[inline]
    pub(super) fn distance(&self, head: u64, tail: u64) -> Result<u64, Refusal> {
        let distance = tail.wrapping_sub(head);
        if distance > self.arena.len() as u64 || !is_start(head | tail) {
            Err(Refusal::Corrupt)
        } else {
            Ok(distance)
        }
    }
}
