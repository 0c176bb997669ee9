//! `broadcast`, by way of a lossless reader.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipc_core::event::Wait;
use ipc_core::segment::SegmentError;
use ipc_ring::{ONLY, PopError, Ring as _, broadcast};

use super::{Consumer, Kind, Message, Opened, Ring, number};

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
            // Of a message of the lap before that was begun and never published: nobody finds it.
            let begun = broadcast::full(position.wrapping_sub(capacity)) - 1;
            word.store(begun, Relaxed);
        }
    }),
};

fn boxed(
    ring: Result<broadcast::Ring<Message>, SegmentError>,
) -> Result<Box<dyn Ring>, SegmentError> {
    let ring = Opened {
        ring: ring?,
        extent: 1,
        producer: |end, _| Box::new(end),
        consumer: |end, _| Box::new(Reader(end)),
    };
    Ok(ring.boxed())
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

    fn len(&self) -> usize {
        self.0.len()
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

    fn close(self: Box<Self>) {
        self.0.close();
    }
}
