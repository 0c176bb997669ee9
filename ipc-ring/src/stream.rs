//! Ends of rings as [`Stream`] and [`Sink`], for any executor (feature `futures`), and for tokio's own reactor (`tokio`).
//!
//! The one thread that turns wake-ups into descriptors calls the task's waker here. With the feature `tokio` there is
//! [`AsyncConsumer`] too, which waits on the descriptor, in tokio's epoll.
//!
//! # Safety
//!
//! A [`Readiness`](ipc_core::event::Readiness) has one descriptor, open for as long as it lives.
#![allow(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use futures_core::Stream;
use futures_sink::Sink;
use ipc_core::event::Slot;
use ipc_core::{Mapped, Message};

use crate::error::{PopError, PushError};
use crate::side::{ReceiveSide, SendSide};
use crate::{Consumer, Producer};

/// The messages of a ring as a stream. It ends when the ring is closed and empty; other errors are items, among them the
/// death of the producer, which is told within 100 ms, and after which messages of a new one may come.
#[derive(Debug)]
pub struct Messages<T, S: ReceiveSide> {
    consumer: Consumer<T, S>,
    slot: Slot,
}

impl<T: Message, S: ReceiveSide<Memory = Mapped>> Consumer<T, S> {
    /// The messages as a stream.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn into_stream(self) -> io::Result<Messages<T, S>> {
        Ok(Messages {
            consumer: self,
            slot: Slot::new()?,
        })
    }
}

impl<T, S: ReceiveSide> Messages<T, S> {
    /// The consumer again. Nothing is lost.
    pub fn into_inner(self) -> Consumer<T, S> {
        self.consumer
    }
}

// Nothing is pinned: no field is handed out as such.
impl<T, S: ReceiveSide> Unpin for Messages<T, S> {}

impl<T: Message, S: ReceiveSide<Memory = Mapped>> Stream for Messages<T, S> {
    type Item = Result<T, PopError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut popped = self.consumer.try_pop();
        if let Err(PopError::Empty | PopError::Pending(_)) = popped {
            self.slot
                .arm_waker(self.consumer.side().event(), context.waker().clone());
            // A message that came before the waker was armed is not told.
            popped = self.consumer.try_pop_or_tell();
        }
        match popped {
            Err(PopError::Empty | PopError::Pending(_)) => Poll::Pending,
            Err(PopError::Closed) => Poll::Ready(None),
            other => Poll::Ready(Some(other)),
        }
    }
}

/// A producer as a sink. Holds one message back while the ring is full; flush before it goes. The death of the consumer is
/// an error within 100 ms, which gives the message back.
pub struct Messenger<T, S: SendSide> {
    producer: Producer<T, S>,
    slot: Slot,
    held: Option<T>,
}

impl<T: Message, S: SendSide<Memory = Mapped>> Producer<T, S> {
    /// The producer as a sink.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn into_sink(self) -> io::Result<Messenger<T, S>> {
        Ok(Messenger {
            producer: self,
            slot: Slot::new()?,
            held: None,
        })
    }
}

impl<T, S: SendSide> Messenger<T, S> {
    /// The producer again, and the message that has not gone in.
    pub fn into_inner(self) -> (Producer<T, S>, Option<T>) {
        (self.producer, self.held)
    }
}

impl<T: Message, S: SendSide<Memory = Mapped>> Messenger<T, S> {
    fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PushError<T>>> {
        let Some(message) = self.held.take() else {
            return Poll::Ready(Ok(()));
        };
        let mut pushed = self.producer.try_push(message);
        if let Err(PushError::Full(message)) = pushed {
            self.slot
                .arm_waker(self.producer.side().event(), context.waker().clone());
            // Room that was made before the waker was armed is not told.
            pushed = self.producer.try_push_or_tell(message);
        }
        match pushed {
            Err(PushError::Full(message)) => {
                self.held = Some(message);
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }
}

impl<T, S: SendSide> Unpin for Messenger<T, S> {}

impl<T: Message, S: SendSide<Memory = Mapped>> Sink<T> for Messenger<T, S> {
    type Error = PushError<T>;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PushError<T>>> {
        self.poll_push(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: T) -> Result<(), PushError<T>> {
        assert!(self.held.is_none(), "start_send comes after poll_ready");
        self.held = Some(message);
        Ok(())
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PushError<T>>> {
        self.poll_push(context)
    }

    /// Flushes. Does not close the ring: others may produce as well.
    fn poll_close(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PushError<T>>> {
        self.poll_flush(context)
    }
}

impl<T, S: SendSide> fmt::Debug for Messenger<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger")
            .field("holds_one", &self.held.is_some())
            .finish_non_exhaustive()
    }
}

/// A consumer that waits in tokio's epoll.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub struct AsyncConsumer<T, S: ReceiveSide> {
    consumer: Consumer<T, S>,
    ready: tokio::io::unix::AsyncFd<ipc_core::event::Readiness>,
}

#[cfg(feature = "tokio")]
impl<T: Message, S: ReceiveSide<Memory = Mapped>> AsyncConsumer<T, S> {
    /// The consumer, on the reactor of the tokio runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor or no thread left.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn new(consumer: Consumer<T, S>) -> io::Result<Self> {
        let ready = ipc_core::event::Readiness::new()?;
        // SAFETY: it names one descriptor and keeps it open until it is dropped, as the file's head says.
        let ready = unsafe { tokio::io::unix::AsyncFd::register(ready) };
        Ok(Self {
            consumer,
            ready: ready.map_err(io::Error::from)?,
        })
    }

    /// Takes the next message, waiting for one. Cancel-safe: a message is taken only by the call that returns it.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_pop`], but for `Empty` and `Pending`; and [`PopError::PeerDead`] within 100 ms of the death.
    pub async fn pop(&mut self) -> Result<T, PopError> {
        loop {
            match self.consumer.try_pop_or_arm(self.ready.get_ref()) {
                Err(PopError::Empty | PopError::Pending(_)) => {}
                done => return done,
            }
            match self.ready.readable().await {
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is going away: nothing will ever come.
                Err(_) => return Err(PopError::Closed),
            }
        }
    }
}
