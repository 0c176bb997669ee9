//! The two kinds of broadcast rings, each said once for the adapter.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_ring::broadcast::{self, Start};
use ipc_ring::bytes::ReceiveRecords;
use ipc_ring::side::ReceiveSide;
use ipc_ring::{ClaimError, Options, PopError, PushError, Ring as _, broadcast_bytes};

use crate::kill::parcel::Parcel;

/// A kind of broadcast. Its messages are [`Parcel`]s, of which four fit in.
pub(in crate::kill) trait Air: Copy + Sync + 'static {
    /// Its name.
    const KIND: &'static str;
    /// See [`Adapter::account`](crate::kill::adapter::Adapter::account).
    const ACCOUNT: &'static str;
    /// The capacity that gives room for four messages.
    const CAPACITY: usize;
    /// Whether whoever makes room gives up one message more than is needed.
    const SPARES: bool;
    /// The ring.
    type Ring: ipc_ring::Ring + Clone + Send;
    /// One who pushes.
    type Producer: Send + 'static;
    /// A reader that gets every message.
    type Lossless: Reader;
    /// A reader that may miss some, or skips to the newest one.
    type Lossy: Reader;

    fn options(patience: Option<Duration>) -> Options<Self::Ring>;
    fn segment(ring: &Self::Ring) -> &Segment;

    fn producer(ring: &Self::Ring) -> Result<Self::Producer, ClaimError>;
    fn lossless(ring: &Self::Ring, start: Start) -> Result<Self::Lossless, ClaimError>;
    fn lossy(ring: &Self::Ring, start: Start) -> Result<Self::Lossy, ClaimError>;
    fn latest(ring: &Self::Ring) -> Result<Self::Lossy, ClaimError>;

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>>;
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>>;
    fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()>;
    fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()>;
    fn close_producer(it: Self::Producer);
    /// Does something while a place is reserved, and then gives the place back.
    fn while_reserved(on: &mut Self::Producer, act: impl FnOnce() -> Result<()>) -> Result<()>;
}

/// A reader of any sort.
pub(in crate::kill) trait Reader: Send + 'static {
    fn pop(&mut self, until: Instant) -> Result<Parcel, PopError>;
    fn try_pop(&mut self) -> Result<Parcel, PopError>;
    /// Takes up to three at once.
    fn pop_batch(&mut self) -> Result<()>;
    fn close(self);
}

impl<S: ReceiveSide<Memory = Mapped> + Send + 'static> Reader for ipc_ring::Consumer<Parcel, S> {
    fn pop(&mut self, until: Instant) -> Result<Parcel, PopError> {
        self.pop_until(until)
    }
    fn try_pop(&mut self) -> Result<Parcel, PopError> {
        self.try_pop()
    }
    fn pop_batch(&mut self) -> Result<()> {
        let mut room = [Parcel::new(0); 3];
        let count = self.try_pop_into(&mut room)?;
        room[..count]
            .iter()
            .try_for_each(|parcel| parcel.open().map(drop))
    }
    fn close(self) {
        self.close();
    }
}

/// The parcel in a record.
fn parcel(record: &[u8]) -> Result<Parcel, PopError> {
    bytemuck::try_pod_read_unaligned(record).map_err(|_| PopError::Corrupt)
}

