//! A register of the newest value: readers only load, and a writer killed at any moment never hides the last value.
//!
//! Values have any size, up to megabytes. A reader gets a value that was set as a whole, and never one older than it or
//! anybody it has heard from has seen. Values in between may be missed: use a ring where each counts.
//!
//! # Protocol
//!
//! Four slots, each with a word that says which version it holds, and one word that says which version is the newest.
//! Version v lies in slot v mod 4; version 0 is "nothing yet".
//!
//! ```text
//! writer, with the lease                      reader
//! W1  v := latest + 1                         R1  v := latest; 0? nothing yet
//! W2  word(v) := 2v + 1    being written      R2  word(v) = 2v? else from R1
//! W3  slot(v) := value                        R3  copy slot(v)
//! W4  word(v) := 2v        complete           R4  word(v) = 2v still? else from R1
//! W5  latest := v          publishes
//! ```
//!
//! A reader begins again only if, while it copied, the writer went all the way round to its slot: four values in the
//! time of one copy. It gives up after [`ATTEMPTS`], which takes a writer that does nothing else, or a hostile one.
//!
//! # Orderings
//!
//! W5 is Release and pairs with the Acquire of R1: whoever sees the version sees its slot complete. A Release fence between W2
//! and W3 pairs with an Acquire fence between R3 and R4: whoever has copied a byte of a newer value sees in R4 that the slot
//! was being written. W4 is Release and pairs with the Acquire of R2, for a slot found by an older version.
//!
//! # When a participant dies
//!
//! A writer killed before W5 has set nothing: `latest` names another slot, whose value readers go on getting. Its lease is
//! taken by the next writer, which writes the same version anew. Readers hold nothing.
//!
//! Sources: Lamport's register and the four slots of Simpson, with the versions of a seqlock in each slot.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use super::guard::FORKED;
use super::lock::{Entry as Begin, Leave, Lock, Refused, Taken};
use super::{Attach, Base, LockError, ONLY, VERSION, misfit, spec_of};
use crate::event::{Event, LONGEST_SLICE, Wait, Waiters, wait_until};
use crate::memory::{Area, Memory, OutOfArea, Slots, Word64, Words};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentView};
use crate::{Mapped, Message, ReadOnly, bytemuck};

/// How registers are told from other objects, and cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"latest\0\0",
    version: VERSION,
    recover,
};

mod field {
    pub(super) const LEASE: usize = 0;
    pub(super) const CHANGED: usize = 4;
    /// Written with every value, and read with every one.
    pub(super) const LATEST: usize = 128;
    pub(super) const SLOTS: usize = 256;
    /// Where the value lies in its slot; its word lies before it, in the same line if the value has 56 bytes at most.
    pub(super) const VALUE: usize = 8;
}

const COUNT: usize = 4;

/// How often a reader tries.
pub const ATTEMPTS: u32 = 1000;

fn recover(area: &Area<Mapped>, _: &Entry, dead: ParticipantId) -> Result<(), OutOfArea> {
    Lock::new(area, field::LEASE)?.recover(dead);
    Ok(())
}

/// The register in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Register<M> {
    lease: Lock<M>,
    changed: Event<M>,
    latest: Word64<M>,
    versions: Words<M>,
    values: Slots<M>,
}

impl<M: Memory> Register<M> {
    /// The register for values of `size` bytes in `area`.
    ///
    /// # Errors
    ///
    /// If the area is too short for values of that size.
    pub fn new(area: &Area<M>, size: usize) -> Result<Self, OutOfArea> {
        let slots = area.slots(field::SLOTS, stride(size).unwrap_or(usize::MAX), COUNT)?;
        Ok(Self {
            lease: Lock::new(area, field::LEASE)?,
            changed: Event::new(area, field::CHANGED, Waiters::Many)?,
            latest: area.word64(field::LATEST)?,
            versions: slots.words(0)?,
            values: slots.part(field::VALUE, size)?,
        })
    }

    /// Bytes that a register takes; `None` if they cannot be counted.
    pub fn size(size: usize) -> Option<usize> {
        stride(size)?.checked_mul(COUNT)?.checked_add(field::SLOTS)
    }

