//! What is measured: a way to get messages from one process to another.
//!
//! A [`Transport`] is made in the parent, before the processes exist, and each process takes its end from it afterwards. The
//! loops that measure are generic, so that nothing stands between them and the code under test.

use anyhow::Result;

/// The words of a message that carry its number and its check; the rest is derived from the number.
pub type Words = [u64];

/// A way to get messages of a fixed size from producers to consumers.
pub trait Transport: Sized {
    /// The end that messages go in at.
    type Tx: Tx;
    /// The end that they come out at.
    type Rx: Rx;

    /// Makes one in the parent.
    fn create(shape: &Shape) -> Result<Self>;

    /// Takes the sending end, in the process that sends.
    fn tx(&self) -> Result<Self::Tx>;

    /// Takes the receiving end, in the process that receives.
    fn rx(&self) -> Result<Self::Rx>;
}

/// What a transport is made for.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a message, a multiple of 8.
    pub payload: usize,
    /// Messages that fit in at least.
    pub capacity: usize,
    /// How both ends wait.
    pub wait: ipc_core::event::Wait,
}

/// The end that messages go in at.
pub trait Tx {
    /// Sends one message, waiting for room.
    fn send(&mut self, message: &Words) -> Result<()>;

    /// Sends several messages that lie one behind the other. One by one, where there is no better way.
    fn send_batch(&mut self, messages: &Words, size: usize) -> Result<()> {
        messages
            .chunks_exact(size)
            .try_for_each(|message| self.send(message))
    }
}

/// The end that messages come out at.
pub trait Rx {
    /// Receives one message, waiting for it.
    fn receive(&mut self, message: &mut Words) -> Result<()>;

    /// Receives at least one message and as many as are ready and fit; tells how many.
    fn receive_batch(&mut self, messages: &mut Words, size: usize) -> Result<usize> {
        self.receive(&mut messages[..size])?;
        Ok(1)
    }
}
