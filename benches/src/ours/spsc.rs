//! The SPSC ring.

use anyhow::Result;
use ipc_core::segment::Place;
use ipc_ring::{Ring as _, spsc};

use crate::measure::{Case, Latency};
use crate::subject::{Side, Subject, Typed, ping_pong_typed, stream_typed};
use crate::transport::{Rx, Shape, Transport, Tx, Words};

/// The subject.
pub struct Spsc;

impl Subject for Spsc {
    fn name(&self) -> &'static str {
        "spsc"
    }

    fn side(&self) -> Side {
        Side::Ours
    }

    fn stream(&self, case: &Case) -> Option<Result<f64>> {
        stream_typed::<Self>(case)
    }

    fn ping_pong(&self, case: &Case) -> Option<Result<Latency>> {
        ping_pong_typed::<Self>(case)
    }
}

impl Typed for Spsc {
    type Of<const W: usize> = Over<W>;
}

/// The transport.
pub struct Over<const W: usize> {
    ring: spsc::Ring<[u64; W]>,
    shape: Shape,
}

/// The sending end.
pub struct Sender<const W: usize>(spsc::Producer<[u64; W]>);

/// The receiving end.
pub struct Receiver<const W: usize>(spsc::Consumer<[u64; W]>);

impl<const W: usize> Transport for Over<W> {
    type Tx = Sender<W>;
    type Rx = Receiver<W>;

    fn create(shape: &Shape) -> Result<Self> {
        let ring = spsc::Ring::options()
            .capacity(shape.capacity)
            .create(Place::Memfd("bench".into()))?;
        Ok(Self {
            ring,
            shape: *shape,
        })
    }

    fn tx(&self) -> Result<Sender<W>> {
        let mut producer = self.ring.rejoin()?.producer()?;
        producer.set_wait(self.shape.wait);
        Ok(Sender(producer))
    }

    fn rx(&self) -> Result<Receiver<W>> {
        let mut consumer = self.ring.rejoin()?.consumer()?;
        consumer.set_wait(self.shape.wait);
        Ok(Receiver(consumer))
    }
}

/// A message as the ring's type. The shape's payload is that of the type.
fn typed<const W: usize>(words: &Words) -> &[[u64; W]] {
    words.as_chunks().0
}

fn typed_mut<const W: usize>(words: &mut Words) -> &mut [[u64; W]] {
    words.as_chunks_mut().0
}

impl<const W: usize> Tx for Sender<W> {
    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        Ok(self
            .0
            .push(typed(message)[0])
            .map_err(|error| error.map(drop))?)
    }

    #[inline]
    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        Ok(self.0.push_slice(typed(messages))?)
    }
}

impl<const W: usize> Rx for Receiver<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        typed_mut(message)[0] = self.0.pop()?;
        Ok(())
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        Ok(self.0.pop_into(typed_mut(messages))?)
    }
}
