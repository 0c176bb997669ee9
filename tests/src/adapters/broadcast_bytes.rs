//! `broadcast_bytes`, by way of a lossless reader.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::{Place, SegmentError};
use ipc_ring::{ONLY, PopError, Ring as _, broadcast_bytes};

use super::bytes::{BYTES, EXTENT, arena, len, number};
use super::{Consumer, Kind, Opened, Ring};

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
    let ring = Opened {
        ring: ring?,
        extent: EXTENT,
        producer: |end, _| Box::new(end),
        consumer: |end, _| Box::new(Reader(end)),
    };
    Ok(ring.boxed())
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

    fn len(&self) -> usize {
        self.0.len()
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}
