//! The end that records come out at.
//!
//! # Safety
//!
//! The one slice of shared bytes that this file gives is made of the payload of a loan, which the arena has checked to lie
//! within it; that nobody changes these bytes is for the caller of the unsafe method to vouch for.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::Wait;

use super::place::Place;
use super::receiver::Receiver;
use super::records::ReceiveRecords;
use crate::claim::Claim;
use crate::error::PopError;
use crate::handle::{Handle, Stopped};
use crate::side::{Refusal, Whole as _};

/// The end that records come out at. One at a time has the role; dropping it gives the role back without closing the
/// ring.
#[derive(Debug)]
pub struct Consumer<S: ReceiveRecords = Receiver<Mapped>> {
    handle: Handle<S>,
}

/// Whether to wait, and how long.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Option<Instant>),
}

impl<S: ReceiveRecords<Memory = Mapped>> Consumer<S> {
    pub(crate) fn new(side: S, claim: Claim) -> Self {
        Self {
            handle: Handle::new(side, claim),
        }
    }

    /// How to wait while the ring is empty. [`Wait::Adaptive`] if not set.
    pub fn set_wait(&mut self, wait: Wait) {
        self.handle.wait = wait;
    }

    /// Takes the next record, waiting for one. It replaces what is in `record`, whose memory is used again. Tells its
    /// length.
    ///
    /// # Errors
    ///
    /// [`PopError::Closed`] once it is closed and empty, and [`PopError::PeerDead`] once for each death of the one producer while the ring is
    /// empty: call again to wait for the next one. [`PopError::Lagged`] where a reader may miss messages. [`PopError::Forked`] and
    /// [`PopError::Corrupt`] as everywhere.
    #[inline]
    pub fn pop(&mut self, record: &mut Vec<u8>) -> Result<usize, PopError> {
        self.pop_within(record, Patience::Until(None))
    }

    /// Takes the next record as [`pop`](Self::pop) does, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop); and [`PopError::TimedOut`].
    #[inline]
    pub fn pop_until(
        &mut self,
        record: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<usize, PopError> {
        self.pop_within(record, Patience::Until(Some(deadline)))
    }

    /// Takes the next record as [`pop`](Self::pop) does, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`PopError::Empty`] and [`PopError::Closed`]; [`PopError::Lagged`], [`PopError::Forked`] and [`PopError::Corrupt`].
    #[inline]
    pub fn try_pop(&mut self, record: &mut Vec<u8>) -> Result<usize, PopError> {
        self.pop_within(record, Patience::None)
    }

    #[inline]
    fn pop_within(&mut self, record: &mut Vec<u8>, patience: Patience) -> Result<usize, PopError> {
        loop {
            let place = self.next(patience)?;
            record.resize(place.len, 0);
            self.handle.side.read(&place, 0, record);
            if self.finish(place, patience)? {
                return Ok(place.len);
            }
        }
    }

    /// Takes the next record, waiting for one, into the first bytes of `buffer`. Tells its length.
    ///
    /// # Errors
    ///
    /// [`PopError::TooSmall`] if it does not fit; it stays in the ring. Else as [`pop`](Self::pop).
    #[inline]
    pub fn pop_into(&mut self, buffer: &mut [u8]) -> Result<usize, PopError> {
        self.pop_into_within(buffer, Patience::Until(None))
    }

    /// Takes the next record as [`pop_into`](Self::pop_into) does, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop_into`](Self::pop_into); and [`PopError::TimedOut`].
    #[inline]
    pub fn pop_into_until(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<usize, PopError> {
        self.pop_into_within(buffer, Patience::Until(Some(deadline)))
    }

    /// Takes the next record as [`pop_into`](Self::pop_into) does, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`PopError::TooSmall`] as for [`pop_into`](Self::pop_into); else as [`try_pop`](Self::try_pop).
    #[inline]
    pub fn try_pop_into(&mut self, buffer: &mut [u8]) -> Result<usize, PopError> {
        self.pop_into_within(buffer, Patience::None)
    }

    #[inline(always)]
    fn pop_into_within(
        &mut self,
        buffer: &mut [u8],
        patience: Patience,
    ) -> Result<usize, PopError> {
        loop {
            let place = self.next(patience)?;
            let room = buffer.get_mut(..place.len);
            let Some(room) = room else {
                return Err(PopError::TooSmall { len: place.len });
            };
            self.handle.side.read(&place, 0, room);
            if self.finish(place, patience)? {
                return Ok(place.len);
            }
        }
    }

    /// The place of the next record.
    #[inline(always)]
    fn next(&mut self, patience: Patience) -> Result<Place, PopError> {
        let place = match patience {
            Patience::None => self.handle.attempt(S::try_next),
            Patience::Until(deadline) => {
                let place = self.handle.attempt_for_a_moment(S::try_next);
                if Handle::<S>::should_wait(&place) {
                    self.handle.wait_for(deadline, S::try_next)
                } else {
                    place
                }
            }
        };
        place.map_err(Stopped::pop)
    }

    /// Takes the record that was copied. False if it was written over meanwhile, and the next one is to be waited for.
    #[inline(always)]
    fn finish(&mut self, place: Place, patience: Patience) -> Result<bool, PopError> {
        match (self.handle.attempt(|side| side.commit(place)), patience) {
            (Ok(()), _) => Ok(true),
            (Err(Stopped::Refused(Refusal::NotYet)), Patience::Until(None)) => Ok(false),
            (Err(Stopped::Refused(Refusal::NotYet)), Patience::Until(Some(deadline)))
                if Instant::now() < deadline =>
            {
                Ok(false)
            }
            (Err(Stopped::Refused(Refusal::NotYet)), Patience::Until(_)) => Err(PopError::TimedOut),
            (Err(stopped), _) => Err(stopped.pop()),
        }
    }

    /// How many records were in the ring when it was looked at. While others push, it may differ by the time you read
    /// it.
    pub fn len(&self) -> usize {
        self.handle.side.len()
    }

    /// Whether nothing was in the ring when it was looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the arena, of each lane if there are several.
    pub fn capacity(&self) -> usize {
        self.handle.side.whole().capacity()
    }

    /// Closes the ring for good: producers are told [`PushError::Closed`](crate::PushError::Closed). Never
    /// waits; whoever sleeps is woken.
    pub fn close(self) {
        self.handle.close();
    }
}

impl Consumer {
    /// The next record where it lies; waits for one.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    #[inline]
    pub fn read(&mut self) -> Result<Record<'_>, PopError> {
        self.read_within(Patience::Until(None))
    }

    /// The next record where it lies; waits for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`pop_until`](Self::pop_until).
    #[inline]
    pub fn read_until(&mut self, deadline: Instant) -> Result<Record<'_>, PopError> {
        self.read_within(Patience::Until(Some(deadline)))
    }

