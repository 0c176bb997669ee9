//! The kernel's own ways: pipes, Unix sockets and POSIX message queues.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use ipc_core::event::Wait;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

use crate::measure::{Case, Latency, ping_pong, stream};
use crate::subject::{Side, Subject};
use crate::transport::{Rx, Shape, Transport, Tx, Words};

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

            fn stream(&self, case: &Case) -> Option<Result<f64>> {
                <$transport>::fits(case).then(|| stream::<$transport>(case))
            }

            fn ping_pong(&self, case: &Case) -> Option<Result<Latency>> {
                <$transport>::fits(case).then(|| ping_pong::<$transport>(case))
            }
        }
    };
}

subject!(Pipe, "pipe", Pair<false>);
subject!(UnixSocket, "unix-socket", Pair<true>);
subject!(PosixMq, "posix-mq", Queue);

/// Two descriptors, of a pipe or of sockets.
pub struct Pair<const SOCKET: bool> {
    read: OwnedFd,
    write: OwnedFd,
}

impl<const SOCKET: bool> Pair<SOCKET> {
    fn fits(_: &Case) -> bool {
        true
    }
}

impl<const SOCKET: bool> Transport for Pair<SOCKET> {
    type Tx = Stream;
    type Rx = Stream;

    fn create(shape: &Shape) -> Result<Self> {
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
            rustix::pipe::fcntl_setpipe_size(&write, 1 << 20)
                .context("cannot enlarge the pipe to 1 MiB")?;
            (read, write)
        };
        if shape.wait == Wait::Spin {
            rustix::io::ioctl_fionbio(&read, true)?;
            rustix::io::ioctl_fionbio(&write, true)?;
        }
        Ok(Self { read, write })
    }

    fn tx(&self) -> Result<Stream> {
        Ok(Stream(self.write.try_clone()?.into()))
    }

    fn rx(&self) -> Result<Stream> {
        Ok(Stream(self.read.try_clone()?.into()))
    }
}

/// One end of a stream of bytes. Polls where the descriptor does not block.
pub struct Stream(File);

impl Stream {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let got = polled(|| self.0.read(bytes))?;
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
}

/// Repeats a call for as long as it would have blocked.
fn polled<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            other => return other,
        }
    }
}

impl Tx for Stream {
    fn send(&mut self, message: &Words) -> Result<()> {
        let mut bytes: &[u8] = bytemuck::cast_slice(message);
        while !bytes.is_empty() {
            let put = polled(|| self.0.write(bytes))?;
            bytes = &bytes[put..];
        }
        Ok(())
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
pub struct Queue(Rc<Descriptor>);

/// Closed with its last user.
struct Descriptor(Option<MqdT>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        let _ = self.0.take().map(mq_close);
    }
}

impl Queue {
    /// The kernel's default limits allow ten messages of 8 KiB.
    fn fits(case: &Case) -> bool {
        case.shape.payload <= 8192
    }
}

impl Transport for Queue {
    type Tx = QueueEnd;
    type Rx = QueueEnd;

    fn create(shape: &Shape) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = std::ffi::CString::new(format!("/ipc-bench-{}-{number}", std::process::id()))?;
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        let flags = if shape.wait == Wait::Spin {
            flags | MQ_OFlag::O_NONBLOCK
        } else {
            flags
        };
        let attributes = MqAttr::new(0, 10, shape.payload as _, 0);
        let queue = mq_open(
            name.as_c_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
            Some(&attributes),
        )
        .context("cannot create a POSIX message queue")?;
        mq_unlink(name.as_c_str())?;
        Ok(Self(Rc::new(Descriptor(Some(queue)))))
    }

    fn tx(&self) -> Result<QueueEnd> {
        Ok(QueueEnd(self.0.clone()))
    }

    fn rx(&self) -> Result<QueueEnd> {
        self.tx()
    }
}

/// One end of a message queue.
pub struct QueueEnd(Rc<Descriptor>);

impl QueueEnd {
    fn queue(&self) -> Result<&MqdT> {
        self.0.0.as_ref().context("the queue is closed")
    }
}

impl Tx for QueueEnd {
    fn send(&mut self, message: &Words) -> Result<()> {
        let queue = self.queue()?;
        Ok(polled(|| {
            Ok(mq_send(queue, bytemuck::cast_slice(message), 0)?)
        })?)
    }
}

impl Rx for QueueEnd {
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(message);
        let (expected, mut priority) = (bytes.len(), 0);
        let queue = self.queue()?;
        let got = polled(|| Ok(mq_receive(queue, bytes, &mut priority)?))?;
        ensure!(
            got == expected,
            "a message of {got} bytes instead of {expected}"
        );
        Ok(())
    }
}