impl<S: ReceiveRecords<Memory = Mapped> + Send + 'static> Reader for ipc_ring::bytes::Consumer<S> {
    fn pop(&mut self, until: Instant) -> Result<Parcel, PopError> {
        let mut room = [0; size_of::<Parcel>()];
        let len = self.pop_into_until(&mut room, until)?;
        parcel(&room[..len])
    }
    fn try_pop(&mut self) -> Result<Parcel, PopError> {
        let mut room = [0; size_of::<Parcel>()];
        let len = self.try_pop_into(&mut room)?;
        parcel(&room[..len])
    }
    fn pop_batch(&mut self) -> Result<()> {
        for _ in 0..3 {
            match Reader::try_pop(self) {
                Ok(parcel) => drop(parcel.open()?),
                Err(PopError::Empty) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
    fn close(self) {
        self.close();
    }
}

macro_rules! claims {
    () => {
        fn options(patience: Option<Duration>) -> Options<Self::Ring> {
            let options = Self::Ring::options().capacity(Self::CAPACITY);
            match patience {
                Some(patience) => options.patience(patience),
                None => options,
            }
        }
        fn segment(ring: &Self::Ring) -> &Segment {
            ring.segment()
        }
        fn producer(ring: &Self::Ring) -> Result<Self::Producer, ClaimError> {
            let mut producer = ring.producer()?;
            producer.set_wait(Wait::Block);
            Ok(producer)
        }
        fn lossless(ring: &Self::Ring, start: Start) -> Result<Self::Lossless, ClaimError> {
            let mut reader = ring.lossless(start)?;
            reader.set_wait(Wait::Block);
            Ok(reader)
        }
        fn lossy(ring: &Self::Ring, start: Start) -> Result<Self::Lossy, ClaimError> {
            let mut reader = ring.lossy(start)?;
            reader.set_wait(Wait::Block);
            Ok(reader)
        }
        fn latest(ring: &Self::Ring) -> Result<Self::Lossy, ClaimError> {
            ring.latest()
        }
        fn close_producer(it: Self::Producer) {
            it.close();
        }
    };
}

/// `broadcast`.
#[derive(Clone, Copy)]
pub(in crate::kill) struct Typed;

impl Air for Typed {
    const KIND: &'static str = "broadcast";
    const ACCOUNT: &'static str = "\
A producer that died before it published: its successor writes the same position, and readers that may miss messages \
miss the one that was in the slot before. The producer waits for a lossless reader only as long as it lives, and finds \
out within 75 ms; one that starts as its successor goes on where its commits end, and is told how many were written over \
since. Where the ring's creator has limited the patience, a reader that is too slow is let go whether it lives or not; it \
is told what it missed, and is waited for again. The death of a lossy reader matters to nobody. A reader that has to wait \
is told once that its producer died. The rows show what a newcomer reads from the oldest message on; where a lossless \
reader dies, what its successor reads.";
    const CAPACITY: usize = super::CAPACITY;
    const SPARES: bool = false;
    type Ring = broadcast::Ring<Parcel>;
    type Producer = broadcast::Producer<Parcel>;
    type Lossless = broadcast::Lossless<Parcel>;
    type Lossy = broadcast::Lossy<Parcel>;

    claims!();

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>> {
        let pushed = on.push_until(Parcel::new(number), until);
        pushed.map_err(|error| error.map(|_| ()))
    }
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>> {
        let pushed = on.try_push(Parcel::new(number));
        pushed.map_err(|error| error.map(|_| ()))
    }
    fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()> {
        on.try_push_slice(&numbers.map(Parcel::new))?;
        Ok(())
    }
    fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()> {
        let mut place = on.try_reserve()?;
        place.write(&Parcel::new(number));
        if commit {
            place.commit();
        }
        Ok(())
    }
    fn while_reserved(on: &mut Self::Producer, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let _place = on.try_reserve()?;
        act()
    }
}

/// `broadcast_bytes`, with records of the size of a parcel.
#[derive(Clone, Copy)]
pub(in crate::kill) struct Bytes;

impl Air for Bytes {
    const KIND: &'static str = "broadcast_bytes";
    const ACCOUNT: &'static str = "\
As `broadcast`. A record's number and its place are found together at any moment, so what was missed is counted exactly \
whenever the producer dies. Room is given up before it is written to: what a dead producer gave up is lost to readers that \
may miss records, and to nobody else.";
    // Each record has a header of 8 bytes.
    const CAPACITY: usize = super::CAPACITY * (8 + size_of::<Parcel>());
    const SPARES: bool = true;
    type Ring = broadcast_bytes::Ring;
    type Producer = broadcast_bytes::Producer;
    type Lossless = broadcast_bytes::Lossless;
    type Lossy = broadcast_bytes::Lossy;

    claims!();

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>> {
        on.push_until(bytemuck::bytes_of(&Parcel::new(number)), until)
    }
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>> {
        on.try_push(bytemuck::bytes_of(&Parcel::new(number)))
    }
    fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()> {
        let parcels = numbers.map(Parcel::new);
        on.try_push_batch(&parcels.each_ref().map(bytemuck::bytes_of))?;
        Ok(())
    }
    fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()> {
        let mut place = on.try_reserve(size_of::<Parcel>())?;
        place.write_at(0, bytemuck::bytes_of(&Parcel::new(number)));
        if commit {
            place.commit()?;
        }
        Ok(())
    }
    fn while_reserved(on: &mut Self::Producer, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let _place = on.try_reserve(size_of::<Parcel>())?;
        act()
    }
}
