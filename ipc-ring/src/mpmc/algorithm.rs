//! The ring in its area of shared memory, whatever that is: the protocol of [`mpmc`](crate::mpmc), step by step.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};

use ipc_core::event::{Event, Wait, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64, Words};
use ipc_core::participant::ParticipantId;

use super::geometry::{Geometry, Phase, State};
use crate::role::Role;
use crate::side::{LendSide, ReceiveSide, Refusal, SendSide, Side, Taken};

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

    /// In a slot: the word, and behind it the message.
    pub(super) const WORD: usize = 0;
    /// Slots are lines, so that a small message travels together with its word, and neighbours do not disturb each
    /// other.
    pub(super) const LINE: usize = 64;
}

/// The longest time to stand back after a failed claim, in pauses.
const MOST_PAUSES: u32 = 64;

/// Where in a slot a message lies, unless it is aligned to more.
const PAYLOAD: usize = 8;

/// Where in a slot a message of this alignment lies.
fn payload_offset(align: usize) -> usize {
    PAYLOAD.max(align)
}

/// Bytes from one slot to the next.
pub(super) fn stride(size: usize, align: usize) -> Option<usize> {
    payload_offset(align)
        .checked_add(size)?
        .checked_next_multiple_of(field::LINE.max(align))
}

/// The ring in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Shared<M> {
    tail: Word64<M>,
    head: Word64<M>,
    items: Event<M>,
    space: Event<M>,
    closed: Word32<M>,
    words: Words<M>,
    payload: Slots<M>,
    geometry: Geometry,
}

impl<M: Memory> Shared<M> {
    /// The ring of `capacity` slots for messages of that size and alignment in `area`.
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
        let stride = stride(size, align).ok_or(refusal)?;
        let slots = area.slots(field::SLOTS, stride, capacity)?;
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            head: area.word64(field::HEAD)?,
            items: Event::new(area, field::ITEMS, Waiters::Many)?,
            space: Event::new(area, field::SPACE, Waiters::Many)?,
            closed: area.word32(field::CLOSED)?,
            words: slots.words(field::WORD)?,
            payload: slots.part(payload_offset(align), size)?,
            geometry: Geometry::new(capacity).ok_or(refusal)?,
        })
    }

    /// The ring for whoever does not know the messages, only how far it is from one to the next.
    pub fn with_stride(area: &Area<M>, capacity: usize, stride: usize) -> Result<Self, OutOfArea> {
        Self::new(area, capacity, stride.saturating_sub(PAYLOAD), 1)
    }

    /// Bytes that a ring takes; `None` if they cannot be counted.
    pub fn size(capacity: usize, size: usize, align: usize) -> Option<usize> {
        capacity
            .checked_mul(stride(size, align)?)?
            .checked_add(field::SLOTS)
    }

    /// What a producer works with.
    pub fn sender(&self, me: ParticipantId) -> Sender<M> {
        Sender {
            ring: self.clone(),
            me,
            open: None,
        }
    }

    /// What a consumer works with.
    pub fn receiver(&self, me: ParticipantId) -> Receiver<M> {
        Receiver {
            ring: self.clone(),
            me,
            open: None,
        }
    }

    /// Closes the ring for good, and wakes both sides.
    pub fn close(&self) {
        // ORDERING: SeqCst, as the head of this file argues under Closing.
        self.closed.store(1, SeqCst);
        self.items.notify(u32::MAX);
        self.space.notify(u32::MAX);
    }

    /// Whether somebody has closed it.
    pub fn is_closed(&self) -> bool {
        // ORDERING: as in `close`.
        self.closed.load(SeqCst) != 0
    }

    /// Resolves every claim of a participant that is proven dead: what it was writing is skipped, what it was reading
    /// comes back. Idempotent, and every step may be the last one. One caller at a time for each participant.
    pub fn recover(&self, dead: ParticipantId) {
        for slot in 0..self.geometry.slots() {
            self.recover_slot(slot, dead);
        }
        self.items.notify(u32::MAX);
        self.space.notify(u32::MAX);
    }

    fn recover_slot(&self, slot: u64, dead: ParticipantId) {
        let state = self.state(slot);
        let resolved = match (state.phase(), state.owner() == Some(dead)) {
            (Phase::Writing, true) => self.geometry.next_lap(state),
            (Phase::Reading, true) => state.put_back(),
            _ => return,
        };
        // ORDERING: Release pairs with the Acquire of the next producer, which writes over what the dead one wrote. That
        // it is a compare-exchange keeps the release of the producer whose message comes back. It cannot fail: nobody
        // else may change a word that names the dead one.
        let _ = self.words.exchange(slot, state.0, resolved.0, AcqRel);
    }

    /// Messages in the ring when looked at: by the hints, so roughly while others are at work.
    pub fn len(&self) -> usize {
        let head = self.head.load(Acquire);
        self.geometry.distance(head, self.tail.load(Acquire)) as usize
    }

    /// Whether nothing was in the ring when looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        self.payload.count()
    }

    #[inline]
    fn state(&self, position: u64) -> State {
        // ORDERING: SeqCst for the sake of Closing; as an Acquire it pairs with every Release of a word, as the head of
        // this file says.
        State(self.words.load(position, SeqCst))
    }

    /// How many waiting consumers to wake for a message at `position`: all, where messages may lie behind it that nobody
    /// could take so far. Their wake-ups have come already, and ended at this position.
    #[cold]
    fn consumers_for(&self, position: u64) -> u32 {
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
    fn producers_for(&self, position: u64) -> u32 {
        let next = position.wrapping_add(1);
        match self.geometry.laps_ahead(self.state(next), next) {
            1.. => u32::MAX,
            _ => 1,
        }
    }

    /// Steps after which a walk gives up. Walks are bounded by 2N steps and by how often others are faster; a peer that
    /// writes rubbish must not keep us for ever.
    #[inline]
    fn patience(&self) -> u64 {
        4 * self.geometry.slots() + 1024
    }
}

