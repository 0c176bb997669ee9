//! The end that messages of a fixed type come out at, the same for every kind of ring.

use std::marker::PhantomData;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::{Mapped, Message, bytemuck};

use crate::claim::Claim;
use crate::error::PopError;
use crate::handle::{Handle, Stopped};
use crate::loan::Loan;
use crate::side::{LendSide, ReceiveSide, Whole};

/// The end that messages come out at. Each kind names its own: [`spsc::Consumer`](crate::spsc::Consumer), and so on.
///
/// Dropping it gives up what it has claimed, without closing the ring.
#[derive(Debug)]
pub struct Consumer<T, S: ReceiveSide> {
    handle: Handle<S>,
    message: PhantomData<fn() -> T>,
}

impl<T: Message, S: ReceiveSide<Memory = Mapped>> Consumer<T, S> {
    pub(crate) fn new(side: S, claim: Claim) -> Self {
        Self {
            handle: Handle::new(side, claim),
            message: PhantomData,
        }
    }

    /// How to wait while the ring is empty. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.handle.wait = wait;
    }

    /// Takes the next message, waiting for one.
    ///
    /// # Errors
    ///
    /// [`PopError::Closed`] once it is closed and empty, and [`PopError::PeerDead`] once for each death of the one producer while the ring is
    /// empty: call again to wait for the next one. [`PopError::Lagged`] where a reader may miss messages. [`PopError::Forked`] and
    /// [`PopError::Corrupt`] as everywhere.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.pop_within(None)
    }

    /// Takes the next message, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop); and [`PopError::TimedOut`].
    #[inline]
    pub fn pop_until(&mut self, deadline: Instant) -> Result<T, PopError> {
        self.pop_within(Some(deadline))
    }

    /// Takes the next message if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`PopError::Empty`], or [`PopError::Pending`] where a producer has not finished the next one; [`PopError::Closed`];
    /// [`PopError::Lagged`], [`PopError::Forked`] and [`PopError::Corrupt`].
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        let mut message = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut message);
        match self.handle.attempt(|side| side.try_pop_one(bytes)) {
            Ok(()) => Ok(message),
            Err(stopped) => Err(stopped.pop()),
        }
    }

    /// As [`try_pop`](Self::try_pop), and tells whether the producer has died: for whoever waits elsewhere.
    pub(crate) fn try_pop_or_tell(&mut self) -> Result<T, PopError> {
        let mut message = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut message);
        let popped = self.handle.attempt_or_tell(|side| side.try_pop_one(bytes));
        popped.map(|()| message).map_err(Stopped::pop)
    }

    #[inline]
    fn pop_within(&mut self, deadline: Option<Instant>) -> Result<T, PopError> {
        let mut message = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut message);
        let popped = self
            .handle
            .attempt_for_a_moment(|side| side.try_pop_one(bytes));
        if Handle::<S>::should_wait(&popped) {
            return self.pop_slow(deadline).map_err(Stopped::pop);
        }
        match popped {
            Ok(()) => Ok(message),
            Err(stopped) => Err(stopped.pop()),
        }
    }

    #[cold]
    fn pop_slow(&mut self, deadline: Option<Instant>) -> Result<T, Stopped> {
        self.handle.wait_for(deadline, |side| {
            let mut message = T::zeroed();
            side.try_pop_one(bytemuck::bytes_of_mut(&mut message))
                .map(|()| message)
        })
    }

    /// Takes as many messages as there are and as fit into `messages`, waiting for the first. Tells how many.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop), if there is not even one.
    pub fn pop_into(&mut self, messages: &mut [T]) -> Result<usize, PopError> {
        self.pop_into_within(messages, None)
    }

    /// Takes as many messages as there are and as fit into `messages`, waiting for the first until `deadline`. Tells how
    /// many.
    ///
    /// # Errors
    ///
    /// As [`pop_until`](Self::pop_until), if there is not even one.
    pub fn pop_into_until(
        &mut self,
        messages: &mut [T],
        deadline: Instant,
    ) -> Result<usize, PopError> {
        self.pop_into_within(messages, Some(deadline))
    }

    /// Takes as many messages as there are and as fit into `messages`. Tells how many. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_pop`](Self::try_pop), if there is not even one.
    #[inline]
    pub fn try_pop_into(&mut self, messages: &mut [T]) -> Result<usize, PopError> {
        if messages.is_empty() {
            return Ok(0);
        }
        let bytes = bytemuck::must_cast_slice_mut(messages);
        self.handle
            .attempt(|side| side.try_pop(bytes))
            .map_err(Stopped::pop)
    }

    #[inline]
    fn pop_into_within(
        &mut self,
        messages: &mut [T],
        deadline: Option<Instant>,
    ) -> Result<usize, PopError> {
        if messages.is_empty() {
            return Ok(0);
        }
        let bytes = bytemuck::must_cast_slice_mut(messages);
        let mut popped = self.handle.attempt_for_a_moment(|side| side.try_pop(bytes));
        if Handle::<S>::should_wait(&popped) {
            popped = self.handle.wait_for(deadline, |side| side.try_pop(bytes));
        }
        popped.map_err(Stopped::pop)
    }

    /// Takes what is in the ring now, message by message, and ends where there is nothing more. Never waits.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        // Counted before: a producer as fast as we are must not keep us here for ever.
        (0..self.len()).map_while(|_| self.try_pop().ok())
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

    /// Closes the ring for good: producers are told [`PushError::Closed`](crate::PushError::Closed). Never
    /// waits; whoever sleeps is woken.
    pub fn close(self) {
        self.handle.close();
    }

    /// The algorithm's side of it.
    pub(crate) fn side(&self) -> &S {
        &self.handle.side
    }
}

impl<T: Message, S: LendSide<Memory = Mapped>> Consumer<T, S> {
    /// Takes the next message where it lies, waiting for one.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    pub fn read(&mut self) -> Result<Loan<'_, T, S>, PopError> {
        self.read_within(None)
    }

    /// Takes the next message where it lies, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop_until`](Self::pop_until).
    pub fn read_until(&mut self, deadline: Instant) -> Result<Loan<'_, T, S>, PopError> {
        self.read_within(Some(deadline))
    }

    /// Takes the next message where it lies, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_pop`](Self::try_pop).
    #[inline]
    pub fn try_read(&mut self) -> Result<Loan<'_, T, S>, PopError> {
        match self.handle.attempt(S::try_read) {
            Ok(taken) => Ok(Loan::new(&mut self.handle, taken)),
            Err(stopped) => Err(stopped.pop()),
        }
    }

    #[inline]
    fn read_within(&mut self, deadline: Option<Instant>) -> Result<Loan<'_, T, S>, PopError> {
        let mut taken = self.handle.attempt_for_a_moment(S::try_read);
        if Handle::<S>::should_wait(&taken) {
            taken = self.handle.wait_for(deadline, S::try_read);
        }
        match taken {
            Ok(taken) => Ok(Loan::new(&mut self.handle, taken)),
            Err(stopped) => Err(stopped.pop()),
        }
    }
}
