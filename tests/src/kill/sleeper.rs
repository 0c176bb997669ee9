//! A survivor that sleeps in a call until something is published.
//!
//! # Safety
//!
//! The handler of the signal that nudges a sleeper does nothing at all.
#![allow(unsafe_code)]

use std::os::unix::thread::JoinHandleExt;
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;

/// How soon a sleeper must be back once what it waits for is there.
pub const IN_TIME: Duration = Duration::from_millis(150);

/// A sleeper did not come back in time: it was not woken, or the machine was busy.
#[derive(Debug, thiserror::Error)]
#[error("a sleeper is not back after {IN_TIME:?}")]
pub struct TooLate;

/// A thread that waits.
#[derive(Debug)]
pub struct Sleeper<T> {
    thread: JoinHandle<()>,
    result: Receiver<T>,
}

impl<T: Send + 'static> Sleeper<T> {
    /// Starts a thread that does `wait`, and returns when it sleeps.
    pub fn start(wait: impl FnOnce() -> T + Send + 'static) -> Result<Self> {
        let (tell_thread, thread_is) = channel();
        let (tell_result, result) = channel();
        let thread = std::thread::spawn(move || {
            let _ = tell_thread.send(gettid());
            let _ = tell_result.send(wait());
        });
        let id = thread_is.recv()?;
        let until = Instant::now() + Duration::from_secs(5);
        while !is_asleep(id.as_raw())? {
            ensure!(Instant::now() < until, "a survivor does not fall asleep");
            std::thread::yield_now();
        }
        Ok(Self { thread, result })
    }

    /// What it waited for. With `unaided`, it must come back by itself; otherwise it is nudged, so that nothing is
    /// waited for but the code.
    pub fn wake(self, unaided: bool) -> Result<T> {
        if !unaided {
            install_handler();
        }
        let until = Instant::now() + IN_TIME;
        loop {
            if !unaided {
                pthread_kill(self.thread.as_pthread_t(), Signal::SIGUSR2)?;
            }
            let turn = if unaided {
                IN_TIME
            } else {
                Duration::from_micros(500)
            };
            match self.result.recv_timeout(turn) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(Instant::now() < until, TooLate);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow::anyhow!("a survivor panicked"));
                }
            }
        }
    }
}

/// Whether the thread sleeps on a word, or on one of several.
fn is_asleep(id: i32) -> Result<bool> {
    let path = format!("/proc/self/task/{id}/syscall");
    let line = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let calls = [nix::libc::SYS_futex, nix::libc::SYS_futex_waitv];
    Ok(calls
        .iter()
        .any(|call| line.starts_with(&format!("{call} "))))
}

extern "C" fn do_nothing(_: i32) {}

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction::new(
            SigHandler::Handler(do_nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing, and the signal has no other use in this program.
        let _ = unsafe { sigaction(Signal::SIGUSR2, &action) };
    });
}
