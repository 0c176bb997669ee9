//! The rings of messages of one type: SPSC, MPMC and broadcast.

use anyhow::Result;
use ipc_core::Mapped;
use ipc_ring::broadcast::{self, Start};
use ipc_ring::side::{LendSide, ReceiveSide, SendSide};
use ipc_ring::{Consumer, PopError, Producer, PushError, Ring as _, mpmc, spsc};

use super::{PARTICIPANTS, nowhere};
use crate::measure::{Case, Measure, Values};
use crate::subject::{Side, Subject, Typed, over_typed};
use crate::transport::{Policy, Rx, Shape, Transport, Tx, Waiting, Words};

macro_rules! subject {
    ($subject:ident, $name:literal, $over:ident) => {
        /// The subject.
        pub struct $subject;

        impl Subject for $subject {
            fn name(&self) -> &'static str {
                $name
            }

            fn side(&self) -> Side {
                Side::Ours
            }

            fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
                over_typed::<Self>(what, case)
            }
        }

        impl Typed for $subject {
            type Of<const W: usize> = $over<W>;
        }
    };
}

subject!(Spsc, "spsc", OverSpsc);
subject!(Mpmc, "mpmc", OverMpmc);
subject!(Broadcast, "broadcast", OverBroadcast);

/// An SPSC ring.
pub struct OverSpsc<const W: usize>(spsc::Ring<[u64; W]>, Waiting);

impl<const W: usize> Transport for OverSpsc<W> {
    type Tx = Sender<W, spsc::Sender<Mapped>>;
    type Rx = Receiver<W, spsc::Receiver<Mapped>>;

