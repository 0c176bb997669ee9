//! One end of a ring in the hands of this process: what every producer and consumer handle is made of.

use std::cell::Cell;
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::{SLICE, Wait, wait_until};
use ipc_core::memory::Memory;
use ipc_core::participant::ParticipantId;

use crate::claim::Claim;
use crate::error::{PopError, PushError};
use crate::seat::{Count, Seat};
use crate::side::{Refusal, Side, Whole};

/// Polls that are made before a wait is prepared for: about a microsecond.
const MOMENT: u32 = 32;

/// A side of the algorithm, what entitles us to it, and how it waits.
#[derive(Debug)]
pub(crate) struct Handle<S: Side> {
    pub(crate) side: S,
    pub(crate) claim: Claim,
    pub(crate) wait: Wait,
    /// Where we count, unless all seats were taken.
    seat: Option<Seat<Mapped>>,
    /// Whose claim has refused us last, and since when it did so.
    held_up: Option<(ParticipantId, Instant)>,
}

impl<S: Side> Drop for Handle<S> {
    fn drop(&mut self) {
        // What the claim entitles us to is given back before the claim, which is dropped next.
        if self.claim.is_here() {
            self.side.leave();
            self.count_moved();
            if let Some(seat) = &self.seat {
                seat.leave(self.claim.me());
            }
        }
    }
}

impl<S: Side> Handle<S> {
    /// Counts what is rare.
    fn count(&self, count: Count, by: u64) {
        if let Some(seat) = &self.seat {
            seat.add(count, by);
        }
    }

    /// Counts the messages that were moved, where no position tells.
    #[inline]
    pub(crate) fn count_moved(&self) {
        if let (Some(moved), Some(seat)) = (self.side.moved(), &self.seat) {
            seat.set_moved(moved, self.side.moved_bytes());
        }
    }
}

/// What ended a call early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Refused(Refusal),
    TimedOut,
    PeerDead,
    Forked,
}

impl<S: Side<Memory = Mapped>> Handle<S> {
    pub(crate) fn new(side: S, claim: Claim) -> Self {
        Self {
            seat: claim.seat(&side),
            side,
            claim,
            wait: Wait::default(),
            held_up: None,
        }
    }

    /// The side, unless the handle was inherited through `fork`.
    #[inline]
    pub(crate) fn side(&mut self) -> Result<&mut S, Stopped> {
        if self.claim.is_here() {
            Ok(&mut self.side)
        } else {
            Err(Stopped::Forked)
        }
    }

    /// Makes the attempt once.
    #[inline(always)]
    pub(crate) fn attempt<U>(
        &mut self,
        attempt: impl FnOnce(&mut S) -> Result<U, Refusal>,
    ) -> Result<U, Stopped> {
        match attempt(self.side()?) {
            Ok(got) => {
                self.count_moved();
                Ok(got)
            }
            Err(refusal) => {
                self.refused(refusal);
                Err(Stopped::Refused(refusal))
            }
        }
    }

