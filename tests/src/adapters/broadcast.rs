//! `broadcast`, by way of a lossless reader.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::{Segment, SegmentError};
use ipc_ring::{ONLY, PopError, Ring as _, broadcast};

use super::{Consumer, Kind, Message, Producer, Ring, number};

/// Where `docs/layout.md` draws the slots.
const SLOTS: u64 = 4608;

pub(super) const BROADCAST: Kind = Kind {
    name: "broadcast",
    many_producers: false,
    many_consumers: false,
    keeps: false,
    lends: false,
    marks_redelivery: false,
    exact: true,
    create: |place, capacity| boxed(broadcast::Ring::options().capacity(capacity).create(place)),
    open: |place| boxed(broadcast::Ring::open(place)),
    start_at: Some(|segment, position| {
        let object = segment.object(ONLY).unwrap();
        let [capacity, stride] = object.entry().parameters;
        object.area().word64(0).unwrap().store(position, Relaxed);
        for position in (0..capacity).map(|slot| position.wrapping_add(slot)) {
            let at = SLOTS + position % capacity * stride;
            let word = object.area().word64(at as usize).unwrap();
            word.store(broadcast::full(position.wrapping_sub(capacity)), Relaxed);
        }
    }),
};

fn boxed(
    ring: Result<broadcast::Ring<Message>, SegmentError>,
) -> Result<Box<dyn Ring>, SegmentError> {
    Ok(Box::new(ring?))
}

impl Ring for broadcast::Ring<Message> {
    fn producer(&self) -> Box<dyn Producer> {
        Box::new(ipc_ring::Ring::producer(self).unwrap())
    }

    fn consumer(&self) -> Box<dyn Consumer> {
        Box::new(Reader(self.lossless(broadcast::Start::Newest).unwrap()))
    }

    fn rejoin(&self) -> Box<dyn Ring> {
        Box::new(ipc_ring::Ring::rejoin(self).unwrap())
    }

    fn segment(&self) -> &Segment {
        ipc_ring::Ring::segment(self)
    }

    fn close(&self) {
        ipc_ring::Ring::close(self);
    }

    fn len(&self) -> usize {
        ipc_ring::Ring::len(self)
    }

    fn capacity(&self) -> usize {
        ipc_ring::Ring::capacity(self)
    }
}

struct Reader(broadcast::Lossless<Message>);

impl Consumer for Reader {
    fn set_wait(&mut self, wait: Wait) {
        self.0.set_wait(wait);
    }

    fn try_pop(&mut self) -> Result<u64, PopError> {
        self.0.try_pop().map(|message| number(&message))
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        self.0.pop().map(|message| number(&message))
    }

    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError> {
        self.0.pop_until(deadline).map(|message| number(&message))
    }

    fn try_pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let mut messages = vec![[0; 5]; most];
        let count = self.0.try_pop_into(&mut messages)?;
        Ok(messages[..count].iter().map(number).collect())
    }

    fn pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let mut messages = vec![[0; 5]; most];
        let count = self.0.pop_into(&mut messages)?;
        Ok(messages[..count].iter().map(number).collect())
    }

    fn drain(&mut self) -> Vec<u64> {
        self.0.drain().map(|message| number(&message)).collect()
    }

    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        done(self.try_pop()?, false);
        Ok(())
    }

    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        unimplemented!("a broadcast ring does not lend its messages")
    }

    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        unimplemented!("a broadcast ring does not lend its messages")
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}