    /// The next record where it lies, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// As [`try_pop`](Self::try_pop).
    #[inline]
    pub fn try_read(&mut self) -> Result<Record<'_>, PopError> {
        self.read_within(Patience::None)
    }

    #[inline]
    fn read_within(&mut self, patience: Patience) -> Result<Record<'_>, PopError> {
        let place = self.next(patience)?;
        let redelivered = self.handle.side.lend(&place);
        Ok(Record {
            consumer: self,
            place,
            seen: 0,
            redelivered,
        })
    }
}

/// A record where it lies. It is taken by [`release`](Self::release); dropping or forgetting it leaves it in the ring, as the next one to come.
///
/// The safe calls copy. As an [`io::Read`] it is read front to back; wrap it in an [`io::BufReader`] to read lines or to
/// parse byte by byte.
#[derive(Debug)]
#[must_use = "a record that is dropped stays in the ring"]
pub struct Record<'a> {
    consumer: &'a mut Consumer,
    place: Place,
    seen: usize,
    redelivered: bool,
}

impl Record<'_> {
    /// Bytes of the record.
    pub fn len(&self) -> usize {
        self.place.len
    }

    /// Whether the record has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was read before without being taken: by a consumer that died since, or by one that dropped it.
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Which lane it came by; 0 where there is one only.
    pub fn lane(&self) -> usize {
        self.consumer.handle.side.lane()
    }

    /// Copies bytes of the record out, from byte `at` on.
    ///
    /// # Panics
    ///
    /// If they do not lie within it.
    #[inline]
    pub fn read_at(&self, at: usize, into: &mut [u8]) {
        self.consumer.handle.side.read(&self.place, at, into);
    }

    /// A copy of the whole record.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len()];
        self.read_at(0, &mut copy);
        copy
    }

    /// The bytes of the record, in place.
    ///
    /// # Safety
    ///
    /// While the slice is in use, no other process writes these bytes. Processes that use this crate keep to it, as nobody
    /// writes to what is published before it is taken; any other process that can write to the memory, or cut its file
    /// short, has to be trusted not to.
    #[inline]
    pub unsafe fn as_slice(&self) -> &[u8] {
        let arena = self.consumer.handle.side.arena();
        let bytes = arena.pointer(self.place.payload, self.place.len);
        // SAFETY: (1) the arena has checked that the bytes lie within the mapping, which lives at least as long as the
        // consumer that is borrowed; (2) bytes need no alignment and have no invalid values; (3) nobody writes them, says the
        // caller.
        unsafe { bytes.as_ref() }
    }

    /// Takes the record out of the ring.
    #[inline]
    pub fn release(self) {
        // In a forked child the ring is the parent's.
        if let Ok(side) = self.consumer.handle.side() {
            side.commit(self.place);
        }
    }
}

impl Read for Record<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(self.place.len - self.seen);
        self.read_at(self.seen, &mut into[..len]);
        self.seen += len;
        Ok(len)
    }
}
