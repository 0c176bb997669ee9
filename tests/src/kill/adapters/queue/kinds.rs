//! The kinds of rings, each said once for the adapter.

use std::time::Instant;

use anyhow::{Result, bail};
use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::Segment;
use ipc_ring::{ClaimError, Options, PopError, PushError, Ring, bytes, mpmc, spsc};

use crate::kill::parcel::Parcel;

/// What to do with a message that was taken where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kill) enum Finish {
    Release,
    PutBack,
}

/// A kind of ring. Its messages are [`Parcel`]s, of which four fit in.
pub(in crate::kill) trait Queue: Copy + Sync + 'static {
    /// Its name.
    const KIND: &'static str;
    /// See [`Adapter::account`](crate::kill::adapter::Adapter::account).
    const ACCOUNT: &'static str;
    /// Whether each role has one holder at a time.
    const EXCLUSIVE: bool;
    /// Whether a consumer that sleeps is told of its producer's death: there is no other one.
    const TELLS: bool = Self::EXCLUSIVE;
    /// Whether messages can be pushed and popped in batches, and written and read where they lie.
    const LENDS: bool = true;
    /// Whether four messages fit in wherever the first one lies.
    const FIRM: bool = true;
    /// The capacity that gives room for four messages.
    const CAPACITY: usize;
    /// The ring.
    type Ring: Ring + Clone + Send;
    /// One who pushes.
    type Producer: Send + 'static;
    /// One who pops.
    type Consumer: Send + 'static;

    /// How to create one.
    fn options() -> Options<Self::Ring> {
        Self::Ring::options()
    }
    /// Somebody who has a part in the ring that the victim shall not have.
    fn bystander(ring: &Self::Ring) -> Result<Option<Self::Producer>> {
        let _ = ring;
        Ok(None)
    }
    /// Whether newcomers can have every part that there is.
    fn every_part(ring: &Self::Ring) -> Result<()> {
        let _ = ring;
        Ok(())
    }
    /// What was taken, as it is to be shown: where the messages of two producers are in no order, in the order of their
    /// numbers.
    fn in_order(taken: Vec<u64>) -> Result<Vec<u64>> {
        Ok(taken)
    }

    fn producer(ring: &Self::Ring) -> Result<Self::Producer, ClaimError>;
    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, ClaimError>;
    fn segment(ring: &Self::Ring) -> &Segment;
    fn len(ring: &Self::Ring) -> usize;
    fn is_closed(ring: &Self::Ring) -> bool;
    fn close(ring: &Self::Ring);

    fn push(on: &mut Self::Producer, number: u64, until: Instant) -> Result<(), PushError<()>>;
    fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>>;
    fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()>;
    /// Waits until all of them have found room.
    fn push_whole(on: &mut Self::Producer, numbers: [u64; 3], until: Instant) -> Result<()>;
    fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()>;
    fn close_producer(it: Self::Producer);

    fn pop(from: &mut Self::Consumer, until: Instant) -> Result<Parcel, PopError>;
    fn try_pop(from: &mut Self::Consumer) -> Result<Parcel, PopError>;
    /// Takes up to three.
    fn pop_batch(from: &mut Self::Consumer) -> Result<()>;
    /// Waits until there is one, and takes up to three.
    fn pop_waiting(from: &mut Self::Consumer, until: Instant) -> Result<()>;
    fn read(from: &mut Self::Consumer, finish: Finish) -> Result<()>;
    fn close_consumer(it: Self::Consumer);

    /// Does something while a place is reserved, and then gives the place back.
    fn while_reserved(on: &mut Self::Producer, act: &mut dyn FnMut() -> Result<()>) -> Result<()>;
    /// Does something while a message is lent, and then puts it back.
    fn while_lent(from: &mut Self::Consumer, act: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

macro_rules! ring_functions {
    () => {
        fn segment(ring: &Self::Ring) -> &Segment {
            ring.segment()
        }
        fn len(ring: &Self::Ring) -> usize {
            ring.len()
        }
        fn is_closed(ring: &Self::Ring) -> bool {
            ring.is_closed()
        }
        fn close(ring: &Self::Ring) {
            ring.close();
        }
        fn producer(ring: &Self::Ring) -> Result<Self::Producer, ClaimError> {
            let mut producer = ring.producer()?;
            producer.set_wait(Wait::Block);
            Ok(producer)
        }
        fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, ClaimError> {
            let mut consumer = ring.consumer()?;
            consumer.set_wait(Wait::Block);
            Ok(consumer)
        }
        fn close_producer(it: Self::Producer) {
            it.close();
        }
        fn close_consumer(it: Self::Consumer) {
            it.close();
        }
    };
}

pub(super) use ring_functions;

macro_rules! typed {
    ($name:ident, $module:ident, $exclusive:literal, $account:expr) => {
        #[derive(Clone, Copy)]
        pub(in crate::kill) struct $name;

        impl Queue for $name {
            const KIND: &'static str = stringify!($module);
            const ACCOUNT: &'static str = $account;
            const EXCLUSIVE: bool = $exclusive;
            const CAPACITY: usize = 4;
            type Ring = $module::Ring<Parcel>;
            type Producer = ipc_ring::Producer<Parcel, $module::Sender<Mapped>>;
            type Consumer = ipc_ring::Consumer<Parcel, $module::Receiver<Mapped>>;

            ring_functions!();

            fn push(
                on: &mut Self::Producer,
                number: u64,
                until: Instant,
            ) -> Result<(), PushError<()>> {
                on.push_until(Parcel::new(number), until)
                    .map_err(|error| error.map(drop_parcel))
            }
            fn try_push(on: &mut Self::Producer, number: u64) -> Result<(), PushError<()>> {
                on.try_push(Parcel::new(number))
                    .map_err(|error| error.map(drop_parcel))
            }
            fn push_batch(on: &mut Self::Producer, numbers: [u64; 3]) -> Result<()> {
                on.try_push_slice(&numbers.map(Parcel::new))?;
                Ok(())
            }
            fn push_whole(
                on: &mut Self::Producer,
                numbers: [u64; 3],
                until: Instant,
            ) -> Result<()> {
                Ok(on.push_slice_until(&numbers.map(Parcel::new), until)?)
            }
            fn reserve(on: &mut Self::Producer, number: u64, commit: bool) -> Result<()> {
                let mut place = on.try_reserve()?;
                place.write(&Parcel::new(number));
                if commit {
                    place.commit();
                }
                Ok(())
            }
            fn pop(from: &mut Self::Consumer, until: Instant) -> Result<Parcel, PopError> {
                from.pop_until(until)
            }
            fn try_pop(from: &mut Self::Consumer) -> Result<Parcel, PopError> {
                from.try_pop()
            }
            fn pop_batch(from: &mut Self::Consumer) -> Result<()> {
                let mut room = [Parcel::new(0); 3];
                let count = from.try_pop_into(&mut room)?;
                room[..count]
                    .iter()
                    .try_for_each(|parcel| parcel.open().map(drop))
            }
            fn pop_waiting(from: &mut Self::Consumer, until: Instant) -> Result<()> {
                let mut room = [Parcel::new(0); 3];
                let count = from.pop_into_until(&mut room, until)?;
                room[..count]
                    .iter()
                    .try_for_each(|parcel| parcel.open().map(drop))
            }
            fn read(from: &mut Self::Consumer, finish: Finish) -> Result<()> {
                let message = from.try_read()?;
                message.get().open()?;
                match finish {
                    Finish::Release => message.release(),
                    Finish::PutBack => message.put_back(),
                }
                Ok(())
            }
            fn while_reserved(
                on: &mut Self::Producer,
                act: &mut dyn FnMut() -> Result<()>,
            ) -> Result<()> {
                let place = on.try_reserve()?;
                act()?;
                drop(place);
                Ok(())
            }
            fn while_lent(
                from: &mut Self::Consumer,
                act: &mut dyn FnMut() -> Result<()>,
            ) -> Result<()> {
                let message = from.try_read()?;
                act()?;
                message.put_back();
                Ok(())
            }
        }
    };
}

/// Of rings whose two ends are roles.
pub(super) const ROLES: &str = "\
What was not published or committed is as if it had never begun; nothing in the ring needs repair. The role of the dead \
is free as soon as somebody asks for it, and the new holder goes on where the old one's commits end. The other side is \
told `PeerDead` once for each death, and only when it has to wait: a consumer takes what is left first.";

/// Of rings whose slots are claimed.
const CLAIMS: &str = "\
A place that was claimed and not published is skipped; a message that was taken and not committed comes back before all \
others and says `is_redelivered`. Whoever the claim of the dead holds up clears up after it: a `pop` that is told \
`Pending(owner)` and a `push` that finds the ring full look after 40 ms whether the owner lives. Nobody is told of a \
death as such, since any other producer or consumer goes on in the dead one's place.";

fn drop_parcel(_: Parcel) {}

typed!(Spsc, spsc, true, ROLES);
typed!(Mpmc, mpmc, false, CLAIMS);

/// The byte ring, with records of the size of a parcel.
#[derive(Clone, Copy)]
pub(in crate::kill) struct Bytes;

/// The parcel in a record.
fn parcel(record: &[u8]) -> Result<Parcel, PopError> {
    bytemuck::try_pod_read_unaligned(record).map_err(|_| PopError::Corrupt)
}

impl Queue for Bytes {
    const KIND: &'static str = "bytes";
    const ACCOUNT: &'static str = ROLES;
    const EXCLUSIVE: bool = true;
    // Each record has a header of 8 bytes.
    const CAPACITY: usize = 4 * (8 + size_of::<Parcel>());
    type Ring = bytes::Ring;
    type Producer = bytes::Producer;
    type Consumer = bytes::Consumer;

    ring_functions!();

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
    fn push_whole(on: &mut Self::Producer, numbers: [u64; 3], _: Instant) -> Result<()> {
        let parcels = numbers.map(Parcel::new);
        on.push_batch(&parcels.each_ref().map(bytemuck::bytes_of))?;
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
    fn pop(from: &mut Self::Consumer, until: Instant) -> Result<Parcel, PopError> {
        let mut room = [0; size_of::<Parcel>()];
        let len = from.pop_into_until(&mut room, until)?;
        parcel(&room[..len])
    }
    fn try_pop(from: &mut Self::Consumer) -> Result<Parcel, PopError> {
        let mut room = [0; size_of::<Parcel>()];
        let len = from.try_pop_into(&mut room)?;
        parcel(&room[..len])
    }
    fn pop_batch(from: &mut Self::Consumer) -> Result<()> {
        for _ in 0..3 {
            match Self::try_pop(from) {
                Ok(parcel) => drop(parcel.open()?),
                Err(PopError::Empty) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
    fn pop_waiting(from: &mut Self::Consumer, until: Instant) -> Result<()> {
        Self::pop(from, until)?.open()?;
        Self::pop_batch(from)
    }
    fn read(from: &mut Self::Consumer, finish: Finish) -> Result<()> {
        let record = from.try_read()?;
        let mut room = [0; size_of::<Parcel>()];
        record.read_at(0, &mut room);
        parcel(&room)?.open()?;
        match finish {
            Finish::Release => record.release(),
            Finish::PutBack => drop(record),
        }
        Ok(())
    }
    fn while_reserved(_: &mut Self::Producer, _: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        bail!("a reservation leaves nothing in this ring")
    }
    fn while_lent(_: &mut Self::Consumer, _: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        bail!("a loan leaves nothing in this ring")
    }
}
