//! Aeron: logs in shared memory by `aeron:ipc`, and a media driver that hands them out and tells publishers how far they may
//! go. The driver is a process of its own, in shared threading mode, which is what it advises where CPUs are few: it takes what
//! time it needs from the two of the pair. Publications are exclusive, and logs small, touched beforehand and in large fragments.
//!
//! # Safety
//!
//! The driver is forked while the run has one thread, as every process of it is.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use rusteron_client::{
    AeronContext, AeronExclusivePublication, AeronImage, AeronSubscription, Handlers,
};
use rusteron_media_driver::{AeronDriver, AeronDriverContext, bindings};

use super::peer;
use crate::measure::{Case, Measure, Values, over};
use crate::transport::{Policy, Rx, Shape, Transport, Tx, Waiting, Words};

peer!(Aeron, "aeron", "1.54.0 by rusteron-client 0.2.16", measure);

fn measure(what: Measure, case: &Case) -> Option<Result<Values>> {
    // What is longer than a fragment is cut into several, and so cannot be written in place.
    if what == Measure::InPlace && case.shape.payload > FRAGMENT {
        return None;
    }
    over::<Over>(what, case)
}

/// Bytes of a frame at most, the largest that are allowed, and what is left of them for the message.
const FRAME: usize = 65504;
const FRAGMENT: usize = FRAME - 32;

/// How long anything may take that is done by the driver.
const SOON: Duration = Duration::from_secs(5);

/// The driver's process, and the directory that it shares with its clients.
struct Driver {
    process: Pid,
    directory: String,
}

thread_local! {
    /// The one that is there: the transports of a run share it.
    static DRIVER: RefCell<Weak<Driver>> = const { RefCell::new(Weak::new()) };
}

impl Driver {
    /// The one that is there, or a new one.
    fn shared() -> Result<Rc<Self>> {
        let driver = DRIVER.with_borrow(Weak::upgrade);
        let driver = driver.map_or_else(|| Self::start().map(Rc::new), Ok)?;
        DRIVER.set(Rc::downgrade(&driver));
        Ok(driver)
    }

    fn start() -> Result<Self> {
        let here = getpid();
        let directory = format!("/dev/shm/ipc-bench-aeron-{here}");
        // SAFETY: this process has one thread, as `process::run` checks in each turn.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => Ok(Self {
                process: child,
                directory,
            }),
            ForkResult::Child => {
                let work = std::panic::AssertUnwindSafe(|| drive(&directory, here));
                if let Ok(Err(error)) = std::panic::catch_unwind(work) {
                    let _ = writeln!(std::io::stderr(), "the media driver failed: {error:#}");
                }
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(1) }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = waitpid(self.process, None);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Serves clients until the parent is gone.
fn drive(directory: &str, parent: Pid) -> Result<Infallible> {
    let context = AeronDriverContext::new()?;
    context.set_dir(&CString::new(directory)?)?;
    context.set_dir_delete_on_start(true)?;
    context.set_threading_mode(bindings::aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED)?;
    context.set_term_buffer_sparse_file(false)?;
    context.set_ipc_mtu_length(FRAME)?;
    let driver = AeronDriver::new(&context)?;
    driver.start(true)?;
    while getppid() == parent {
        driver.main_idle_strategy(driver.main_do_work()?);
    }
    fs::remove_dir_all(directory)?;
    anyhow::bail!("the run has gone")
}

/// A stream of a driver.
pub(super) struct Over {
    driver: Rc<Driver>,
    stream: i32,
    shape: Shape,
}

impl Over {
    fn client(&self) -> Result<rusteron_client::Aeron> {
        // The driver, which has just been started, writes this file when it is ready.
        let ready = Path::new(&self.driver.directory).join("cnc.dat");
        within(|| ready.exists().then_some(()))?;
        let context = AeronContext::new()?;
        context.set_dir(&CString::new(self.driver.directory.as_str())?)?;
        context.set_pre_touch_mapped_memory(true)?;
        let client = rusteron_client::Aeron::new(&context)?;
        client.start()?;
        Ok(client)
    }

    /// A log that the caches can hold and that messages fit in, which may be an eighth of a term.
    fn channel(&self) -> Result<CString> {
        let term = (8 * self.shape.payload).next_power_of_two().max(4 << 20);
        Ok(CString::new(format!("aeron:ipc?term-length={term}"))?)
    }
}

