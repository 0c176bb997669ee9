//! The kernel's own ways: pipes, Unix sockets and POSIX message queues.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

use crate::measure::{Case, Measure, Values, over};
use crate::subject::{Side, Subject};
use crate::transport::{Policy, Rx, Shape, Transport, Tx, Waiting, Words};

/// A pipe.
pub struct Pipe;

/// A pair of connected stream sockets.
pub struct UnixSocket;

/// A POSIX message queue.
pub struct PosixMq;

macro_rules! subject {
    ($subject:ty, $name:literal, $transport:ty) => {
        impl Subject for $subject {
            fn name(&self) -> &'static str {
                $name
            }

            fn side(&self) -> Side {
                Side::Peer
            }

            fn measure(&self, what: Measure, case: &Case) -> Option<Result<Values>> {
                over::<$transport>(what, case)
            }
        }
    };
}

subject!(Pipe, "pipe", Pairs<false>);
subject!(UnixSocket, "unix-socket", Pairs<true>);
subject!(PosixMq, "posix-mq", Queue);

/// Two descriptors, of a pipe or of sockets; of a broadcast, two for each reader.
pub struct Pairs<const SOCKET: bool> {
    pairs: Vec<(OwnedFd, OwnedFd)>,
    waiting: Waiting,
    together: bool,
}

/// Bytes that a pipe takes or gives as a whole.
const WHOLE: usize = 4096;

impl<const SOCKET: bool> Transport for Pairs<SOCKET> {
    type Tx = Streams;
    type Rx = Stream;

    fn fits(shape: &Shape) -> bool {
        match shape.policy {
            // Several may share a pipe where a message is written and read as a whole. A socket could be cut anywhere.
            None => shape.is_pair() || !SOCKET && shape.payload == 8,
            policy => policy == Some(Policy::Lossless),
        }
    }

    fn create(shape: &Shape) -> Result<Self> {
        let count = match shape.policy {
            None => 1,
            Some(_) => shape.consumers,
        };
        let pairs = (0..count).map(|_| pair::<SOCKET>(shape.waiting));
        Ok(Self {
            pairs: pairs.collect::<Result<_>>()?,
            waiting: shape.waiting,
            together: !shape.is_pair() && shape.is_queue() && shape.payload <= WHOLE,
        })
    }

    fn tx(&self, _: usize) -> Result<Streams> {
        let streams = self.pairs.iter().map(|(_, write)| self.stream(write));
        Ok(Streams(streams.collect::<Result<_>>()?))
    }

    fn rx(&self, index: usize) -> Result<Stream> {
        let mine = if self.together { 0 } else { index };
        self.stream(&self.pairs[mine].0)
    }
}

impl<const SOCKET: bool> Pairs<SOCKET> {
    fn stream(&self, descriptor: &OwnedFd) -> Result<Stream> {
        Ok(Stream {
            file: descriptor.try_clone()?.into(),
            waiting: self.waiting,
        })
    }
}

/// The end to read from, and the one to write to.
fn pair<const SOCKET: bool>(waiting: Waiting) -> Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
    let (read, write) = if SOCKET {
        let (read, write) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_send_buffer_size(&write, 1 << 20)?;
        (read, write)
    } else {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Larger is faster; but what all pipes of a user may have together is limited.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
        (read, write)
    };
    if matches!(waiting, Waiting::Poll | Waiting::Share) {
        rustix::io::ioctl_fionbio(&read, true)?;
        rustix::io::ioctl_fionbio(&write, true)?;
    }
    Ok((read, write))
}

/// One end of a stream of bytes. Polls where the descriptor does not block.
pub struct Stream {
    file: File,
    waiting: Waiting,
}

impl Stream {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let got = polled(self.waiting, || self.file.read(bytes))?;
        ensure!(got > 0, "the stream ended");
        Ok(got)
    }

    fn read_exact(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let got = self.read(bytes)?;
            bytes = &mut bytes[got..];
        }
        Ok(())
    }

    fn write(&mut self, message: &Words) -> Result<()> {
        let mut bytes: &[u8] = bytemuck::cast_slice(message);
        while !bytes.is_empty() {
            let put = polled(self.waiting, || self.file.write(bytes))?;
            bytes = &bytes[put..];
        }
        Ok(())
    }
}