    /// The newest version; 0 if there is none. Whoever sees it can read a value at least as new.
    #[inline]
    pub fn version(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `set` (R1 with W5).
        self.latest.load(Acquire)
    }

    /// Copies the newest value out, and tells its version; 0, and nothing is copied, if there is none. `None` if it was
    /// overwritten at each of [`ATTEMPTS`]; `into` holds rubbish then.
    #[inline]
    pub fn read(&self, into: &mut [u8]) -> Option<u64> {
        let version = self.version();
        if version == 0 || self.try_read(version, into) {
            return Some(version);
        }
        self.read_again(into)
    }

    /// R2 to R4.
    #[inline]
    fn try_read(&self, version: u64, into: &mut [u8]) -> bool {
        let complete = version.wrapping_mul(2);
        // ORDERING: Acquire pairs with the Release in `set` (R2 with W4).
        if self.versions.load(version, Acquire) != complete {
            return false;
        }
        self.values.read_at(version, 0, into);
        // ORDERING: pairs with the Release fence in `set`: if a byte is newer, so is the word below.
        self.changed.memory().fence(Acquire);
        self.versions.load(version, Relaxed) == complete
    }

    #[cold]
    fn read_again(&self, into: &mut [u8]) -> Option<u64> {
        (0..ATTEMPTS).find_map(|_| {
            self.changed.memory().pause();
            let version = self.version();
            (version == 0 || self.try_read(version, into)).then_some(version)
        })
    }

    /// W1 to W5, by whoever has the lease. Tells the version.
    pub fn set(&self, value: &[u8]) -> u64 {
        // Only the holder of the lease stores it, and whoever took the lease has seen the last one's.
        let version = self.latest.load(Relaxed).wrapping_add(1).max(1);
        let complete = version.wrapping_mul(2);
        self.versions
            .store(version, complete.wrapping_add(1), Relaxed);
        // ORDERING: pairs with the Acquire fence in `try_read`.
        self.changed.memory().fence(Release);
        self.values.write(version, value);
        // ORDERING: Release pairs with the Acquire in `try_read` (W4 with R2).
        self.versions.store(version, complete, Release);
        // ORDERING: Release pairs with the Acquire in `version` (W5 with R1).
        self.latest.store(version, Release);
        self.changed.notify(u32::MAX);
        version
    }

    /// Takes the lease.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`].
    pub fn lease(
        &self,
        me: ParticipantId,
        wait: Wait,
        deadline: Option<Duration>,
        recover: impl FnMut(ParticipantId),
    ) -> Result<(), Refused> {
        if self
            .lease
            .lock(me, Begin::AtOnce, wait, deadline, recover)?
            == Taken::OwnerDied
        {
            // The protocol needs no repair.
            self.lease.mark_consistent();
        }
        Ok(())
    }

    /// Gives the lease back.
    pub fn give_back(&self, me: ParticipantId) {
        self.lease.unlock(me, Leave::Free);
    }

    /// Takes the lease from a participant that is proven dead. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        self.lease.recover(dead);
    }
}

fn stride(size: usize) -> Option<usize> {
    size.checked_add(field::VALUE)?.checked_next_multiple_of(64)
}

/// Why a register did not give what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LatestError {
    /// The value was overwritten while it was copied, again and again.
    #[error("the value was overwritten {ATTEMPTS} times while it was copied")]
    Overrun,
    /// Nothing newer came before the deadline.
    #[error("nothing newer came before the deadline")]
    TimedOut,
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
}

/// A register of the newest `T`.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, Latest};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let position = Latest::<[f64; 3]>::create(Place::Anonymous, ())?;
/// assert_eq!(position.get()?, None);
/// let version = position.set(&[1.0, 2.0, 3.0])?;
/// assert_eq!(position.get()?, Some([1.0, 2.0, 3.0]));
/// // Whoever has seen this version waits for the next by `position.wait(version)`.
/// assert_eq!(position.version(), version);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Latest<T> {
    base: Base,
    register: Register<Mapped>,
    wait: Wait,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Message> Attach for Latest<T> {
    type Parameters = ();

    fn spec((): ()) -> Result<ObjectSpec, SegmentError> {
        let Some(len) = Register::<Mapped>::size(size_of::<T>()) else {
            return Err(SegmentError::TooLarge);
        };
        Ok(spec_of(KIND, len, T::schema().text(), [0; 2]))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        let base = Base::new(object, KIND, &T::schema().text())?;
        let register = Register::new(base.object.area(), size_of::<T>());
        let register = register.map_err(misfit(base.object.entry()))?;
        Ok(Self {
            base,
            register,
            wait: Wait::default(),
            value: PhantomData,
        })
    }

    fn object(&self) -> &Object {
        &self.base.object
    }
}