/// What there is after a while.
fn within<T>(mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return Ok(found);
        }
        ensure!(start.elapsed() < SOON, "the media driver does not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Transport for Over {
    type Tx = Sender;
    type Rx = Receiver;

    fn fits(shape: &Shape) -> bool {
        let alone = shape.producers == 1
            && (shape.consumers == 1 && shape.policy.is_none()
                || shape.policy == Some(Policy::Lossless));
        alone && matches!(shape.waiting, Waiting::Poll | Waiting::Share)
    }

    fn create(shape: &Shape) -> Result<Self> {
        static STREAM: AtomicI32 = AtomicI32::new(1);
        Ok(Self {
            driver: Driver::shared()?,
            stream: STREAM.fetch_add(1, Ordering::Relaxed),
            shape: *shape,
        })
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        let client = self.client()?;
        let publication = client
            .async_add_exclusive_publication(&self.channel()?, self.stream)?
            .poll_blocking(SOON)?;
        Ok(Sender(publication, self.shape.waiting))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        let client = self.client()?;
        let subscription = client
            .async_add_subscription(c"aeron:ipc", self.stream, Handlers::NONE, Handlers::NONE)?
            .poll_blocking(SOON)?;
        let image = within(|| subscription.image_at_index(0))?;
        Ok(Receiver(image, self.shape.waiting, subscription))
    }
}

/// A publication, which keeps its client.
pub(super) struct Sender(AeronExclusivePublication, Waiting);

/// Dropped in this order: the image before its subscription, which keeps the client.
pub(super) struct Receiver(AeronImage, Waiting, #[allow(dead_code)] AeronSubscription);

impl Tx for Sender {
    const IN_PLACE: bool = true;

    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let bytes = bytemuck::must_cast_slice(message);
        let sent = self.1.until(|| match self.0.offer(bytes) {
            Err(error) if error.is_retryable() => None,
            done => Some(done),
        });
        sent?;
        Ok(())
    }

    #[inline]
    fn send_in_place(&mut self, words: usize, fill: impl FnOnce(&mut Words)) -> Result<()> {
        let claim = self.1.until(|| match self.0.try_claim_owned(words * 8) {
            Err(error) if error.is_retryable() => None,
            done => Some(done),
        });
        let mut claim = claim?;
        fill(bytemuck::cast_slice_mut(claim.data()));
        claim.commit()?;
        Ok(())
    }
}

impl Receiver {
    /// Fills `bytes` with fragments, as many as they are sent in, and then tells how many bytes these had: all, or
    /// whole messages of `size` bytes that are there.
    #[inline]
    fn fill(&mut self, bytes: &mut [u8], size: usize) -> Result<usize> {
        let mut at = 0_usize;
        while at == 0 || !at.is_multiple_of(size) {
            let left = if size <= FRAGMENT {
                (bytes.len() - at) / size
            } else {
                (size - at).div_ceil(FRAGMENT)
            };
            let polled = self.1.until(|| {
                let take = |fragment: &[u8], _| {
                    if let Some(place) = bytes.get_mut(at..at + fragment.len()) {
                        place.copy_from_slice(fragment);
                    }
                    at += fragment.len();
                };
                match self.0.poll_fn(take, left) {
                    Ok(0) => None,
                    done => Some(done),
                }
            });
            polled?;
            ensure!(at <= bytes.len(), "{at} bytes instead of {}", bytes.len());
        }
        Ok(at)
    }
}

impl Rx for Receiver {
    const IN_PLACE: bool = true;

    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let bytes = bytemuck::must_cast_slice_mut(message);
        let size = bytes.len();
        self.fill(bytes, size).map(drop)
    }

    #[inline]
    fn receive_batch(&mut self, messages: &mut Words, size: usize) -> Result<usize> {
        let size = size * 8;
        Ok(self.fill(bytemuck::must_cast_slice_mut(messages), size)? / size)
    }

    #[inline]
    fn receive_in_place<T>(&mut self, look: impl FnOnce(&Words) -> T) -> Result<T> {
        let (mut look, mut seen) = (Some(look), None);
        while seen.is_none() {
            let polled = self.1.until(|| {
                let take = |message: &[u8], _| {
                    seen = look.take().map(|look| look(bytemuck::cast_slice(message)));
                };
                match self.0.poll_fn(take, 1) {
                    Ok(0) => None,
                    done => Some(done),
                }
            });
            polled?;
        }
        seen.context("nothing came")
    }
}