    #[cold]
    fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Held(by) | Refusal::Watch(by) => {
                self.count(Count::Refused, 1);
                self.held_up_by(by);
            }
            Refusal::NotYet => self.count(Count::Refused, 1),
            Refusal::Lagged(missed) => self.count(Count::Lagged, missed),
            Refusal::Closed | Refusal::Corrupt => {}
        }
    }

    /// Makes the attempt, and a few more if it is told to wait: where the other side is at work on a CPU of its own, the
    /// answer is a few hops away, and comes in less time than it takes to prepare for a longer wait.
    #[inline(always)]
    pub(crate) fn attempt_for_a_moment<U>(
        &mut self,
        mut attempt: impl FnMut(&mut S) -> Result<U, Refusal>,
    ) -> Result<U, Stopped> {
        let mut polls = 0;
        // One place for all attempts: a small message then stays in registers.
        loop {
            match self
                .side()
                .and_then(|side| attempt(side).map_err(Stopped::Refused))
            {
                Ok(got) => {
                    if polls > 0 {
                        self.polled();
                    }
                    self.count_moved();
                    return Ok(got);
                }
                Err(stopped) if !self.polls_again(stopped, polls) => return Err(stopped),
                Err(_) => polls += 1,
            }
        }
    }

    /// Pauses before the next poll, if there is to be one after so many.
    #[inline(never)]
    fn polls_again(&mut self, stopped: Stopped, polls: u32) -> bool {
        let Stopped::Refused(refusal) = stopped else {
            return false;
        };
        let waits = matches!(
            refusal,
            Refusal::NotYet | Refusal::Watch(_) | Refusal::Held(_)
        );
        // What only tells to wait is counted once for all polls.
        if polls == 0 || !waits {
            self.refused(refusal);
        }
        match (waits, polls) {
            (false, 0) => return false,
            (false, _) => {
                self.polled();
                return false;
            }
            (true, 0) if !self.wait.polls() => return false,
            (true, 0) => self.side.before_wait(self.wait),
            // A longer wait follows, and counts itself.
            (true, MOMENT) => {
                self.side.after_wait(false);
                return false;
            }
            (true, _) => {}
        }
        std::hint::spin_loop();
        true
    }

    /// After a wait that took no more than a moment.
    #[inline]
    fn polled(&mut self) {
        self.side.after_wait(false);
        self.count(Count::Waits, 1);
    }

    /// Makes the attempt once, for whoever waits elsewhere, on a descriptor say: what `wait_for` finds out every now and then
    /// is found out here. The attempt comes after the look, so what the dead one left behind is not overlooked.
    #[cold]
    pub(crate) fn attempt_or_tell<U>(
        &mut self,
        attempt: impl FnOnce(&mut S) -> Result<U, Refusal>,
    ) -> Result<U, Stopped> {
        let peer = self.side.peer();
        let death = peer.and_then(|peer| self.claim.untold_death(peer));
        match (self.attempt(attempt), death) {
            (refused, Some(death)) if Self::should_wait(&refused) => {
                self.claim.tell(death);
                Err(Stopped::PeerDead)
            }
            (done, _) => done,
        }
    }

    /// Finds out whether the owner of a claim has died, if that claim keeps refusing us: whoever only tries and never
    /// waits must not be held up by the dead for ever.
    fn held_up_by(&mut self, owner: ParticipantId) {
        let now = Instant::now();
        match self.held_up {
            Some((same, since)) if same == owner => {
                if now - since >= SLICE {
                    self.claim.recover(owner);
                    self.held_up = None;
                }
            }
            _ => self.held_up = Some((owner, now)),
        }
    }

    /// Repeats the attempt until it is not told to wait any more. While it is, looks every now and then whether whoever
    /// it waits for has died, and clears up after the dead.
    #[cold]
    pub(crate) fn wait_for<U>(
        &mut self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut S) -> Result<U, Refusal>,
    ) -> Result<U, Stopped> {
        self.side()?;
        self.count(Count::Waits, 1);
        let (event, peer) = (self.side.event().clone(), self.side.peer().cloned());
        let memory = event.memory();
        let deadline = deadline.and_then(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            memory.now().checked_add(left)
        });
        let (side, claim) = (&mut self.side, &self.claim);
        let (holder, death) = (Cell::new(None), Cell::new(None));
        side.before_wait(self.wait);
        let waited = wait_until(
            &event,
            self.wait,
            deadline,
            || {
                holder.set(None);
                match attempt(side) {
                    Ok(got) => return Ok(Some(got)),
                    Err(Refusal::NotYet) => {}
                    Err(Refusal::Held(by) | Refusal::Watch(by)) => holder.set(Some(by)),
                    Err(refusal) => return Err(Stopped::Refused(refusal)),
                }
                // Found out before the attempt: what the dead one left behind is not overlooked.
                match death.get() {
                    Some(_) => Err(Stopped::PeerDead),
                    None => Ok(None),
                }
            },
            || {
                if let Some(holder) = holder.get() {
                    claim.recover(holder);
                }
                death.set(peer.as_ref().and_then(|peer| claim.untold_death(peer)));
                Ok(())
            },
        );
        if let (Err(Stopped::PeerDead), Some(death)) = (&waited, death.get()) {
            self.claim.tell(death);
        }
        let waited = match waited {
            Err(Stopped::Refused(Refusal::Lagged(missed))) => {
                self.count(Count::Lagged, missed);
                return Err(Stopped::Refused(Refusal::Lagged(missed)));
            }
            other => other?,
        };
        if waited.slept {
            self.count(Count::WakeUps, 1);
        }
        self.count_moved();
        self.side.after_wait(waited.slept);
        waited.got.ok_or(Stopped::TimedOut)
    }

    /// Whether the attempt should be made again by `wait_for`.
    #[inline]
    pub(crate) fn should_wait<U>(outcome: &Result<U, Stopped>) -> bool {
        matches!(
            outcome,
            Err(Stopped::Refused(
                Refusal::NotYet | Refusal::Watch(_) | Refusal::Held(_)
            ))
        )
    }

    /// Closes the ring, unless this handle was inherited through `fork`.
    pub(crate) fn close(&self) {
        if self.claim.is_here() {
            self.side.whole().close();
        }
    }
}

impl Stopped {
    /// For whoever wanted to push, with what they wanted to push.
    #[inline]
    pub(crate) fn push<V>(self, value: V) -> PushError<V> {
        match self {
            Self::Refused(Refusal::NotYet | Refusal::Watch(_) | Refusal::Held(_)) => {
                PushError::Full(value)
            }
            Self::Refused(Refusal::Closed) => PushError::Closed(value),
            Self::Refused(Refusal::Corrupt | Refusal::Lagged(_)) => PushError::Corrupt(value),
            Self::TimedOut => PushError::TimedOut(value),
            Self::PeerDead => PushError::PeerDead(value),
            Self::Forked => PushError::Forked(value),
        }
    }

    /// For whoever wanted to pop.
    #[inline]
    pub(crate) fn pop(self) -> PopError {
        match self {
            Self::Refused(Refusal::NotYet | Refusal::Watch(_)) => PopError::Empty,
            Self::Refused(Refusal::Held(by)) => PopError::Pending(by),
            Self::Refused(Refusal::Closed) => PopError::Closed,
            Self::Refused(Refusal::Lagged(missed)) => PopError::Lagged(missed),
            Self::Refused(Refusal::Corrupt) => PopError::Corrupt,
            Self::TimedOut => PopError::TimedOut,
            Self::PeerDead => PopError::PeerDead,
            Self::Forked => PopError::Forked,
        }
    }
}
