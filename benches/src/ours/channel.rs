//! The channel of `serde` values: here of vectors of words.

use anyhow::{Result, ensure};
use ipc_ring::{Ring as _, channel};

use super::bytes::records;
use super::{PARTICIPANTS, nowhere};
use crate::measure::{Case, Measure, Values, over};
use crate::subject::{Side, Subject};
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

/// The subject.
pub struct Channel;

impl Subject for Channel {
    fn name(&self) -> &'static str {
        "channel"
    }

    fn side(&self) -> Side {
        Side::Ours
    }

    fn slots(&self, shape: &Shape) -> u64 {
        2 * records(shape)
    }

    fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
        over::<OverChannel>(what, case)
    }
}

/// What is sent: a value that is encoded and decoded.
type Value = Vec<u64>;

/// The transport.
pub(super) struct OverChannel(channel::Ring<Value>, Waiting);

impl Transport for OverChannel {
    type Tx = Sender;
    type Rx = Receiver;

    /// Values beyond the codec's limit are refused; and a value has up to ten bytes for each word.
    fn fits(shape: &Shape) -> bool {
        shape.is_pair() && shape.payload <= 65536
    }

    fn create(shape: &Shape) -> Result<Self> {
        let options = channel::Ring::options()
            .capacity(2 * shape.arena)
            .participants(PARTICIPANTS);
        Ok(Self(options.create(nowhere())?, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        let mut producer = self.0.rejoin()?.producer()?;
        let wait = self.1.ours().unwrap_or_default();
        producer.set_wait(wait);
        Ok(Sender(producer, Value::new()))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        let mut consumer = self.0.rejoin()?.consumer()?;
        let wait = self.1.ours().unwrap_or_default();
        consumer.set_wait(wait);
        Ok(Receiver(consumer))
    }
}

/// The sending end.
pub(super) struct Sender(channel::Producer<Value>, Value);

/// The receiving end.
pub(super) struct Receiver(channel::Consumer<Value>);

impl Tx for Sender {
    fn send(&mut self, message: &Words) -> Result<()> {
        self.1.clear();
        self.1.extend_from_slice(message);
        Ok(self.0.push(&self.1)?)
    }
}

impl Rx for Receiver {
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let value = self.0.pop()?;
        ensure!(value.len() == message.len(), "{} words", value.len());
        message.copy_from_slice(&value);
        Ok(())
    }
}
