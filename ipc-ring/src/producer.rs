//! The end that messages of a fixed type go in at, the same for every kind of ring.

use std::marker::PhantomData;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::{Mapped, Message, bytemuck};

use crate::claim::Claim;
use crate::error::PushError;
use crate::handle::Handle;
use crate::loan::Reservation;
use crate::side::{SendSide, Whole};

/// The end that messages go in at. Each kind names its own: [`spsc::Producer`](crate::spsc::Producer), and so on.
///
/// Dropping it gives up what it has claimed, without closing the ring.
#[derive(Debug)]
pub struct Producer<T, S: SendSide> {
    handle: Handle<S>,
    message: PhantomData<fn(T)>,
}

impl<T: Message, S: SendSide<Memory = Mapped>> Producer<T, S> {
    pub(crate) fn new(side: S, claim: Claim) -> Self {
        Self {
            handle: Handle::new(side, claim),
            message: PhantomData,
        }
    }

    /// How to wait while the ring is full. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.handle.wait = wait;
    }

    /// Pushes a message, waiting for room.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], and [`PushError::PeerDead`] once for each death of the one consumer while the ring is full: call again to
    /// wait for the next one. [`PushError::Forked`] and [`PushError::Corrupt`] as everywhere. The message comes back.
    #[inline]
    pub fn push(&mut self, message: T) -> Result<(), PushError<T>> {
        self.push_within(message, None)
    }

    /// Pushes a message, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); and [`PushError::TimedOut`].
    #[inline]
    pub fn push_until(&mut self, message: T, deadline: Instant) -> Result<(), PushError<T>> {
        self.push_within(message, Some(deadline))
    }

    /// Pushes a message if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] and [`PushError::Closed`]; [`PushError::Forked`] and [`PushError::Corrupt`]. The message comes back.
    #[inline]
    pub fn try_push(&mut self, message: T) -> Result<(), PushError<T>> {
        let bytes = bytemuck::bytes_of(&message);
        let pushed = self.handle.attempt(|side| side.try_push_one(bytes));
        pushed.map_err(|stopped| stopped.push(message))
    }

    /// As [`try_push`](Self::try_push), and tells whether the consumer has died: for whoever waits elsewhere.
    pub(crate) fn try_push_or_tell(&mut self, message: T) -> Result<(), PushError<T>> {
        let bytes = bytemuck::bytes_of(&message);
        let pushed = self.handle.attempt_or_tell(|side| side.try_push_one(bytes));
        pushed.map_err(|stopped| stopped.push(message))
    }

    #[inline]
    fn push_within(&mut self, message: T, deadline: Option<Instant>) -> Result<(), PushError<T>> {
        let bytes = bytemuck::bytes_of(&message);
        let pushed = self
            .handle
            .attempt_for_a_moment(|side| side.try_push_one(bytes));
        if Handle::<S>::should_wait(&pushed) {
            return self.push_slow(message, deadline);
        }
        pushed.map_err(|stopped| stopped.push(message))
    }

    /// By value: a small message whose address nobody asks for stays in registers while there is room.
    #[cold]
    #[inline(never)]
    fn push_slow(&mut self, message: T, deadline: Option<Instant>) -> Result<(), PushError<T>> {
        let bytes = bytemuck::bytes_of(&message);
        let pushed = self
            .handle
            .wait_for(deadline, |side| side.try_push_one(bytes));
        pushed.map_err(|stopped| stopped.push(message))
    }

    /// Pushes all messages in order, waiting for room as often as needed. They become visible in runs. On an error,
    /// tells how many went in.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with how many went in: what is left can be pushed by another call.
    pub fn push_slice(&mut self, messages: &[T]) -> Result<(), PushError<usize>> {
        self.push_slice_within(messages, None)
    }

    /// Pushes all messages in order, waiting for room until `deadline`. On an error, tells how many went in.
    ///
    /// # Errors
    ///
    /// As [`push_slice`](Self::push_slice); and [`PushError::TimedOut`].
    pub fn push_slice_until(
        &mut self,
        messages: &[T],
        deadline: Instant,
    ) -> Result<(), PushError<usize>> {
        self.push_slice_within(messages, Some(deadline))
    }

    /// Pushes as many of the messages as there is room for, in order, and tells how many. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push), if not even one went in.
    #[inline]
    pub fn try_push_slice(&mut self, messages: &[T]) -> Result<usize, PushError<()>> {
        if messages.is_empty() {
            return Ok(0);
        }
        let bytes = bytemuck::must_cast_slice(messages);
        let pushed = self.handle.attempt(|side| side.try_push(bytes));
        pushed.map_err(|stopped| stopped.push(()))
    }

    fn push_slice_within(
        &mut self,
        messages: &[T],
        deadline: Option<Instant>,
    ) -> Result<(), PushError<usize>> {
        let mut done = 0;
        while done < messages.len() {
            let bytes = bytemuck::must_cast_slice(&messages[done..]);
            let mut pushed = self.handle.attempt(|side| side.try_push(bytes));
            if Handle::<S>::should_wait(&pushed) {
                pushed = self.handle.wait_for(deadline, |side| side.try_push(bytes));
            }
            done += pushed.map_err(|stopped| stopped.push(done))?;
        }
        Ok(())
    }

    /// Takes the next place, to be written where it lies, waiting for room.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn reserve(&mut self) -> Result<Reservation<'_, T, S>, PushError<()>> {
        self.reserve_within(None)
    }

    /// Takes the next place, to be written where it lies, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`push_until`](Self::push_until).
    pub fn reserve_until(
        &mut self,
        deadline: Instant,
    ) -> Result<Reservation<'_, T, S>, PushError<()>> {
        self.reserve_within(Some(deadline))
    }

    /// Takes the next place, to be written where it lies, if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    #[inline]
    pub fn try_reserve(&mut self) -> Result<Reservation<'_, T, S>, PushError<()>> {
        match self.handle.attempt(S::try_reserve) {
            Ok(place) => Ok(Reservation::new(&mut self.handle, place)),
            Err(stopped) => Err(stopped.push(())),
        }
    }

    #[inline]
    fn reserve_within(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Reservation<'_, T, S>, PushError<()>> {
        let mut place = self.handle.attempt(S::try_reserve);
        if Handle::<S>::should_wait(&place) {
            place = self.handle.wait_for(deadline, S::try_reserve);
        }
        match place {
            Ok(place) => Ok(Reservation::new(&mut self.handle, place)),
            Err(stopped) => Err(stopped.push(())),
        }
    }

    /// How many messages were in the ring when it was looked at. While others push and pop, it may differ by the time
    /// you read it.
    pub fn len(&self) -> usize {
        self.handle.side.len()
    }

    /// Whether nothing was in the ring when it was looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        self.handle.side.whole().capacity()
    }

    /// Closes the ring for good: consumers take what is in it and are then told
    /// [`PopError::Closed`](crate::PopError::Closed). Never waits; whoever sleeps is woken.
    pub fn close(self) {
        self.handle.close();
    }

    /// The algorithm's side of it.
    pub(crate) fn side(&self) -> &S {
        &self.handle.side
    }
}
