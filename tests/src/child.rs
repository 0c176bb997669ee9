//! Forked children of a test, none of which outlives it.
//!
//! # Safety
//!
//! `fork` in a process with threads leaves the child with one thread and with whatever locks the others held. The
//! children here run the code under test and leave by `_exit`; the C library keeps its allocator usable after `fork`, and
//! the libraries under test take no lock that a lost thread may hold.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// How long a child may take. Only a test that fails takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A forked child. Killed and reaped on drop.
#[derive(Debug)]
pub struct Child {
    pid: Option<Pid>,
}

impl Child {
    /// Runs `work` in a child. A panic makes the child fail.
    pub fn run(work: impl FnOnce()) -> Self {
        // SAFETY: the head of this file says what the child does, and why it may.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Self { pid: Some(child) },
            ForkResult::Child => {
                let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
                // SAFETY: `_exit` is always allowed.
                unsafe { nix::libc::_exit(i32::from(failed)) }
            }
        }
    }

    /// Waits until the child is done.
    ///
    /// # Panics
    ///
    /// If it failed, or takes for ever.
    pub fn join(mut self) {
        let status = self.reap();
        assert!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "the child ended as {status:?}"
        );
    }

    /// Kills the child, and waits until the kernel has let go of everything that it held.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.reap();
        assert!(
            matches!(
                status,
                WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 0)
            ),
            "the child ended as {status:?}"
        );
    }

    /// Waits until the child has been killed: by itself, at the moment that the test is about.
    ///
    /// # Panics
    ///
    /// If it ended in another way, or takes for ever.
    pub fn join_killed(mut self) {
        let status = self.reap();
        assert!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
            "the child ended as {status:?}"
        );
    }

    /// Sends the child a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            kill(pid, signal).expect("a child that has not been reaped can be signalled");
        }
    }

    fn reap(&mut self) -> WaitStatus {
        let pid = self.pid.expect("reaped once");
        let start = Instant::now();
        loop {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)).expect("our child") {
                WaitStatus::StillAlive if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                WaitStatus::StillAlive => panic!("a child is still at it after {PATIENCE:?}"),
                status => {
                    self.pid = None;
                    return status;
                }
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}
