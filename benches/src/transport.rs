//! What is measured: a way to get messages from some processes to others.
//!
//! A [`Transport`] is made in the parent, before the processes exist, and each process takes its end from it afterwards. The
//! loops that measure are generic, so that nothing stands between them and the code under test.

use anyhow::{Result, bail};
use ipc_core::event::Wait;

/// The words of a message: the first one is its number, the others are known.
pub type Words = [u64];

/// A way to get messages of a fixed size from producers to consumers.
pub trait Transport: Sized {
    /// The end that messages go in at.
    type Tx: Tx;
    /// The end that they come out at.
    type Rx: Rx;

    /// Whether it can serve at all: one producer and one consumer of any message, if not said otherwise.
    fn fits(shape: &Shape) -> bool {
        shape.is_pair()
    }

    /// Makes one in the parent.
    fn create(shape: &Shape) -> Result<Self>;

    /// Takes a sending end, in the process that sends: the one of that number among those that do.
    fn tx(&self, index: usize) -> Result<Self::Tx>;

    /// Takes a receiving end, in the process that receives: the one of that number among those that do.
    fn rx(&self, index: usize) -> Result<Self::Rx>;
}

/// What a transport is made for.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a message, a multiple of 8.
    pub payload: usize,
    /// Messages that fit in at least.
    pub capacity: usize,
    /// Bytes of the arena, where messages have any length.
    pub arena: usize,
    /// How both ends wait.
    pub waiting: Waiting,
    /// Processes that send.
    pub producers: usize,
    /// Processes that receive.
    pub consumers: usize,
    /// Whether each message goes to every consumer, and whether they may miss some; else it goes to one of them.
    pub policy: Option<Policy>,
}

impl Shape {
    /// Whether one process sends to one.
    pub fn is_pair(&self) -> bool {
        (self.producers, self.consumers, self.policy) == (1, 1, None)
    }

    /// Whether each message is to go to one consumer.
    pub fn is_queue(&self) -> bool {
        self.policy.is_none()
    }
}

/// What readers of a broadcast get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everything; the producer waits for them.
    Lossless,
    /// What they come in time for, and how many they have missed.
    Lossy,
    /// The newest message each time.
    Latest,
}

/// How both ends wait, whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Polls with one pause each: every process has a CPU of its own.
    Poll,
    /// Polls as long as a wake-up takes, about 25 microseconds, then gives the CPU away: processes share it.
    Share,
    /// Sleeps in the kernel.
    Block,
    /// What it does by itself.
    Default,
}

impl Waiting {
    /// Polls between two times that the CPU is given away.
    const POLLS: u32 = 1024;

    /// Repeats an attempt until it gives something.
    #[inline]
    pub fn until<T>(self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let mut polls = 0_u32;
        loop {
            if let Some(got) = attempt() {
                return got;
            }
            polls = polls.wrapping_add(1);
            if self != Self::Poll && polls.is_multiple_of(Self::POLLS) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// The same for this project's rings, if they are to wait by themselves.
    pub fn ours(self) -> Option<Wait> {
        match self {
            Self::Poll => Some(Wait::Spin),
            Self::Share => None,
            Self::Block => Some(Wait::Block),
            Self::Default => Some(Wait::Adaptive),
        }
    }
}

/// The end that messages go in at.
pub trait Tx {
    /// Whether messages can be written where they lie.
    const IN_PLACE: bool = false;

    /// Sends one message, waiting for room.
    fn send(&mut self, message: &Words) -> Result<()>;

    /// Sends several messages that lie one behind the other. One by one, where there is no better way.
    fn send_batch(&mut self, messages: &Words, size: usize) -> Result<()> {
        messages
            .chunks_exact(size)
            .try_for_each(|message| self.send(message))
    }

    /// Sends a message of so many words that `fill` writes where it lies.
    fn send_in_place(&mut self, words: usize, fill: impl FnOnce(&mut Words)) -> Result<()> {
        let _ = (words, fill);
        bail!("it cannot be written in place")
    }
}

/// The end that messages come out at.
pub trait Rx {
    /// Whether messages can be read where they lie.
    const IN_PLACE: bool = false;

    /// Receives one message, waiting for it.
    fn receive(&mut self, message: &mut Words) -> Result<()>;

    /// Receives one message if there is one. An end that cannot tell waits for it.
    fn try_receive(&mut self, message: &mut Words) -> Result<bool> {
        self.receive(message).map(|()| true)
    }

    /// Receives at least one message and as many as are ready and fit; tells how many.
    fn receive_batch(&mut self, messages: &mut Words, size: usize) -> Result<usize> {
        self.receive(&mut messages[..size])?;
        Ok(1)
    }

    /// Shows a message where it lies.
    fn receive_in_place<T>(&mut self, look: impl FnOnce(&Words) -> T) -> Result<T> {
        let _ = look;
        bail!("it cannot be read in place")
    }

    /// Messages that were overwritten before this end came to them.
    fn missed(&self) -> u64 {
        0
    }
}