/// How long to stand back after failed claims.
struct BackOff(u32);

impl BackOff {
    #[cold]
    fn stand_back(&mut self, memory: &impl Memory) {
        for _ in 0..self.0 {
            memory.pause();
        }
        self.0 = (self.0 * 2).min(MOST_PAUSES);
    }
}

/// A producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    me: ParticipantId,
    /// A place that is ours and neither published nor given back.
    open: Option<u64>,
}

impl<M: Memory> Sender<M> {
    /// Takes the next position that nobody has claimed.
    #[inline]
    fn claim(&mut self) -> Result<u64, Refusal> {
        let ring = &self.ring;
        let mut back_off = BackOff(1);
        // ORDERING: Acquire pairs with the Release below: who learns from the tail that a position is claimed sees it
        // claimed in the slots as well.
        let mut position = ring.tail.load(Acquire);
        for _ in 0..ring.patience() {
            let (state, free) = (ring.state(position), ring.geometry.free(position));
            if state == free {
                let mine = ring.geometry.writing(position, self.me);
                // ORDERING: Acquire pairs with the Release of `finish`: the slot has been read. Release: the head of this file.
                if ring
                    .words
                    .exchange(position, free.0, mine.0, SeqCst)
                    .is_ok()
                {
                    ring.tail.store(position.wrapping_add(1), Release);
                    return Ok(position);
                }
                back_off.stand_back(self.ring.payload.memory());
                continue;
            }
            match (ring.geometry.laps_ahead(state, position), state.phase()) {
                (-1, Phase::Full) => return Err(Refusal::NotYet),
                (-1, Phase::Reading | Phase::Writing) => {
                    return Err(state.owner().map_or(Refusal::Corrupt, Refusal::Watch));
                }
                // It was free a lap ago, so everything before was claimed, but perhaps nothing behind.
                (ahead @ 1.., Phase::Free) => position = ring.geometry.behind(position, ahead - 1),
                (ahead @ 0.., Phase::Writing | Phase::Full | Phase::Reading) => {
                    position = ring.geometry.behind(position, ahead);
                }
                _ => return Err(Refusal::Corrupt),
            }
        }
        Err(Refusal::NotYet)
    }

    /// Takes the next position for a message that will be published even if the ring is closed meanwhile.
    #[inline]
    fn claim_open(&mut self) -> Result<u64, Refusal> {
        if let Some(place) = self.open {
            self.abort(place);
        }
        match self.claim() {
            Ok(place) if !self.ring.is_closed() => Ok(place),
            Ok(place) => {
                self.abort(place);
                Err(Refusal::Closed)
            }
            Err(_) if self.ring.is_closed() => Err(Refusal::Closed),
            Err(refusal) => Err(refusal),
        }
    }

