//! `broadcast_bytes`, by way of a lossless reader.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::{Place, Segment, SegmentError};
use ipc_ring::{ONLY, PopError, Ring as _, broadcast_bytes};

use super::bytes::{BYTES, EXTENT, arena, len, number};
use super::{Consumer, Kind, Producer, Ring};

pub(super) const BROADCAST_BYTES: Kind = Kind {
    name: "broadcast_bytes",
    keeps: false,
    lends: false,
    marks_redelivery: false,
    create: |place, capacity| {
        let options = broadcast_bytes::Ring::options().capacity(arena(capacity));
        boxed(options.create(place))
    },
    open: |place: Place| boxed(broadcast_bytes::Ring::open(place)),
    start_at: Some(|segment, position| {
        let object = segment.object(ONLY).unwrap();
        // Both marks, and a note of each.
        for at in [0, 8, 64, 72] {
            let position = position.wrapping_mul(EXTENT as u64);
            object.area().word64(at).unwrap().store(position, Relaxed);
        }
    }),
    ..BYTES
};

fn boxed(ring: Result<broadcast_bytes::Ring, SegmentError>) -> Result<Box<dyn Ring>, SegmentError> {
    Ok(Box::new(ring?))
}

impl Ring for broadcast_bytes::Ring {
    fn producer(&self) -> Box<dyn Producer> {
        Box::new(ipc_ring::Ring::producer(self).unwrap())
    }

    fn consumer(&self) -> Box<dyn Consumer> {
        Box::new(Reader(ipc_ring::Ring::consumer(self).unwrap()))
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
        ipc_ring::Ring::capacity(self) / EXTENT
    }
}

struct Reader(broadcast_bytes::Lossless);

impl Consumer for Reader {
    fn set_wait(&mut self, wait: Wait) {
        self.0.set_wait(wait);
    }

    fn try_pop(&mut self) -> Result<u64, PopError> {
        let mut received = Vec::new();
        self.0.try_pop(&mut received)?;
        Ok(number(&received, len(self.0.capacity())))
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        let mut received = Vec::new();
        self.0.pop(&mut received)?;
        Ok(number(&received, len(self.0.capacity())))
    }

    fn pop_until(&mut self, deadline: Instant) -> Result<u64, PopError> {
        let mut received = [0; EXTENT];
        let count = self.0.pop_into_until(&mut received, deadline)?;
        Ok(number(&received[..count], len(self.0.capacity())))
    }

    fn try_pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.try_pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }

    fn pop_into(&mut self, most: usize) -> Result<Vec<u64>, PopError> {
        let first = self.pop()?;
        let rest = (1..most).map_while(|_| self.try_pop().ok());
        Ok(std::iter::once(first).chain(rest).collect())
    }

    fn drain(&mut self) -> Vec<u64> {
        let count = self.0.len();
        (0..count).map_while(|_| self.try_pop().ok()).collect()
    }

    fn read_and_release(&mut self, done: &mut dyn FnMut(u64, bool)) -> Result<(), PopError> {
        done(self.try_pop()?, false);
        Ok(())
    }

    fn read_and_put_back(&mut self) -> Result<u64, PopError> {
        unimplemented!("a broadcast ring does not lend its records")
    }

    fn read_and_forget(&mut self) -> Result<u64, PopError> {
        unimplemented!("a broadcast ring does not lend its records")
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}
