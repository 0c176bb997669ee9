//! A producer's side of [`mpmc`](crate::mpmc), step by step.

use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use ipc_core::event::Event;
use ipc_core::memory::{Memory, Slots};
use ipc_core::participant::ParticipantId;

use super::geometry::{Phase, State};
use super::shared::{BackOff, Shared};
use crate::pace::Pace;
use crate::side::{End, Refusal, SendSide, Side, Whole};

/// A producer's side.
#[derive(Debug)]
pub struct Sender<M> {
    ring: Shared<M>,
    me: ParticipantId,
    /// A place that is ours and neither published nor given back.
    open: Option<u64>,
    /// Messages published.
    moved: u64,
    pace: Pace,
}

impl<M: Memory> Sender<M> {
    pub(super) fn new(ring: Shared<M>, me: ParticipantId) -> Self {
        Self {
            ring,
            me,
            open: None,
            moved: 0,
            pace: Pace::new(0),
        }
    }

    /// Where to begin the walk to the next position that nobody has claimed.
    #[inline]
    fn tail(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `take`: who learns from the tail that a position is claimed sees it
        // claimed in the slots as well.
        self.ring.tail.load(Acquire)
    }

    /// Takes the first position from `position` on that nobody has claimed. Everything before it has been claimed.
    #[inline]
    fn claim(&self, position: u64) -> Result<u64, Refusal> {
        let state = self.ring.state(position);
        if self.take(position, state) {
            return Ok(position);
        }
        self.walk(position, state)
    }

    /// Takes the position, if its word, which was just seen as `state`, is free for it and still the same.
    #[inline]
    fn take(&self, position: u64, state: State) -> bool {
        let ring = &self.ring;
        if !ring.geometry.is_free(state, position) {
            return false;
        }
        let mine = ring.geometry.writing(position, self.me);
        // ORDERING: Acquire pairs with the Release of `finish`: the slot has been read. Release: the head of this file.
        let taken = ring.words.exchange(position, state.0, mine.0, SeqCst);
        if taken.is_ok() {
            ring.fetch_ahead(position);
            // ORDERING: pairs with the fence in `peek`: who sees a byte of the message sees the word of the claim.
            ring.payload.memory().fence(Release);
            ring.tail.store(position.wrapping_add(1), Release);
        }
        taken.is_ok()
    }

    /// Goes on from a position that could not be taken, when its word was `state`.
    #[inline]
    fn walk(&self, mut position: u64, mut state: State) -> Result<u64, Refusal> {
        let ring = &self.ring;
        let mut back_off = BackOff::new();
        for _ in 0..ring.patience() {
            match (ring.geometry.laps_ahead(state, position), state.phase()) {
                // Somebody was faster.
                (0, Phase::Free) if ring.geometry.is_free(state, position) => {
                    back_off.stand_back(ring.payload.memory());
                }
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
            state = ring.state(position);
            if self.take(position, state) {
                return Ok(position);
            }
        }
        Err(Refusal::NotYet)
    }

    /// As [`claim`](Self::claim), for a message that will be published even if the ring is closed meanwhile.
    #[inline]
    fn claim_open(&mut self, from: u64) -> Result<u64, Refusal> {
        match self.claim(from) {
            Ok(place) if !self.ring.is_closed() => Ok(place),
            Ok(place) => {
                self.abort(place);
                Err(Refusal::Closed)
            }
            Err(_) if self.ring.is_closed() => Err(Refusal::Closed),
            Err(refusal) => Err(refusal),
        }
    }

    /// Gives back a place that was forgotten.
    #[inline]
    fn abort_open(&mut self) {
        if let Some(place) = self.open {
            self.abort(place);
        }
    }

    /// Publishes a position. Tells nobody.
    #[inline]
    fn publish(&mut self, position: u64) {
        self.moved += 1;
        let full = self.ring.geometry.full(position);
        // ORDERING: Release pairs with the Acquire in `Receiver::take`: the message comes before the word.
        self.ring.words.store(position, full.0, Release);
        self.pace.stream(&self.ring.space, self.moved);
    }

    #[inline]
    fn notify(&self, count: u32, last: u64) {
        let ring = &self.ring;
        ring.items.notify_by(|| count.max(ring.consumers_for(last)));
    }
}

impl<M: Memory> SendSide for Sender<M> {
    #[inline(always)]
    fn try_push_one(&mut self, message: &[u8]) -> Result<(), Refusal> {
        self.abort_open();
        let place = self.claim_open(self.tail())?;
        self.ring.payload.write(place, message);
        self.publish(place);
        self.notify(1, place);
        Ok(())
    }

    /// One claim for each message, from where the one before was. Those of other producers may lie between them.
    #[inline]
    fn try_push(&mut self, messages: &[u8]) -> Result<usize, Refusal> {
        self.abort_open();
        let mut next = self.tail();
        let mut count = 0;
        for message in messages.chunks_exact(self.ring.payload.width()) {
            match self.claim_open(next) {
                Ok(place) => {
                    self.ring.payload.write(place, message);
                    self.publish(place);
                    next = place.wrapping_add(1);
                    count += 1;
                }
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        self.notify(count as u32, next.wrapping_sub(1));
        Ok(count)
    }

    #[inline]
    fn try_reserve(&mut self) -> Result<u64, Refusal> {
        self.abort_open();
        let place = self.claim_open(self.tail())?;
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
        let skipped = ring.geometry.skipped(ring.geometry.free(place));
        // ORDERING: Release pairs with the Acquire in `take`: what we wrote comes before what the next producer writes.
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

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Producer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.moved)
    }

    fn event(&self) -> &Event<M> {
        &self.ring.space
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.moved, slept);
    }

    fn leave(&mut self) {
        self.abort_open();
    }
}