/// Repeats a call for as long as it would have blocked.
fn polled<T>(waiting: Waiting, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    waiting.until(|| match call() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        other => Some(other),
    })
}

/// The end to write to, of each reader.
pub struct Streams(Vec<Stream>);

impl Tx for Streams {
    fn send(&mut self, message: &Words) -> Result<()> {
        self.0
            .iter_mut()
            .try_for_each(|stream| stream.write(message))
    }

    fn send_batch(&mut self, messages: &Words, _: usize) -> Result<()> {
        self.send(messages)
    }
}

impl Rx for Stream {
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        self.read_exact(bytemuck::cast_slice_mut(message))
    }

    fn receive_batch(&mut self, messages: &mut Words, size: usize) -> Result<usize> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(messages);
        let got = self.read(bytes)?;
        // A read may end within a message; the rest of it is on its way.
        let whole = got.next_multiple_of(size * 8);
        self.read_exact(&mut bytes[got..whole])?;
        Ok(whole / (size * 8))
    }
}

/// A message queue; its name is gone as soon as it is open.
pub struct Queue(Rc<Descriptor>, Waiting);

/// Bytes that the queues of a user may take by default, of two queues each; and what a message takes beside its bytes.
const QUEUES: usize = 819_200 / 2;
const OVERHEAD: usize = 128;

/// Closed with its last user.
struct Descriptor(Option<MqdT>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        let _ = self.0.take().map(mq_close);
    }
}

impl Transport for Queue {
    type Tx = QueueEnd;
    type Rx = QueueEnd;

    /// The kernel's default limits allow messages of 8 KiB, and ten of them to those without privileges.
    fn fits(shape: &Shape) -> bool {
        shape.is_queue() && shape.payload <= 8192
    }

    fn create(shape: &Shape) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = std::ffi::CString::new(format!("/ipc-bench-{}-{number}", std::process::id()))?;
        let mut flags =
            MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        if matches!(shape.waiting, Waiting::Poll | Waiting::Share) {
            flags |= MQ_OFlag::O_NONBLOCK;
        }
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let open = |messages: usize| {
            let attributes = MqAttr::new(0, messages as _, shape.payload as _, 0);
            mq_open(name.as_c_str(), flags, mode, Some(&attributes))
        };
        // As many messages as ours, where the limits of the machine allow that.
        let most = (QUEUES / (shape.payload + OVERHEAD)).min(shape.capacity);
        let queue = open(most)
            .or_else(|_| open(10))
            .context("cannot create a POSIX message queue")?;
        mq_unlink(name.as_c_str())?;
        Ok(Self(Rc::new(Descriptor(Some(queue))), shape.waiting))
    }

    fn tx(&self, _: usize) -> Result<QueueEnd> {
        Ok(QueueEnd(self.0.clone(), self.1))
    }

    fn rx(&self, index: usize) -> Result<QueueEnd> {
        self.tx(index)
    }
}

/// One end of a message queue.
pub struct QueueEnd(Rc<Descriptor>, Waiting);

impl QueueEnd {
    fn queue(&self) -> Result<&MqdT> {
        self.0.0.as_ref().context("the queue is closed")
    }
}

impl Tx for QueueEnd {
    fn send(&mut self, message: &Words) -> Result<()> {
        let queue = self.queue()?;
        let bytes = bytemuck::cast_slice(message);
        Ok(polled(self.1, || Ok(mq_send(queue, bytes, 0)?))?)
    }
}

impl Rx for QueueEnd {
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(message);
        let (expected, mut priority) = (bytes.len(), 0);
        let queue = self.queue()?;
        let got = polled(self.1, || Ok(mq_receive(queue, bytes, &mut priority)?))?;
        ensure!(
            got == expected,
            "a message of {got} bytes instead of {expected}"
        );
        Ok(())
    }
}
