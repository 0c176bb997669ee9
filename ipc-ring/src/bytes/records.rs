//! What a ring of records gives to its handles, one side at a time: the same [`Producer`](super::Producer) and
//! [`Consumer`](super::Consumer) serve lanes and [`broadcast_bytes`](crate::broadcast_bytes).

use ipc_core::memory::{Arena, Memory};

use super::place::Place;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::side::{Refusal, Side};

/// The producer's side. None of its calls waits.
pub trait SendRecords: Side {
    /// Room for a record of `len` bytes, which are at most half the arena. To forget the record is to give it back.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is no room, [`Refusal::Closed`], [`Refusal::Corrupt`].
    fn try_reserve(&mut self, len: usize) -> Result<Place, Refusal>;

    /// Copies bytes into the payload of a record that is reserved, from byte `at` on. They must lie within it.
    fn write(&self, record: &Place, at: usize, bytes: &[u8]);

    /// Publishes the record that was reserved last.
    fn commit(&mut self, record: Place);

    /// Copies as many records in as there is room for, and publishes them. At least one, unless refused.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is no room, [`Refusal::Closed`], [`Refusal::Corrupt`].
    fn try_push_batch(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<usize, Refusal>;

    /// The arena, for views of a record.
    fn arena(&self) -> &Arena<Self::Memory>;
}

/// The consumer's side. None of its calls waits.
pub trait ReceiveRecords: Side {
    /// The next record, which stays where it is until [`commit`](Self::commit), or until it is written over, where a ring
    /// does not wait for its readers.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`] if there is none, [`Refusal::Closed`] if there will be none, [`Refusal::Lagged`] where a ring does not wait
    /// for its readers, [`Refusal::Corrupt`].
    fn try_next(&mut self) -> Result<Place, Refusal>;

    /// Copies bytes out of the payload of the next record, from byte `at` on. They must lie within it.
    fn read(&self, record: &Place, at: usize, into: &mut [u8]);

    /// Takes the record that [`try_next`](Self::try_next) gave last. Refused if it was written over meanwhile: what was
    /// copied of it may be anything.
    ///
    /// # Errors
    ///
    /// [`Refusal::Lagged`] then.
    fn commit(&mut self, record: Place) -> Result<(), Refusal>;
}

impl<M: Memory> SendRecords for Sender<M> {
    #[inline(always)]
    fn try_reserve(&mut self, len: usize) -> Result<Place, Refusal> {
        self.try_reserve(len)
    }

    #[inline(always)]
    fn write(&self, record: &Place, at: usize, bytes: &[u8]) {
        self.write(record, at, bytes);
    }

    #[inline(always)]
    fn commit(&mut self, record: Place) {
        self.commit(record);
    }

    #[inline]
    fn try_push_batch(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<usize, Refusal> {
        self.try_push_batch(payloads)
    }

    #[inline]
    fn arena(&self) -> &Arena<M> {
        self.arena()
    }
}

impl<M: Memory> ReceiveRecords for Receiver<M> {
    #[inline(always)]
    fn try_next(&mut self) -> Result<Place, Refusal> {
        self.try_next()
    }

    #[inline(always)]
    fn read(&self, record: &Place, at: usize, into: &mut [u8]) {
        self.read(record, at, into);
    }

    #[inline(always)]
    fn commit(&mut self, record: Place) -> Result<(), Refusal> {
        self.commit(record);
        Ok(())
    }
}
