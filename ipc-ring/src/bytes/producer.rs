//! The end that records go in at.
//!
//! # Safety
//!
//! The one slice of shared bytes that this file gives is made of the payload of a reservation, which the arena has checked
//! to lie within it; that nobody else touches these bytes is for the caller of the unsafe method to vouch for.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, Write};
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::Wait;

use super::place::{Place, max_len};
use super::records::SendRecords;
use super::sender::Sender;
use crate::claim::Claim;
use crate::error::PushError;
use crate::handle::Handle;
use crate::loan::FORKED;
use crate::side::{Refusal, Whole as _};

/// The end that records go in at. One at a time has the role; dropping it gives the role back without closing the ring.
#[derive(Debug)]
pub struct Producer<S: SendRecords = Sender<Mapped>> {
    handle: Handle<S>,
}

/// Whether to wait, and how long.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Option<Instant>),
}

impl<S: SendRecords<Memory = Mapped>> Producer<S> {
    pub(crate) fn new(side: S, claim: Claim) -> Self {
        Self {
            handle: Handle::new(side, claim),
        }
    }

    /// How to wait while the ring is full. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.handle.wait = wait;
    }

    /// Pushes a record, waiting for room.
    ///
    /// # Errors
    ///
    /// [`PushError::TooLong`] for a record of more than half the arena; [`PushError::Closed`]; and [`PushError::PeerDead`] once for each death
    /// of the one consumer while the ring is full: call again to wait for the next one. [`PushError::Forked`] and
    /// [`PushError::Corrupt`] as everywhere.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), PushError<()>> {
        self.push_within(record, Patience::Until(None))
    }

    /// Pushes a record, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); and [`PushError::TimedOut`].
    #[inline]
    pub fn push_until(&mut self, record: &[u8], deadline: Instant) -> Result<(), PushError<()>> {
        self.push_within(record, Patience::Until(Some(deadline)))
    }

    /// Pushes a record if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`], [`PushError::TooLong`] and [`PushError::Closed`]; [`PushError::Forked`] and [`PushError::Corrupt`].
    #[inline]
    pub fn try_push(&mut self, record: &[u8]) -> Result<(), PushError<()>> {
        self.push_within(record, Patience::None)
    }

    #[inline(always)]
    fn push_within(&mut self, record: &[u8], patience: Patience) -> Result<(), PushError<()>> {
        let place = self.place(record.len(), patience)?;
        self.handle.side.write(&place, 0, record);
        self.handle.side.commit(place);
        Ok(())
    }

    /// Pushes one record that is gathered from several pieces, waiting for room.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), for all pieces together.
    pub fn push_vectored(&mut self, pieces: &[IoSlice<'_>]) -> Result<(), PushError<()>> {
        self.push_pieces(pieces, Patience::Until(None))
    }

    /// Pushes one record that is gathered from several pieces, if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push), for all pieces together.
    pub fn try_push_vectored(&mut self, pieces: &[IoSlice<'_>]) -> Result<(), PushError<()>> {
        self.push_pieces(pieces, Patience::None)
    }

    fn push_pieces(
        &mut self,
        pieces: &[IoSlice<'_>],
        patience: Patience,
    ) -> Result<(), PushError<()>> {
        // More than there is memory saturates, and is too long.
        let len = pieces
            .iter()
            .fold(0, |len: usize, piece| len.saturating_add(piece.len()));
        let place = self.place(len, patience)?;
        let mut at = 0;
        for piece in pieces {
            self.handle.side.write(&place, at, piece);
            at += piece.len();
        }
        self.handle.side.commit(place);
        Ok(())
    }

    /// Pushes all records in order, waiting for room as often as needed. They become visible in runs, each with a single
    /// store. On an error, tells how many went in.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), with how many went in; none, if one of them is too long.
    pub fn push_batch(&mut self, records: &[impl AsRef<[u8]>]) -> Result<(), PushError<usize>> {
        self.check_batch(records)?;
        let mut done = 0;
        while done < records.len() {
            let rest = &records[done..];
            let mut pushed = self.handle.attempt(|side| side.try_push_batch(rest));
            if Handle::<S>::should_wait(&pushed) {
                pushed = self.handle.wait_for(None, |side| side.try_push_batch(rest));
            }
            done += pushed.map_err(|stopped| stopped.push(done))?;
        }
        Ok(())
    }

    /// Pushes as many of the records as there is room for, in order, and makes them visible with a single store. Tells
    /// how many. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push), if not even one went in; none goes in if one of them is too long.
    pub fn try_push_batch(
        &mut self,
        records: &[impl AsRef<[u8]>],
    ) -> Result<usize, PushError<usize>> {
        self.check_batch(records)?;
        if records.is_empty() {
            return Ok(0);
        }
        let pushed = self.handle.attempt(|side| side.try_push_batch(records));
        pushed.map_err(|stopped| stopped.push(0))
    }

    fn check_batch(&self, records: &[impl AsRef<[u8]>]) -> Result<(), PushError<usize>> {
        let mut lens = records.iter().map(|record| record.as_ref().len());
        let too_long = lens.find_map(|len| self.check(len).err());
        too_long.map_or(Ok(()), |error| Err(error.map(|()| 0)))
    }

    /// Room for a record of `len` bytes, to be written where it lies; waits for it.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, S>, PushError<()>> {
        self.reserve_within(len, Patience::Until(None))
    }

    /// Room for a record of `len` bytes, to be written where it lies; waits for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`push_until`](Self::push_until).
    #[inline]
    pub fn reserve_until(
        &mut self,
        len: usize,
        deadline: Instant,
    ) -> Result<Reservation<'_, S>, PushError<()>> {
        self.reserve_within(len, Patience::Until(Some(deadline)))
    }

    /// Room for a record of `len` bytes, to be written where it lies, if there is. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_, S>, PushError<()>> {
        self.reserve_within(len, Patience::None)
    }

    /// Room for a record of `len` bytes, which may be more than it will need: that there is none says nothing of the ring, and
    /// is not counted.
    #[inline]
    #[cfg(feature = "channel")]
    pub(crate) fn try_guess(&mut self, len: usize) -> Option<Reservation<'_, S>> {
        let place = self.handle.side().ok()?.try_reserve(len).ok()?;
        Some(Reservation {
            producer: self,
            place,
            written: 0,
        })
    }

    #[inline]
    fn reserve_within(
        &mut self,
        len: usize,
        patience: Patience,
    ) -> Result<Reservation<'_, S>, PushError<()>> {
        let place = self.place(len, patience)?;
        Ok(Reservation {
            producer: self,
            place,
            written: 0,
        })
    }

    /// A place for a record, behind what is published.
    #[inline(always)]
    fn place(&mut self, len: usize, patience: Patience) -> Result<Place, PushError<()>> {
        self.check(len)?;
        let place = self.handle.attempt(|side| side.try_reserve(len));
        let place = match patience {
            Patience::Until(deadline) if Handle::<S>::should_wait(&place) => {
                self.handle.wait_for(deadline, |side| side.try_reserve(len))
            }
            _ => place,
        };
        place.map_err(|stopped| stopped.push(()))
    }

    #[inline]
    fn check(&self, len: usize) -> Result<(), PushError<()>> {
        let max = self.max_len();
        if len > max {
            let value = ();
            return Err(PushError::TooLong { value, len, max });
        }
        Ok(())
    }

    /// The longest record, in bytes: half the arena.
    #[inline]
    pub fn max_len(&self) -> usize {
        max_len(self.capacity())
    }

    /// How many records were in the ring, or in this producer's lane, when it was looked at. While the other side pops,
    /// it may differ by the time you read it.
    pub fn len(&self) -> usize {
        self.handle.side.len()
    }

    /// Whether nothing was in it when it was looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the arena.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.handle.side.arena().len()
    }

    /// Closes the ring for good: the consumer takes what is in it and is then told
    /// [`PopError::Closed`](crate::PopError::Closed). Never waits; whoever sleeps is woken.
    pub fn close(self) {
        self.handle.close();
    }
}

