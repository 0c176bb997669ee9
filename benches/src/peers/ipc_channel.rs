//! ipc-channel: Unix sockets, and shared memory for what is large. Bytes, without an encoding.

use std::cell::Cell;

use anyhow::{Context, Result, ensure};
use ipc_channel::TryRecvError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel};

use super::peer;
use crate::measure::over;
use crate::transport::{Rx, Shape, Transport, Tx, Waiting, Words};

peer!(IpcChannel, "ipc-channel", "0.23.1", over::<Over>);

/// Both ends, until somebody takes his.
pub(super) struct Over {
    sender: IpcBytesSender,
    receiver: Cell<Option<IpcBytesReceiver>>,
    waiting: Waiting,
}

impl Transport for Over {
    type Tx = Sender;
    type Rx = Receiver;

    fn create(shape: &Shape) -> Result<Self> {
        let (sender, receiver) = bytes_channel()?;
        Ok(Self {
            sender,
            receiver: Cell::new(Some(receiver)),
            waiting: shape.waiting,
        })
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        Ok(Sender(self.sender.clone()))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        let receiver = self.receiver.take().context("there is one receiver")?;
        Ok(Receiver(receiver, self.waiting))
    }
}

pub(super) struct Sender(IpcBytesSender);

pub(super) struct Receiver(IpcBytesReceiver, Waiting);

impl Tx for Sender {
    fn send(&mut self, message: &Words) -> Result<()> {
        Ok(self.0.send(bytemuck::cast_slice(message))?)
    }
}

impl Rx for Receiver {
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let bytes = match self.1 {
            Waiting::Block | Waiting::Default => self.0.recv()?,
            waiting => waiting.until(|| match self.0.try_recv() {
                Err(TryRecvError::Empty) => None,
                done => Some(done),
            })?,
        };
        let into: &mut [u8] = bytemuck::cast_slice_mut(message);
        ensure!(bytes.len() == into.len(), "{} bytes", bytes.len());
        into.copy_from_slice(&bytes);
        Ok(())
    }
}