impl<T: Message> Latest<T> {
    /// How to wait for a change, and for the lease. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// The newest value; nothing if none was ever set. Never waits.
    ///
    /// # Errors
    ///
    /// [`LatestError::Overrun`].
    #[inline]
    pub fn get(&self) -> Result<Option<T>, LatestError> {
        get(&self.register)
    }

    /// Copies the newest value out, and tells its version: 0, and nothing is copied, if none was ever set. For values that
    /// are too large to be returned. Never waits.
    ///
    /// # Errors
    ///
    /// [`LatestError::Overrun`]; `into` holds rubbish then.
    #[inline]
    pub fn get_into(&self, into: &mut T) -> Result<u64, LatestError> {
        self.register
            .read(bytemuck::bytes_of_mut(into))
            .ok_or(LatestError::Overrun)
    }

    /// The version of the newest value: how many have been set.
    #[inline]
    pub fn version(&self) -> u64 {
        self.register.version()
    }

    /// Waits for a version beyond `version`, and tells the newest.
    ///
    /// # Errors
    ///
    /// [`LatestError::Forked`].
    pub fn wait(&self, version: u64) -> Result<u64, LatestError> {
        self.wait_within(version, None)
    }

    /// Waits for a version beyond `version` until `deadline`, and tells the newest.
    ///
    /// # Errors
    ///
    /// [`LatestError::TimedOut`], [`LatestError::Forked`].
    pub fn wait_until(&self, version: u64, deadline: Instant) -> Result<u64, LatestError> {
        self.wait_within(version, Some(deadline))
    }

    fn wait_within(&self, version: u64, deadline: Option<Instant>) -> Result<u64, LatestError> {
        if !self.base.is_here() {
            return Err(LatestError::Forked);
        }
        let waited = wait_until(
            &self.register.changed,
            self.wait,
            self.base.deadline(deadline),
            || Ok::<_, Infallible>(Some(self.version()).filter(|newest| *newest > version)),
            || Ok(()),
        );
        let Ok(waited) = waited;
        waited.got.ok_or(LatestError::TimedOut)
    }

    /// Sets the value, taking the lease for as long as that takes. Tells the version.
    ///
    /// # Errors
    ///
    /// [`LockError::Forked`].
    pub fn set(&self, value: &T) -> Result<u64, LockError> {
        Ok(self.writer()?.set(value))
    }

    /// Takes the lease: while it is held, nobody else sets a value. Waits for whoever has it.
    ///
    /// # Errors
    ///
    /// [`LockError::Forked`].
    pub fn writer(&self) -> Result<LatestWriter<'_, T>, LockError> {
        self.writer_within(None)
    }

    /// Takes the lease, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], [`LockError::Forked`].
    pub fn writer_until(&self, deadline: Instant) -> Result<LatestWriter<'_, T>, LockError> {
        self.writer_within(Some(deadline))
    }

    fn writer_within(&self, deadline: Option<Instant>) -> Result<LatestWriter<'_, T>, LockError> {
        if !self.base.is_here() {
            return Err(LockError::Forked);
        }
        let deadline = self.base.deadline(deadline);
        let recover = |holder| self.base.recover(holder);
        let leased = self
            .register
            .lease(self.base.me, self.wait, deadline, recover);
        leased.map_err(LockError::<()>::of)?;
        Ok(LatestWriter { latest: self })
    }

    /// Opens a segment that holds this register alone, for reading only: it need not be writable.
    ///
    /// # Errors
    ///
    /// As [`Segment::open_read_only`].
    pub fn open_read_only(place: impl Into<Place>) -> Result<LatestView<T>, SegmentError> {
        LatestView::in_segment(&Segment::open_read_only(place)?, ONLY)
    }
}

