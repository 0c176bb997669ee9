//! A consumer's side of [`mpmc`](crate::mpmc), step by step.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use ipc_core::event::Event;
use ipc_core::memory::{Memory, Slots};
use ipc_core::participant::ParticipantId;

use super::geometry::{Phase, State};
use super::shared::{BackOff, Shared};
use crate::pace::Pace;
use crate::side::{End, LendSide, ReceiveSide, Refusal, Side, Taken, Whole};

/// A consumer's side.
#[derive(Debug)]
pub struct Receiver<M> {
    ring: Shared<M>,
    me: ParticipantId,
    /// A message that is ours and neither released nor put back.
    open: Option<Open>,
    /// Messages committed.
    moved: u64,
    pace: Pace,
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

impl Open {
    /// Where to go on once it is committed.
    fn next(self) -> Start {
        Start {
            position: self.place.wrapping_add(1),
            oldest: self.oldest,
        }
    }
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    position: u64,
    /// Whether everything before is finished, so that the head may move with the walk.
    oldest: bool,
}

impl<M: Memory> Receiver<M> {
    pub(super) fn new(ring: Shared<M>, me: ParticipantId) -> Self {
        Self {
            ring,
            me,
            open: None,
            moved: 0,
            pace: Pace::new(0),
        }
    }

    /// Where to begin the walk to the oldest message that nobody has taken.
    #[inline]
    fn head(&self) -> Start {
        Start {
            // ORDERING: Acquire pairs with the Release in `walk` and `finish`. Whatever it says is checked against the words.
            position: self.ring.head.load(Acquire),
            oldest: true,
        }
    }

    /// Takes the first message from `from` on that nobody has taken.
    #[inline]
    fn claim(&self, from: Start) -> Result<Open, Refusal> {
        let state = self.ring.state(from.position);
        match self.take(from, state) {
            Some(open) => Ok(open),
            None => self.walk(from, state),
        }
    }

    /// Takes the message there, if its word, which was just seen as `state`, says that it is one, and is still the same.
    #[inline]
    fn take(&self, at: Start, state: State) -> Option<Open> {
        let ring = &self.ring;
        if !ring.geometry.is_full(state, at.position) {
            return None;
        }
        let mine = state.taken_by(self.me);
        // ORDERING: Acquire pairs with the Release of `publish`: we see the message. Release: the head of this file.
        let taken = ring.words.exchange(at.position, state.0, mine.0, AcqRel);
        if taken.is_ok() {
            ring.fetch_ahead(at.position);
        }
        taken.is_ok().then_some(Open {
            place: at.position,
            state: mine,
            oldest: at.oldest,
        })
    }

    /// Goes on from where nothing could be taken, when the word there was `state`.
    #[inline]
    fn walk(&self, mut at: Start, mut state: State) -> Result<Open, Refusal> {
        let ring = &self.ring;
        let mut back_off = BackOff::new();
        // What nothing to take means: that others have taken what there was, of whom one may have died.
        let mut nothing = Refusal::NotYet;
        for _ in 0..ring.patience() {
            let position = at.position;
            match (ring.geometry.laps_ahead(state, position), state.phase()) {
                // Somebody was faster.
                (0, Phase::Full) if ring.geometry.is_full(state, position) => {
                    back_off.stand_back(ring.payload.memory());
                }
                // The message may come back: look behind it, but leave the head where it is.
                (0, Phase::Reading) => {
                    at.oldest = false;
                    match state.owner() {
                        Some(owner) if owner != self.me && nothing == Refusal::NotYet => {
                            nothing = Refusal::Watch(owner);
                        }
                        Some(_) => {}
                        None => return Err(Refusal::Corrupt),
                    }
                    at.position = position.wrapping_add(1);
                }
                (0, Phase::Writing) => {
                    return Err(state.owner().map_or(Refusal::Corrupt, Refusal::Held));
                }
                (0, Phase::Free) => return Err(nothing),
                // Finished. A free slot tells only of what was there two laps before.
                (ahead @ 1.., phase) => {
                    let laps = ahead - 1 - i64::from(phase == Phase::Free);
                    at.position = ring.geometry.behind(position, laps.max(0));
                    if at.oldest {
                        ring.head.store(at.position, Release);
                    }
                }
                // We have walked round, over messages that are all being read.
                (-1, Phase::Reading) => return Err(nothing),
                // One of them has come back meanwhile.
                (-1, Phase::Full) => at = self.head(),
                _ => return Err(Refusal::Corrupt),
            }
            state = ring.state(at.position);
            if let Some(open) = self.take(at, state) {
                return Ok(open);
            }
        }
        Err(Refusal::NotYet)
    }

    /// As [`claim`](Self::claim), and tells a closed ring from an empty one.
    #[inline]
    fn claim_or_closed(&self, from: Start) -> Result<Open, Refusal> {
        match self.claim(from) {
            Err(Refusal::NotYet) if self.ring.is_closed() => {
                self.claim(self.head()).map_err(|refusal| {
                    if refusal == Refusal::NotYet {
                        Refusal::Closed
                    } else {
                        refusal
                    }
                })
            }
            other => other,
        }
    }

    /// Releases a message that was forgotten.
    #[inline]
    fn release_open(&mut self) {
        if let Some(open) = self.open {
            self.release(open.place);
        }
    }

    /// Commits a message. Tells nobody.
    #[inline]
    fn finish(&mut self, open: Open) {
        self.moved += 1;
        let ring = &self.ring;
        let free = ring.geometry.next_lap(open.state);
        // ORDERING: Release pairs with the Acquire in `Sender::take`: the message has been read.
        ring.words.store(open.place, free.0, Release);
        if open.oldest {
            ring.head.store(open.place.wrapping_add(1), Release);
        }
        self.pace.stream(&ring.items, self.moved);
    }

    #[inline]
    fn notify(&self, count: u32, last: u64) {
        let ring = &self.ring;
        ring.space.notify_by(|| count.max(ring.producers_for(last)));
    }
}

impl<M: Memory> ReceiveSide for Receiver<M> {
    #[inline(always)]
    fn try_pop_one(&mut self, into: &mut [u8]) -> Result<(), Refusal> {
        self.release_open();
        let open = self.claim_or_closed(self.head())?;
        self.ring.payload.read(open.place, into);
        self.finish(open);
        self.notify(1, open.place);
        Ok(())
    }

    /// One claim and one commit for each message, from where the one before was. Other consumers may take some that lie
    /// between them.
    #[inline]
    fn try_pop(&mut self, into: &mut [u8]) -> Result<usize, Refusal> {
        self.release_open();
        let mut next = self.head();
        let mut count = 0;
        for message in into.chunks_exact_mut(self.ring.payload.width()) {
            match self.claim_or_closed(next) {
                Ok(open) => {
                    self.ring.payload.read(open.place, message);
                    self.finish(open);
                    next = open.next();
                    count += 1;
                }
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        self.notify(count as u32, next.position.wrapping_sub(1));
        Ok(count)
    }
}

impl<M: Memory> LendSide for Receiver<M> {
    #[inline]
    fn try_read(&mut self) -> Result<Taken, Refusal> {
        self.release_open();
        let open = self.claim_or_closed(self.head())?;
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

    fn whole(&self) -> &impl Whole {
        &self.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.moved)
    }

    fn event(&self) -> &Event<M> {
        &self.ring.items
    }

    fn after_wait(&mut self, slept: bool) {
        self.pace.after_wait(self.moved, slept);
    }

    fn leave(&mut self) {
        self.release_open();
    }
}