    /// Publishes a position. Tells nobody.
    #[inline]
    fn publish(&self, position: u64) {
        let full = self.ring.geometry.full(position);
        // ORDERING: Release pairs with the Acquire in `Receiver::claim`: the message comes before the word.
        self.ring.words.store(position, full.0, Release);
    }

    #[inline]
    fn notify(&self, count: u32, last: u64) {
        let ring = &self.ring;
        ring.items.notify_by(|| count.max(ring.consumers_for(last)));
    }
}

impl<M: Memory> SendSide for Sender<M> {
    #[inline]
    fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let place = self.claim_open()?;
        self.ring.payload.write(place, message);
        self.publish(place);
        self.notify(1, place);
        Ok(())
    }

    /// One claim for each message. Those of other producers may lie between them.
    #[inline]
    fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal> {
        let mut last = None;
        let mut count = 0;
        for message in messages.chunks_exact(self.ring.payload.width()) {
            match self.claim_open() {
                Ok(place) => {
                    self.ring.payload.write(place, message);
                    self.publish(place);
                    last = Some(place);
                    count += 1;
                }
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        if let Some(last) = last {
            self.notify(count as u32, last);
        }
        Ok(count)
    }

    #[inline]
    fn try_reserve(&mut self) -> Result<u64, Refusal> {
        let place = self.claim_open()?;
        self.open = Some(place);
        Ok(place)
    }

    #[inline]
    fn commit(&mut self, place: u64) {
        self.open = None;
        self.publish(place);
        self.notify(1, place);
    }

    #[cold]
    fn abort(&mut self, place: u64) {
        self.open = None;
        let ring = &self.ring;
        let skipped = ring.geometry.next_lap(ring.geometry.free(place));
        // ORDERING: Release pairs with the Acquire in `claim`: what we wrote comes before what the next producer writes.
        ring.words.store(place, skipped.0, Release);
        ring.items.notify(u32::MAX);
        ring.space.notify_by(|| ring.producers_for(place));
    }

    fn payload(&self) -> &Slots<M> {
        &self.ring.payload
    }
}

impl<M: Memory> Side for Sender<M> {
    type Memory = M;

    fn event(&self) -> &Event<M> {
        &self.ring.space
    }

    fn peer(&self) -> Option<&Role<M>> {
        None
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

    fn before_wait(&mut self, _wait: Wait) {}

    fn after_wait(&mut self, _slept: bool) {}

    fn leave(&mut self) {
        if let Some(place) = self.open {
            self.abort(place);
        }
    }
}

/// A consumer's side.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    me: ParticipantId,
    /// A message that is ours and neither released nor put back.
    open: Option<Open>,
}

/// A message that we have claimed.
#[derive(Clone, Copy, Debug)]
struct Open {
    place: u64,
    /// The word of our claim.
    state: State,
    /// Whether everything before is finished, so that the head may move behind it.
    oldest: bool,
}

impl<M: Memory> Receiver<M> {
    /// Takes the oldest message that nobody has taken.
    #[inline]
    fn claim(&mut self) -> Result<Open, Refusal> {
        let ring = &self.ring;
        let mut back_off = BackOff(1);
        // ORDERING: Acquire pairs with the Release below and in `finish`. Whatever it says is checked against the words.
        let (mut position, mut oldest) = (ring.head.load(Acquire), true);
        // What nothing to take means: that others have taken what there was, of whom one may have died.
        let mut nothing = Refusal::NotYet;
        for _ in 0..ring.patience() {
            let state = ring.state(position);
            match (ring.geometry.laps_ahead(state, position), state.phase()) {
                (0, Phase::Full) => {
                    let mine = state.taken_by(self.me);
                    // ORDERING: Acquire pairs with the Release of `publish`: we see the message. Release: the head of this file.
                    if ring
                        .words
                        .exchange(position, state.0, mine.0, AcqRel)
                        .is_ok()
                    {
                        return Ok(Open {
                            place: position,
                            state: mine,
                            oldest,
                        });
                    }
                    back_off.stand_back(ring.payload.memory());
                }
                // The message may come back: look behind it, but leave the head where it is.
                (0, Phase::Reading) => {
                    oldest = false;
                    match state.owner() {
                        Some(owner) if owner != self.me && nothing == Refusal::NotYet => {
                            nothing = Refusal::Watch(owner);
                        }
                        Some(_) => {}
                        None => return Err(Refusal::Corrupt),
                    }
                    position = position.wrapping_add(1);
                }
                (0, Phase::Writing) => {
                    return Err(state.owner().map_or(Refusal::Corrupt, Refusal::Held));
                }
                (0, Phase::Free) => return Err(nothing),
                // Finished. A free slot tells only of what was there two laps before.
                (ahead @ 1.., phase) => {
                    let laps = ahead - 1 - i64::from(phase == Phase::Free);
                    let next = ring.geometry.behind(position, laps.max(0));
                    if oldest {
                        ring.head.store(next, Release);
                    }
                    position = next;
                }
                // We have walked round, over messages that are all being read.
                (-1, Phase::Reading) => return Err(nothing),
                // One of them has come back meanwhile.
                (-1, Phase::Full) => (position, oldest) = (ring.head.load(Acquire), true),
                _ => return Err(Refusal::Corrupt),
            }
        }
        Err(Refusal::NotYet)
    }

    /// As [`claim`](Self::claim), and tells a closed ring from an empty one.
    #[inline]
    fn claim_or_closed(&mut self) -> Result<Open, Refusal> {
        if let Some(open) = self.open {
            self.release(open.place);
        }
        match self.claim() {
            Err(Refusal::NotYet) if self.ring.is_closed() => self.claim().map_err(|refusal| {
                if refusal == Refusal::NotYet {
                    Refusal::Closed
                } else {
                    refusal
                }
            }),
            other => other,
        }
    }

    /// Commits a message. Tells nobody.
    #[inline]
    fn finish(&self, open: Open) {
        let ring = &self.ring;
        let free = ring.geometry.next_lap(open.state);
        // ORDERING: Release pairs with the Acquire in `Sender::claim`: the message has been read.
        ring.words.store(open.place, free.0, Release);
        if open.oldest {
            ring.head.store(open.place.wrapping_add(1), Release);
        }
    }

    #[inline]
    fn notify(&self, count: u32, last: u64) {
        let ring = &self.ring;
        ring.space.notify_by(|| count.max(ring.producers_for(last)));
    }
}

impl<M: Memory> ReceiveSide for Receiver<M> {
    #[inline]
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        let open = self.claim_or_closed()?;
        self.ring.payload.read(open.place, into);
        self.finish(open);
        self.notify(1, open.place);
        Ok(())
    }

    /// One claim and one commit for each message. Other consumers may take some that lie between them.
    #[inline]
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        let mut last = None;
        let mut count = 0;
        for message in into.chunks_exact_mut(self.ring.payload.width()) {
            match self.claim_or_closed() {
                Ok(open) => {
                    self.ring.payload.read(open.place, message);
                    self.finish(open);
                    last = Some(open.place);
                    count += 1;
                }
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        if let Some(last) = last {
            self.notify(count as u32, last);
        }
        Ok(count)
    }
}

impl<M: Memory> LendSide for Receiver<M> {
    #[inline]
    fn try_read(&mut self) -> Result<Taken, Refusal> {
        let open = self.claim_or_closed()?;
        self.open = Some(open);
        Ok(Taken {
            place: open.place,
            redelivered: open.state.is_again(),
        })
    }

    #[inline]
    fn release(&mut self, place: u64) {
        if let Some(open) = self.open.take() {
            self.finish(open);
            self.notify(1, place);
        }
    }

    fn put_back(&mut self, place: u64) {
        if let Some(open) = self.open.take() {
            // ORDERING: Release; we acquired the message from its producer, and pass it on to the next consumer.
            self.ring
                .words
                .store(place, open.state.put_back().0, Release);
            self.ring.items.notify(1);
        }
    }

    fn payload(&self) -> &Slots<M> {
        &self.ring.payload
    }
}

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

    fn event(&self) -> &Event<M> {
        &self.ring.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        None
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

    fn before_wait(&mut self, _wait: Wait) {}

    fn after_wait(&mut self, _slept: bool) {}

    fn leave(&mut self) {
        if let Some(open) = self.open {
            self.release(open.place);
        }
    }
}
