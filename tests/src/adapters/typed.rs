//! The rings of messages of a fixed type: `spsc` and `mpmc`.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::Mapped;
use ipc_core::event::Wait;
use ipc_core::segment::SegmentError;
use ipc_ring::side::{LendSide, SendSide};
use ipc_ring::{ONLY, PopError, PushError, Ring as _, mpmc, spsc};

use super::{Consumer, Kind, Message, Opened, Producer, Ring, message, number};

pub(super) const SPSC: Kind = Kind {
    name: "spsc",
    many_producers: false,
    many_consumers: false,
    keeps: true,
    lends: true,
    marks_redelivery: false,
    exact: true,
    create: |place, capacity| {
        boxed(
            spsc::Ring::<Message>::options()
                .capacity(capacity)
                .create(place),
        )
    },
    open: |place| boxed(spsc::Ring::<Message>::open(place)),
    start_at: Some(|segment, position| {
        let object = segment.object(ONLY).unwrap();
        for at in [0, 128] {
            object.area().word64(at).unwrap().store(position, Relaxed);
        }
    }),
};

pub(super) const MPMC: Kind = Kind {
    name: "mpmc",
    many_producers: true,
    many_consumers: true,
    keeps: true,
    lends: true,
    marks_redelivery: true,
    exact: true,
    create: |place, capacity| {
        boxed(
            mpmc::Ring::<Message>::options()
                .capacity(capacity)
                .create(place),
        )
    },
    open: |place| boxed(mpmc::Ring::<Message>::open(place)),
    start_at: Some(|segment, position| {
        let object = segment.object(ONLY).unwrap();
        let [capacity, stride] = object.entry().parameters;
        let geometry = mpmc::geometry::Geometry::new(capacity as usize).unwrap();
        for at in [0, 128] {
            object.area().word64(at).unwrap().store(position, Relaxed);
        }
        for position in (0..capacity).map(|slot| position.wrapping_add(slot)) {
            let at = 512 + position % capacity * stride;
            let word = object.area().word64(at as usize).unwrap();
            word.store(geometry.free(position).0, Relaxed);
        }
    }),
};

fn boxed<R, P, C>(ring: Result<R, SegmentError>) -> Result<Box<dyn Ring>, SegmentError>
where
    R: ipc_ring::Ring<Producer = P, Consumer = C> + 'static,
    P: Producer + 'static,
    C: Consumer + 'static,
{
    let ring = Opened {
        ring: ring?,
        extent: 1,
        producer: |end, _| Box::new(end),
        consumer: |end, _| Box::new(end),
    };
    Ok(ring.boxed())
}

impl<S: SendSide<Memory = Mapped>> Producer for ipc_ring::Producer<Message, S> {
    fn set_wait(&mut self, wait: Wait) {
        self.set_wait(wait);
    }

    fn try_push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.try_push(message(number)).map_err(without_value)
    }

    fn push(&mut self, number: u64) -> Result<(), PushError<()>> {
        self.push(message(number)).map_err(without_value)
    }

    fn push_until(&mut self, number: u64, deadline: Instant) -> Result<(), PushError<()>> {
        self.push_until(message(number), deadline)
            .map_err(without_value)
    }

    fn try_push_slice(&mut self, numbers: &[u64]) -> Result<usize, PushError<()>> {
        let messages: Vec<_> = numbers.iter().copied().map(message).collect();
        self.try_push_slice(&messages)
    }

    fn push_slice(&mut self, numbers: &[u64]) -> Result<(), PushError<usize>> {
        let messages: Vec<_> = numbers.iter().copied().map(message).collect();
        self.push_slice(&messages)
    }

    fn reserve_and_commit(&mut self, number: u64) -> Result<(), PushError<()>> {
        let mut place = self.try_reserve()?;
        let message = message(number);
        // In two pieces, the second one first.
        place.write_bytes(16, bytemuck::cast_slice(&message[2..]));
        place.write_bytes(0, bytemuck::cast_slice(&message[..2]));
        place.commit();
        Ok(())
    }

    fn reserve_and_drop(&mut self) -> Result<(), PushError<()>> {
        self.try_reserve()?.write(&[u64::MAX; 5]);
        Ok(())
    }

    fn reserve_and_forget(&mut self) -> Result<(), PushError<()>> {
        let mut place = self.try_reserve()?;
        place.write(&[u64::MAX; 5]);
        std::mem::forget(place);
        Ok(())
    }

    fn close(self: Box<Self>) {
        (*self).close();
    }
}

fn without_value<T>(error: PushError<T>) -> PushError<()> {
    error.map(|_| ())
}

impl<S: LendSide<Memory = Mapped>> Consumer for ipc_ring::Consumer<Message, S> {
    fn set_wait(&mut self, wait: Wait) {
        self.set_wait(wait);
    }

    fn try_pop(&mut self) -> Result<u64, PopError> {
        self.try_pop().map(|message| number(&message))
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        self.pop().map(|message| number(&message))
    }

    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError> {
        self.pop_until(deadline).map(|message| number(&message))
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn try_pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let mut messages = vec![[0; 5]; most];
        let count = self.try_pop_into(&mut messages)?;
        Ok(messages[..count].iter().map(number).collect())
    }

    fn pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let mut messages = vec![[0; 5]; most];
        let count = self.pop_into(&mut messages)?;
        Ok(messages[..count].iter().map(number).collect())
    }

    fn drain(&mut self) -> Vec<u64> {
        self.drain().map(|message| number(&message)).collect()
    }

    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        let message = self.try_read()?;
        done(number(&message.get()), message.is_redelivered());
        message.release();
        Ok(())
    }

    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        let message = self.try_read()?;
        let number = number(&message.get());
        message.put_back();
        Ok(number)
    }

    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        let message = self.try_read()?;
        let number = number(&message.get());
        std::mem::forget(message);
        Ok(number)
    }

    fn close(self: Box<Self>) {
        (*self).close();
    }
}
