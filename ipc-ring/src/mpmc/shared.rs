//! The ring in its area of shared memory, whatever that is: what both sides of [`mpmc`](crate::mpmc) work with.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64, Words};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Entry;

use super::consumer::Receiver;
use super::geometry::{Geometry, Phase, State};
use super::producer::Sender;
use crate::side::{End, Moved, NoPeek, Peek, Spot, Whole};
use crate::slot;

/// Offsets in the object, and in a slot. Each line of 128 bytes has its own writers, or is hardly ever written.
mod field {
    /// Written by producers.
    pub(super) const TAIL: usize = 0;
    /// Written by consumers.
    pub(super) const HEAD: usize = 128;
    /// Read by producers with every message.
    pub(super) const ITEMS: usize = 256;
    pub(super) const CLOSED: usize = 260;
    /// Read by consumers with every message.
    pub(super) const SPACE: usize = 384;
    pub(super) const SLOTS: usize = 512;
}

/// How many slots further on the line is fetched that a claim will write to, in a ring that is much longer. It keeps the two
/// sides this far apart as well: a side that comes nearer to the other one takes lines away from it, and then has to wait
/// for them. With 8 and more they are taken before they were used; with less than 4 a fetch comes too late. Of slots of several
/// lines it fetched the wrong ones as often as not, and cost a tenth.
const AHEAD: usize = 5;

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    pub(super) tail: Word64<M>,
    pub(super) head: Word64<M>,
    pub(super) items: Event<M>,
    pub(super) space: Event<M>,
    closed: Word32<M>,
    pub(super) words: Words<M>,
    pub(super) payload: Slots<M>,
    pub(super) geometry: Geometry,
    /// 0 if none is fetched.
    ahead: u64,
}

impl<M: Memory> Shared<M> {
    /// The ring of `capacity` slots for messages of that size and alignment in `area`.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
    pub fn new(
        area: &Area<M>,
        capacity: usize,
        size: usize,
        align: usize,
    ) -> Result<Self, OutOfArea> {
        let refusal = OutOfArea {
            at: field::SLOTS,
            len: usize::MAX,
            align,
            area: area.len(),
        };
        let (words, payload) = slot::slots(area, field::SLOTS, capacity, (size, align))?;
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            head: area.word64(field::HEAD)?,
            items: Event::new(area, field::ITEMS, Waiters::Many)?,
            space: Event::new(area, field::SPACE, Waiters::Many)?,
            closed: area.word32(field::CLOSED)?,
            words,
            payload,
            geometry: Geometry::new(capacity).ok_or(refusal)?,
            ahead: if slot::is_one_line(size, align) {
                AHEAD.min(capacity / 4) as u64
            } else {
                0
            },
        })
    }

    /// The ring that the directory says is in `area`, for whoever does not know its messages.
    pub(crate) fn of(area: &Area<M>, entry: &Entry) -> Result<Self, OutOfArea> {
        let [capacity, stride] = entry.parameters;
        let (size, align) = slot::of_entry(entry, stride);
        Self::new(area, capacity as usize, size, align)
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize, size: usize, align: usize) -> Option<usize> {
        slot::size(capacity, size, align)?.checked_add(field::SLOTS)
    }

    /// What a producer works with.
    pub fn sender(&self, me: ParticipantId) -> Sender<M> {
        Sender::new(self.clone(), me)
    }

    /// What a consumer works with.
    pub fn receiver(&self, me: ParticipantId) -> Receiver<M> {
        Receiver::new(self.clone(), me)
    }

    fn recover_slot(&self, slot: u64, dead: ParticipantId) {
        let state = self.state(slot);
        let resolved = match (state.phase(), state.owner() == Some(dead)) {
            (Phase::Writing, true) => self.geometry.skipped(state),
            (Phase::Reading, true) => state.put_back(),
            _ => return,
        };
        // ORDERING: Release pairs with the Acquire of the next producer, which writes over what the dead one wrote. That
        // it is a compare-exchange keeps the release of the producer whose message comes back. It cannot fail: nobody
        // else may change a word that names the dead one.
        let _ = self.words.exchange(slot, state.0, resolved.0, AcqRel);
    }

    #[inline]
    pub(super) fn state(&self, position: u64) -> State {
        // ORDERING: SeqCst for the sake of Closing; as an Acquire it pairs with every Release of a word, as the head of
        // this file says.
        State(self.words.load(position, SeqCst))
    }

    /// After a claim: fetches the line of one to come.
    #[inline]
    pub(super) fn fetch_ahead(&self, position: u64) {
        if self.ahead > 0 {
            self.words.expect_write(position.wrapping_add(self.ahead));
        }
    }

    /// How many waiting consumers to wake for a message at `position`: all, where messages may lie behind it that nobody
    /// could take so far. Their wake-ups have come already, and ended at this position.
    #[cold]
    pub(super) fn consumers_for(&self, position: u64) -> u32 {
        let next = position.wrapping_add(1);
        let state = self.state(next);
        match self.geometry.laps_ahead(state, next) {
            0 if state.phase() == Phase::Free => 1,
            0.. => u32::MAX,
            _ => 1,
        }
    }

    /// How many waiting producers to wake for a free slot at `position`: all, where those behind it may be free already.
    #[cold]
    pub(super) fn producers_for(&self, position: u64) -> u32 {
        let next = position.wrapping_add(1);
        match self.geometry.laps_ahead(self.state(next), next) {
            1.. => u32::MAX,
            _ => 1,
        }
    }

    /// Steps after which a walk gives up. Walks are bounded by 2N steps and by how often others are faster; a peer that
    /// writes rubbish must not keep us for ever.
    #[inline]
    pub(super) fn patience(&self) -> u64 {
        4 * self.geometry.slots() + 1024
    }
}