    fn create(shape: &Shape) -> Result<Self> {
        let options = spsc::Ring::options().capacity(shape.capacity);
        Ok(Self(options.create(nowhere())?, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<Self::Tx> {
        Ok(Sender::new(self.0.rejoin()?.producer()?, self.1))
    }

    fn rx(&self, _: usize) -> Result<Self::Rx> {
        Ok(Receiver::new(self.0.rejoin()?.consumer()?, self.1))
    }
}

/// An MPMC ring.
pub struct OverMpmc<const W: usize>(mpmc::Ring<[u64; W]>, Waiting);

impl<const W: usize> Transport for OverMpmc<W> {
    type Tx = Sender<W, mpmc::Sender<Mapped>>;
    type Rx = Receiver<W, mpmc::Receiver<Mapped>>;

    fn fits(shape: &Shape) -> bool {
        shape.is_queue()
    }

    fn create(shape: &Shape) -> Result<Self> {
        let options = mpmc::Ring::options()
            .capacity(shape.capacity)
            .participants(PARTICIPANTS);
        Ok(Self(options.create(nowhere())?, shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<Self::Tx> {
        Ok(Sender::new(self.0.rejoin()?.producer()?, self.1))
    }

    fn rx(&self, _: usize) -> Result<Self::Rx> {
        Ok(Receiver::new(self.0.rejoin()?.consumer()?, self.1))
    }
}

/// A broadcast ring. A pair of processes uses it with one reader that gets everything.
pub struct OverBroadcast<const W: usize>(broadcast::Ring<[u64; W]>, Shape);

impl<const W: usize> Transport for OverBroadcast<W> {
    type Tx = Sender<W, broadcast::Sender<Mapped>>;
    type Rx = Reader<W>;

    fn fits(shape: &Shape) -> bool {
        shape.producers == 1 && (shape.policy.is_some() || shape.consumers == 1)
    }

    fn create(shape: &Shape) -> Result<Self> {
        let options = broadcast::Ring::options()
            .capacity(shape.capacity)
            .participants(PARTICIPANTS);
        Ok(Self(options.create(nowhere())?, *shape))
    }

    fn tx(&self, _: usize) -> Result<Self::Tx> {
        Ok(Sender::new(self.0.rejoin()?.producer()?, self.1.waiting))
    }

    fn rx(&self, _: usize) -> Result<Reader<W>> {
        let ring = self.0.rejoin()?;
        let waiting = self.1.waiting;
        // Nothing has been sent yet: the oldest message is the first one.
        Ok(match self.1.policy {
            None | Some(Policy::Lossless) => {
                Reader::Lossless(Receiver::new(ring.lossless(Start::Oldest)?, waiting))
            }
            Some(Policy::Lossy) => {
                Reader::Lossy(Receiver::new(ring.lossy(Start::Oldest)?, waiting))
            }
            Some(Policy::Latest) => Reader::Lossy(Receiver::new(ring.latest()?, waiting)),
        })
    }
}

/// The messages in some words.
fn typed<const W: usize>(words: &Words) -> &[[u64; W]] {
    words.as_chunks().0
}

fn typed_mut<const W: usize>(words: &mut Words) -> &mut [[u64; W]] {
    words.as_chunks_mut().0
}

/// From so many words on a message is lent to the calls, not moved through them.
const LARGE: usize = 32;

/// The sending end of any of them.
pub struct Sender<const W: usize, S: SendSide<Memory = Mapped>> {
    producer: Producer<[u64; W], S>,
    waiting: Waiting,
    waits: bool,
}

impl<const W: usize, S: SendSide<Memory = Mapped>> Sender<W, S> {
    fn new(mut producer: Producer<[u64; W], S>, waiting: Waiting) -> Self {
        let wait = waiting.ours();
        wait.into_iter().for_each(|wait| producer.set_wait(wait));
        Self {
            producer,
            waiting,
            waits: wait.is_some(),
        }
    }
}

impl<const W: usize, S: SendSide<Memory = Mapped>> Tx for Sender<W, S> {
    const IN_PLACE: bool = true;

    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        if W >= LARGE {
            let message = &typed(message)[..1];
            if self.waits {
                return Ok(self.producer.push_slice(message)?);
            }
            return Ok(self
                .waiting
                .until(|| match self.producer.try_push_slice(message) {
                    Ok(0) | Err(PushError::Full(())) => None,
                    done => Some(done.map(drop)),
                })?);
        }
        let message = typed(message)[0];
        if self.waits {
            return Ok(self
                .producer
                .push(message)
                .map_err(|error| error.map(drop))?);
        }
        Ok(self
            .waiting
            .until(|| match self.producer.try_push(message) {
                Err(PushError::Full(_)) => None,
                done => Some(done.map_err(|error| error.map(drop))),
            })?)
    }

    #[inline]
    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        Ok(self.producer.push_slice(typed(messages))?)
    }

    #[inline]
    fn send_in_place(&mut self, _: usize, fill: impl FnOnce(&mut Words)) -> Result<()> {
        let mut place = self.producer.reserve()?;
        #[allow(unsafe_code)]
        // SAFETY: all processes of the run use the ring by this crate alone, and so keep to its protocol.
        fill(unsafe { place.as_mut() });
        place.commit();
        Ok(())
    }
}

/// The receiving end of any of them.
pub struct Receiver<const W: usize, S: ReceiveSide<Memory = Mapped>> {
    consumer: Consumer<[u64; W], S>,
    waiting: Waiting,
    waits: bool,
    missed: u64,
}

impl<const W: usize, S: ReceiveSide<Memory = Mapped>> Receiver<W, S> {
    fn new(mut consumer: Consumer<[u64; W], S>, waiting: Waiting) -> Self {
        let wait = waiting.ours();
        wait.into_iter().for_each(|wait| consumer.set_wait(wait));
        Self {
            consumer,
            waiting,
            waits: wait.is_some(),
            missed: 0,
        }
    }

    #[inline]
    fn pop(&mut self, message: &mut Words) -> Result<()> {
        if W >= LARGE {
            return self.pop_large(&mut typed_mut(message)[..1]);
        }
        loop {
            let popped = if self.waits {
                self.consumer.pop()
            } else {
                self.waiting.until(|| match self.consumer.try_pop() {
                    Err(PopError::Empty | PopError::Pending(_)) => None,
                    done => Some(done),
                })
            };
            match popped {
                Err(PopError::Lagged(missed)) => self.missed += missed,
                popped => {
                    typed_mut(message)[0] = popped?;
                    return Ok(());
                }
            }
        }
    }
}

impl<const W: usize, S: ReceiveSide<Memory = Mapped>> Receiver<W, S> {
    fn pop_large(&mut self, message: &mut [[u64; W]]) -> Result<()> {
        loop {
            let popped = if self.waits {
                self.consumer.pop_into(message)
            } else {
                self.waiting
                    .until(|| match self.consumer.try_pop_into(message) {
                        Err(PopError::Empty | PopError::Pending(_)) => None,
                        done => Some(done),
                    })
            };
            match popped {
                Err(PopError::Lagged(missed)) => self.missed += missed,
                popped => return Ok(popped.map(drop)?),
            }
        }
    }
}

impl<const W: usize, S: LendSide<Memory = Mapped>> Rx for Receiver<W, S> {
    const IN_PLACE: bool = true;

    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        self.pop(message)
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        Ok(self.consumer.pop_into(typed_mut(messages))?)
    }

    #[inline]
    fn receive_in_place<T>(&mut self, look: impl FnOnce(&Words) -> T) -> Result<T> {
        let message = self.consumer.read()?;
        #[allow(unsafe_code)]
        // SAFETY: all processes of the run use the ring by this crate alone, and so keep to its protocol.
        Ok(look(unsafe { message.as_ref() }))
    }
}

/// A reader of a broadcast.
pub enum Reader<const W: usize> {
    /// One that the producer waits for.
    Lossless(Receiver<W, broadcast::Receiver<Mapped>>),
    /// One that it does not.
    Lossy(Receiver<W, broadcast::Watcher<Mapped>>),
}

impl<const W: usize> Rx for Reader<W> {
    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        match self {
            Self::Lossless(reader) => reader.pop(message),
            Self::Lossy(reader) => reader.pop(message),
        }
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, _: usize) -> Result<usize> {
        let messages = typed_mut(messages);
        Ok(match self {
            Self::Lossless(reader) => reader.consumer.pop_into(messages)?,
            Self::Lossy(reader) => reader.consumer.pop_into(messages)?,
        })
    }

    fn missed(&self) -> u64 {
        match self {
            Self::Lossless(reader) => reader.missed,
            Self::Lossy(reader) => reader.missed,
        }
    }
}
