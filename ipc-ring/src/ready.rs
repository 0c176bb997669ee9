//! Ends of rings in event loops: try, and where there is nothing, arm a descriptor to be told when to try again.
//!
//! ```no_run
//! use std::os::fd::AsFd;
//! use std::time::Duration;
//!
//! use ipc_core::event::Readiness;
//! use ipc_ring::{PopError, Ring, spsc};
//! use rustix::event::{PollFd, PollFlags, poll};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut consumer = spsc::Ring::<u64>::open("feed")?.consumer()?;
//! let ready = Readiness::new()?;
//! loop {
//!     match consumer.try_pop_or_arm(&ready) {
//!         Ok(message) => println!("{message}"),
//!         // Whatever the loop waits for besides.
//!         Err(PopError::Empty) => drop(poll(&mut [PollFd::new(&ready, PollFlags::IN)], None)?),
//!         Err(PopError::Closed) => return Ok(()),
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! # }
//! ```

use ipc_core::event::Readiness;
use ipc_core::{Mapped, Message};

use crate::error::{PopError, PushError};
use crate::side::{ReceiveSide, SendSide};
use crate::{Consumer, Producer};

impl<T: Message, S: ReceiveSide<Memory = Mapped>> Consumer<T, S> {
    /// Takes the next message if there is one. If the answer is [`PopError::Empty`] or [`PopError::Pending`], `ready` becomes
    /// readable when it is worth to try again, or when it is time to look whether the producer lives, which this does: its
    /// death is told by [`PopError::PeerDead`] within 100 ms, as by the calls that wait. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_pop`](Consumer::try_pop), and [`PopError::PeerDead`].
    pub fn try_pop_or_arm(&mut self, ready: &Readiness) -> Result<T, PopError> {
        match self.try_pop() {
            Err(PopError::Empty | PopError::Pending(_)) => {
                ready.arm(self.side().event());
                // A message that came before the descriptor was armed is not told.
                self.try_pop_or_tell()
            }
            done => done,
        }
    }
}

impl<T: Message, S: SendSide<Memory = Mapped>> Producer<T, S> {
    /// Pushes a message if there is room. If the answer is [`PushError::Full`], `ready` becomes readable when it is worth
    /// to try again, or when it is time to look whether the consumer lives, which this does: its death is told by
    /// [`PushError::PeerDead`] within 100 ms, as by the calls that wait. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Producer::try_push), and [`PushError::PeerDead`].
    pub fn try_push_or_arm(&mut self, message: T, ready: &Readiness) -> Result<(), PushError<T>> {
        match self.try_push(message) {
            Err(PushError::Full(message)) => {
                ready.arm(self.side().event());
                self.try_push_or_tell(message)
            }
            done => done,
        }
    }
}
