//! Something that one process does, and all others wait for; if it dies half way, the next one does it again.
//!
//! # When a participant dies
//!
//! Whoever runs next is told ([`OnceRun::is_again`]), since what the dead one has done may be half done. A run that panics
//! counts as a death.

use std::time::Instant;

use super::lock::{Entry as Begin, Leave, Lock, Refused, Taken};
use super::{Attach, Base, LockError, VERSION, misfit, spec_of};
use crate::Mapped;
use crate::event::Wait;
use crate::memory::{Area, OutOfArea};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, Object, ObjectSpec, SegmentError};

/// How objects of this kind are told from others, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"once\0\0\0\0",
    version: VERSION,
    recover,
};

fn recover(area: &Area<Mapped>, _: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Lock::new(area, 0)?.recover(dead);
    Ok(())
}

/// What is to be done once.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, Once};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let filled = Once::create(Place::Anonymous, ())?;
/// let did = filled.call(|run| {
///     if run.is_again() {
///         // Somebody has died in the middle of it: what he did may be half done.
///     }
/// })?;
/// assert!(did && filled.is_done());
/// assert!(!filled.call(|_| unreachable!())?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Once {
    base: Base,
    /// Held by whoever does it; ended when it is done.
    lock: Lock<Mapped>,
    wait: Wait,
}

impl Attach for Once {
    type Parameters = ();

    fn spec((): ()) -> Result<ObjectSpec, SegmentError> {
        Ok(spec_of(KIND, 64, String::new(), [0; 2]))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, "")?;
        let lock = Lock::new(base.object.area(), 0).map_err(misfit(base.object.entry()))?;
        Ok(Self {
            base,
            lock,
            wait: Wait::default(),
        })
    }

    fn object(&self) -> &Object {
        &self.base.object
    }
}

impl Once {
    /// How to wait for whoever is doing it. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Whether it has been done. Then all that was done is visible.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.lock.is_ended()
    }

    /// Calls `run` if it has not been done, or waits for whoever is doing it. True if this call did it. What `run` does
    /// should be fit to be done again: a process may die after the last step of it.
    ///
    /// # Errors
    ///
    /// [`LockError::Forked`].
    pub fn call(&self, run: impl FnOnce(&OnceRun<'_>)) -> Result<bool, LockError> {
        self.call_within(None, run)
    }

    /// As [`call`](Self::call), waiting until `deadline`. `run` itself may take longer.
    ///
    /// # Errors
    ///
    /// As there, and [`LockError::TimedOut`].
    pub fn call_until(
        &self,
        deadline: Instant,
        run: impl FnOnce(&OnceRun<'_>),
    ) -> Result<bool, LockError> {
        self.call_within(Some(deadline), run)
    }

    fn call_within(
        &self,
        deadline: Option<Instant>,
        run: impl FnOnce(&OnceRun<'_>),
    ) -> Result<bool, LockError> {
        if self.is_done() {
            return Ok(false);
        }
        if !self.base.is_here() {
            return Err(LockError::Forked);
        }
        let deadline = self.base.deadline(deadline);
        let recover = |holder| self.base.recover(holder);
        match self
            .lock
            .lock(self.base.me, Begin::AtOnce, self.wait, deadline, recover)
        {
            Ok(taken) => {
                let mut running = OnceRun {
                    once: self,
                    again: taken == Taken::OwnerDied,
                    done: false,
                };
                run(&running);
                running.done = true;
                Ok(true)
            }
            Err(Refused::Ended) => Ok(false),
            Err(refused) => Err(LockError::of(refused)),
        }
    }
}

/// What whoever does it is told.
#[derive(Debug)]
pub struct OnceRun<'o> {
    once: &'o Once,
    again: bool,
    done: bool,
}

impl OnceRun<'_> {
    /// Whether somebody has begun it before and died, or panicked.
    pub fn is_again(&self) -> bool {
        self.again
    }
}

impl Drop for OnceRun<'_> {
    fn drop(&mut self) {
        if self.once.base.is_here() {
            let how = if self.done {
                Leave::Ended
            } else {
                Leave::Broken
            };
            self.once.lock.unlock(self.once.base.me, how);
        }
    }
}