fn get<M: Memory, T: Message>(register: &Register<M>) -> Result<Option<T>, LatestError> {
    let mut value = T::zeroed();
    match register.read(bytemuck::bytes_of_mut(&mut value)) {
        Some(0) => Ok(None),
        Some(_) => Ok(Some(value)),
        None => Err(LatestError::Overrun),
    }
}

/// The lease of a [`Latest`], given back on drop.
#[derive(Debug)]
pub struct LatestWriter<'l, T> {
    latest: &'l Latest<T>,
}

impl<T: Message> LatestWriter<'_, T> {
    /// Sets the value. Tells the version.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the lease.
    pub fn set(&mut self, value: &T) -> u64 {
        assert!(self.latest.base.is_here(), "{FORKED}");
        self.latest.register.set(bytemuck::bytes_of(value))
    }
}

impl<T> Drop for LatestWriter<'_, T> {
    fn drop(&mut self) {
        let Latest { base, register, .. } = self.latest;
        if base.is_here() {
            register.give_back(base.me);
        }
    }
}

/// A [`Latest`] that is open for reading only.
#[derive(Clone, Debug)]
pub struct LatestView<T> {
    register: Register<ReadOnly>,
    wait: Wait,
    value: PhantomData<fn() -> T>,
}

impl<T: Message> LatestView<T> {
    /// The register of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none, or it holds no `T`.
    pub fn in_segment(segment: &SegmentView, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        object.expect(KIND.tag, VERSION, &T::schema().text())?;
        let register = Register::new(object.area(), size_of::<T>());
        let register = register
            .map_err(|error| SegmentError::Damaged(format!("the object {name:?}: {error}")))?;
        Ok(Self {
            register,
            wait: Wait::default(),
            value: PhantomData,
        })
    }

    /// How to wait for a change. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// As [`Latest::get`].
    ///
    /// # Errors
    ///
    /// [`LatestError::Overrun`].
    pub fn get(&self) -> Result<Option<T>, LatestError> {
        get(&self.register)
    }

    /// As [`Latest::get_into`].
    ///
    /// # Errors
    ///
    /// [`LatestError::Overrun`]; `into` holds rubbish then.
    pub fn get_into(&self, into: &mut T) -> Result<u64, LatestError> {
        self.register
            .read(bytemuck::bytes_of_mut(into))
            .ok_or(LatestError::Overrun)
    }

    /// The version of the newest value: how many have been set.
    pub fn version(&self) -> u64 {
        self.register.version()
    }

    /// Waits for a version beyond `version`, and tells the newest. Who cannot write cannot say that he sleeps, so nobody
    /// wakes him: he polls as [`set_wait`](Self::set_wait) says, then looks again after an eighth of the time that he has
    /// waited, every 75 ms at last. Who must know sooner opens the register for writing as well.
    #[expect(
        clippy::missing_panics_doc,
        reason = "without a deadline it does not time out"
    )]
    pub fn wait(&self, version: u64) -> u64 {
        self.wait_within(version, None)
            .expect("without a deadline there is no end but a newer version")
    }

    /// As [`wait`](Self::wait), until `deadline`.
    ///
    /// # Errors
    ///
    /// [`LatestError::TimedOut`].
    pub fn wait_until(&self, version: u64, deadline: Instant) -> Result<u64, LatestError> {
        self.wait_within(version, Some(deadline))
            .ok_or(LatestError::TimedOut)
    }

    fn wait_within(&self, version: u64, deadline: Option<Instant>) -> Option<u64> {
        const FIRST_NAP: Duration = Duration::from_micros(100);
        let (start, budget) = (Instant::now(), self.wait.budget());
        loop {
            let newest = self.version();
            if newest > version {
                return Some(newest);
            }
            let now = Instant::now();
            let left = deadline.map_or(LONGEST_SLICE, |deadline| deadline - now);
            if left.is_zero() {
                return None;
            }
            match now - start {
                waited if waited < budget => std::hint::spin_loop(),
                waited => {
                    std::thread::sleep((waited / 8).clamp(FIRST_NAP, LONGEST_SLICE).min(left));
                }
            }
        }
    }
}
