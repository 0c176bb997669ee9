//! Messages where they lie: a place that is being written, and a message that is being read.
//!
//! A loan borrows its handle, so there is one at a time. Dropping it gives the place back. One that is forgotten
//! ([`std::mem::forget`]) is given back by the next call on the handle, or when the handle is dropped.
//!
//! The safe calls copy. [`Reservation::as_mut`] and [`Loan::as_ref`] give a real reference, and with it the promise that
//! no process breaks the protocol.
//!
//! ```
//! use ipc_core::segment::Place;
//! use ipc_ring::{Ring, spsc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ring = spsc::Ring::<[u64; 512]>::options().capacity(4).create(Place::Anonymous)?;
//! let (mut producer, mut consumer) = (ring.producer()?, ring.consumer()?);
//!
//! let mut place = producer.reserve()?;
//! place.write_bytes(8, &7_u64.to_ne_bytes());
//! drop(place); // Nothing is published, and the place is free again.
//! assert!(consumer.try_read().is_err());
//!
//! let mut place = producer.reserve()?;
//! place.write(&[7; 512]);
//! place.commit();
//!
//! consumer.read()?.put_back();
//! let message = consumer.read()?;
//! assert_eq!(message.get(), [7; 512]);
//! message.release();
//! assert!(consumer.is_empty());
//! # Ok(()) }
//! ```
//!
//! # Safety
//!
//! The invariant of this file: while a loan exists, its place is ours by the protocol of the ring, nobody else writes
//! there, and, of a reservation, nobody else reads there. The mapping stays as long as the handle that is borrowed.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use ipc_core::{Mapped, Message, bytemuck};

use crate::handle::Handle;
use crate::side::{LendSide, SendSide, Taken};

pub(crate) const FORKED: &str = "a loan taken before fork belongs to the parent process";

/// A place in the ring that is ours to write. Dropping it gives it back, and nothing is published.
///
/// Bytes that are not written are those of some earlier message. Others may have to wait for what becomes of the place:
/// in a ring with several producers nobody overtakes it. So have the message ready before you reserve.
#[derive(Debug)]
pub struct Reservation<'a, T: Message, S: SendSide<Memory = Mapped>> {
    handle: &'a mut Handle<S>,
    place: u64,
    message: PhantomData<fn(T)>,
}

impl<'a, T: Message, S: SendSide<Memory = Mapped>> Reservation<'a, T, S> {
    pub(crate) fn new(handle: &'a mut Handle<S>, place: u64) -> Self {
        Self {
            handle,
            place,
            message: PhantomData,
        }
    }

    /// Copies the whole message in.
    #[inline]
    pub fn write(&mut self, message: &T) {
        self.write_bytes(0, bytemuck::bytes_of(message));
    }

    /// Copies bytes in, `at` bytes from the start of the message.
    ///
    /// # Panics
    ///
    /// If they do not all belong to the message; in a forked child.
    #[inline]
    pub fn write_bytes(&mut self, at: usize, bytes: &[u8]) {
        assert!(self.handle.claim.is_here(), "{FORKED}");
        assert!(at <= size_of::<T>() && bytes.len() <= size_of::<T>() - at);
        self.handle.side.payload().write_at(self.place, at, bytes);
    }

    /// The message where it lies.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the handle.
    ///
    /// # Safety
    ///
    /// Every process that has the ring open must keep to its protocol while the reference lives: none may write to this
    /// place, or go by what it reads there. All users of this crate keep to it: followers and lossy readers may copy the place
    /// meanwhile, and throw the copy away. A program that writes to the mapping by other means does not.
    #[inline]
    pub unsafe fn as_mut(&mut self) -> &mut T {
        assert!(self.handle.claim.is_here(), "{FORKED}");
        let message = self.handle.side.payload();
        let message = message
            .as_ptr(self.place, size_of::<T>())
            .cast::<T>()
            .as_ptr();
        assert!(message.is_aligned());
        // SAFETY: (1) aligned, as just asserted; (2) valid for the size of `T`, which `as_ptr` checked, while the handle
        // is borrowed; (3) any bytes are a `T`; (4) nobody else accesses the place, by the caller's promise.
        unsafe { &mut *message }
    }

    /// Publishes the message.
    ///
    /// # Panics
    ///
    /// In a forked child.
    #[inline]
    pub fn commit(self) {
        assert!(self.handle.claim.is_here(), "{FORKED}");
        self.handle.side.commit(self.place);
        self.handle.count_moved();
        std::mem::forget(self);
    }
}

impl<T: Message, S: SendSide<Memory = Mapped>> Drop for Reservation<'_, T, S> {
    fn drop(&mut self) {
        if self.handle.claim.is_here() {
            self.handle.side.abort(self.place);
        }
    }
}

/// A message that is ours to read where it lies. Dropping it releases its place: the message counts as delivered.
#[derive(Debug)]
pub struct Loan<'a, T: Message, S: LendSide<Memory = Mapped>> {
    handle: &'a mut Handle<S>,
    taken: Taken,
    message: PhantomData<fn() -> T>,
}

impl<'a, T: Message, S: LendSide<Memory = Mapped>> Loan<'a, T, S> {
    pub(crate) fn new(handle: &'a mut Handle<S>, taken: Taken) -> Self {
        Self {
            handle,
            taken,
            message: PhantomData,
        }
    }

    /// Whether another consumer had taken the message before, and died or put it back: it may have done with it already
    /// what you are about to do.
    pub fn is_redelivered(&self) -> bool {
        self.taken.redelivered
    }

    /// Copies the whole message out.
    #[inline]
    pub fn get(&self) -> T {
        let mut message = T::zeroed();
        self.read_bytes(0, bytemuck::bytes_of_mut(&mut message));
        message
    }

    /// Copies bytes out, from `at` bytes after the start of the message.
    ///
    /// # Panics
    ///
    /// If they do not all belong to the message.
    #[inline]
    pub fn read_bytes(&self, at: usize, into: &mut [u8]) {
        assert!(at <= size_of::<T>() && into.len() <= size_of::<T>() - at);
        self.handle
            .side
            .payload()
            .read_at(self.taken.place, at, into);
    }

    /// The message where it lies.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the handle.
    ///
    /// # Safety
    ///
    /// Every process that has the ring open must keep to its protocol while the reference lives: none may write to this
    /// place. All users of this crate keep to it; a program that writes to the mapping by other means does not.
    #[inline]
    pub unsafe fn as_ref(&self) -> &T {
        assert!(self.handle.claim.is_here(), "{FORKED}");
        let message = self.handle.side.payload();
        let message = message
            .as_ptr(self.taken.place, size_of::<T>())
            .cast::<T>()
            .as_ptr();
        assert!(message.is_aligned());
        // SAFETY: (1) aligned, as just asserted; (2) valid for the size of `T`, which `as_ptr` checked, while the handle
        // is borrowed; (3) any bytes are a `T`; (4) nobody writes to the place, by the caller's promise.
        unsafe { &*message }
    }

    /// Commits the message; its place is free for others. The same as dropping it.
    #[inline]
    pub fn release(self) {}

    /// Puts the message back: the next call, of whichever consumer, gets it.
    pub fn put_back(self) {
        if self.handle.claim.is_here() {
            self.handle.side.put_back(self.taken.place);
        }
        std::mem::forget(self);
    }
}

impl<T: Message, S: LendSide<Memory = Mapped>> Drop for Loan<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        if self.handle.claim.is_here() {
            self.handle.side.release(self.taken.place);
            self.handle.count_moved();
        }
    }
}