/// Room for a record that is written where it lies. It becomes visible by [`commit`](Self::commit); dropping or forgetting
/// it gives the room back.
///
/// What is not written keeps the bytes of earlier records. As an [`io::Write`] it is written front to back, up to its end.
#[derive(Debug)]
#[must_use = "a reservation that is dropped publishes nothing"]
pub struct Reservation<'a, S: SendRecords = Sender<Mapped>> {
    producer: &'a mut Producer<S>,
    place: Place,
    written: usize,
}

impl<S: SendRecords<Memory = Mapped>> Reservation<'_, S> {
    /// Bytes of the record.
    pub fn len(&self) -> usize {
        self.place.len
    }

    /// Whether the record has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes were written front to back, through [`io::Write`].
    pub fn written(&self) -> usize {
        self.written
    }

    /// Copies bytes into the record, from byte `at` on.
    ///
    /// # Panics
    ///
    /// If they do not lie within it; in a forked child of the process that has the handle.
    #[inline]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(self.producer.handle.claim.is_here(), "{FORKED}");
        self.producer.handle.side.write(&self.place, at, bytes);
    }

    /// The bytes of the record, in place.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that has the handle.
    ///
    /// # Safety
    ///
    /// While the slice is in use, no other process writes these bytes, or goes by what it reads there. Processes that use this
    /// crate keep to it: nobody but the holder of the producer's role writes what is not published, and a follower or a lossy
    /// reader that copies it meanwhile throws the copy away. Any other process that can write to the memory, or cut its file
    /// short, has to be trusted not to.
    #[inline]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        assert!(self.producer.handle.claim.is_here(), "{FORKED}");
        let arena = self.producer.handle.side.arena();
        let mut bytes = arena.pointer(self.place.payload, self.place.len);
        // SAFETY: (1) the arena has checked that the bytes lie within the mapping, which lives at least as long as the
        // producer that is borrowed; (2) bytes need no alignment and have no invalid values; (3) nobody else uses them, says
        // the caller, and `self` is borrowed for as long as the slice lives.
        unsafe { bytes.as_mut() }
    }

    /// Publishes the record.
    ///
    /// # Errors
    ///
    /// If the ring has been closed meanwhile, or the process forked. Nothing is published then.
    #[inline]
    pub fn commit(self) -> Result<(), PushError<()>> {
        let len = self.len();
        self.commit_len(len)
    }

    /// Publishes the first `len` bytes as the record; the rest of the room is given back.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    ///
    /// # Panics
    ///
    /// If `len` is more than was reserved.
    #[inline]
    pub fn commit_len(self, len: usize) -> Result<(), PushError<()>> {
        assert!(len <= self.place.len, "more is committed than was reserved");
        let mut place = self.place;
        place.len = len;
        let committed = self.producer.handle.attempt(|side| {
            if side.whole().is_closed() {
                return Err(Refusal::Closed);
            }
            side.commit(place);
            Ok(())
        });
        committed.map_err(|stopped| stopped.push(()))
    }
}

impl<S: SendRecords<Memory = Mapped>> Write for Reservation<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.place.len - self.written);
        self.write_at(self.written, &bytes[..len]);
        self.written += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