impl<M: Memory> Whole for Shared<M> {
    /// By the hints, so roughly while others are at work.
    fn len(&self) -> usize {
        let head = self.head.load(Acquire);
        self.geometry.distance(head, self.tail.load(Acquire)) as usize
    }

    fn capacity(&self) -> usize {
        self.payload.count()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        // ORDERING: as in `close`.
        self.closed.load(SeqCst) != 0
    }

    fn close(&self) {
        // ORDERING: SeqCst, as the head of `mpmc` argues under Closing.
        self.closed.store(1, SeqCst);
        self.items.notify(u32::MAX);
        self.space.notify(u32::MAX);
    }

    /// Resolves every claim of the dead one: what it was writing is skipped, what it was reading comes back.
    fn recover(&self, dead: ParticipantId) {
        for slot in 0..self.geometry.slots() {
            self.recover_slot(slot, dead);
        }
        self.items.notify(u32::MAX);
        self.space.notify(u32::MAX);
    }

    fn moved(&self, _end: End, _place: usize, counted: Moved) -> Moved {
        Moved::of(counted.messages, self.payload.width())
    }
}

impl<M: Memory> Shared<M> {
    /// Whether the message of a position lies in its slot: nobody has begun to write over it.
    fn shows(&self, state: State, position: u64) -> bool {
        match (self.geometry.laps_ahead(state, position), state.phase()) {
            (0, Phase::Full | Phase::Reading) => true,
            (1, Phase::Free) => !state.is_skipped(),
            _ => false,
        }
    }

    /// Where to go on after a message that has been written over: half a ring behind the newest, so as not to lose the race at
    /// once. All in between are taken for messages.
    #[cold]
    fn further(&self, at: Spot) -> Spot {
        let half = self.geometry.slots().div_ceil(2);
        let further = self.tail.load(Relaxed).wrapping_sub(half);
        let missed = further.wrapping_sub(at.position);
        at.plus(if (missed as i64) < 1 { 1 } else { missed })
    }
}

impl<M: Memory> Peek for Shared<M> {
    fn oldest(&self, _lane: usize) -> Spot {
        Spot::of(self.head.load(Relaxed))
    }

    fn newest(&self, _lane: usize) -> Spot {
        Spot::of(self.tail.load(Relaxed))
    }

    /// A message can be seen until its place is claimed for another one.
    fn peek(&self, _lane: usize, at: Spot, into: &mut Vec<u8>) -> Result<Spot, NoPeek> {
        let position = at.position;
        let state = self.state(position);
        if !self.shows(state, position) {
            let ahead = self.geometry.laps_ahead(state, position);
            return Err(match (ahead, state.phase()) {
                (0, Phase::Writing) => NoPeek::Pending,
                (1, Phase::Free) => NoPeek::Skipped(Spot {
                    position: position.wrapping_add(1),
                    ..at
                }),
                (1.., _) => NoPeek::Gone(self.further(at)),
                _ => NoPeek::NotYet,
            });
        }
        into.resize(self.payload.width(), 0);
        self.payload.read(position, into);
        // ORDERING: pairs with the fence in `Sender::take`: if we have copied a byte of a later message, we see its claim.
        self.payload.memory().fence(Acquire);
        // ORDERING: Relaxed; the fence is before it.
        if self.shows(State(self.words.load(position, Relaxed)), position) {
            Ok(at.plus(1))
        } else {
            Err(NoPeek::Gone(self.further(at)))
        }
    }
}

/// How long to stand back after failed claims.
pub(super) struct BackOff(u32);

impl BackOff {
    /// The longest time, in pauses.
    const MOST: u32 = 64;

    pub(super) fn new() -> Self {
        Self(1)
    }

    #[cold]
    pub(super) fn stand_back(&mut self, memory: &impl Memory) {
        for _ in 0..self.0 {
            memory.pause();
        }
        self.0 = (self.0 * 2).min(Self::MOST);
    }
}
