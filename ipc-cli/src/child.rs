//! Child processes that never outlive their parent.
//!
//! # Safety
//!
//! `fork` is called while the process has one thread: nothing here or in its callers starts one before, and a child
//! may therefore do whatever its parent could.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::ended::{self, Ended};

/// A child process; killed and waited for on drop.
#[derive(Debug)]
pub(crate) struct Child {
    /// What it is for, in messages.
    pub(crate) role: &'static str,
    pid: Pid,
    /// Readable once it has ended.
    end: OwnedFd,
    report: Option<OwnedFd>,
    ended: Option<WaitStatus>,
}

impl Child {
    /// Forks a child that does `work`, reports the result to its parent and ends. The kernel kills it when its parent
    /// dies.
    pub(crate) fn start<R: Serialize>(
        role: &'static str,
        work: impl FnOnce() -> Result<R>,
    ) -> Result<Self> {
        ensure!(threads()? == 1, "a process with threads cannot be forked");
        let (report, to_parent) = pipe_with(PipeFlags::CLOEXEC)?;
        let parent = getpid();
        // SAFETY: this process has a single thread, as was just checked.
        match unsafe { fork() }.context("cannot start a process")? {
            ForkResult::Parent { child } => {
                let pid = Pid::from_raw(child.as_raw()).context("a child has a process id")?;
                Ok(Self {
                    role,
                    pid,
                    end: pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a process")?,
                    report: Some(report),
                    ended: None,
                })
            }
            ForkResult::Child => {
                // Nothing of the parent's may be dropped here: leave by `exit` alone, even after a panic.
                let end = catch_unwind(AssertUnwindSafe(|| {
                    drop(report);
                    live_no_longer_than(parent)?;
                    let result = work().map_err(|error| ended::line(&error));
                    std::fs::File::from(to_parent).write_all(&serde_json::to_vec(&result)?)?;
                    anyhow::Ok(result.is_ok())
                }));
                std::process::exit(if matches!(end, Ok(Ok(true))) { 0 } else { 1 });
            }
        }
    }

    /// Whether it has ended, however it did.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = waitpid(Some(self.pid), WaitOptions::NOHANG)?.map(|(_, status)| status);
        }
        Ok(self.ended.is_some())
    }

    /// Whether it is known to have ended with anything but success.
    pub(crate) fn has_failed(&self) -> bool {
        self.ended
            .is_some_and(|status| status.exit_status() != Some(0))
    }

    /// Waits until one of those that are not known to have ended does, a signal comes, or the time is over.
    pub(crate) fn wait_for_any(children: &[&Self], at_most: Duration) -> Result<()> {
        let running = children.iter().filter(|child| child.ended.is_none());
        let mut ends: Vec<_> = running
            .map(|child| PollFd::new(&child.end, PollFlags::IN))
            .collect();
        match poll(&mut ends, Some(&Timespec::try_from(at_most)?)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error)).context("cannot wait for a process"),
        }
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(self.pid, Signal::KILL);
            self.ended = waitpid(Some(self.pid), WaitOptions::empty())
                .ok()
                .flatten()
                .map(|(_, status)| status);
        }
    }

    /// What came of its work; waits for it. Asked for once.
    pub(crate) fn report<R: DeserializeOwned>(&mut self) -> Result<R> {
        let mut text = Vec::new();
        let pipe = self.report.take().context("a child reports once")?;
        std::fs::File::from(pipe).read_to_end(&mut text)?;
        if self.ended.is_none() {
            self.ended = waitpid(Some(self.pid), WaitOptions::empty())?.map(|(_, status)| status);
        }
        let how = match self.ended.and_then(WaitStatus::terminating_signal) {
            Some(signal) => format!("was killed by signal {signal}"),
            None => "ended without a report".to_owned(),
        };
        let result: Result<R, String> = serde_json::from_slice(&text)
            .map_err(|_| Ended::PeerDead(format!("the {} process {how}", self.role)))?;
        result.map_err(|error| anyhow!("the {}: {error}", self.role))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has the kernel kill this process when its parent dies, also if it did so just now.
fn live_no_longer_than(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        std::process::exit(1);
    }
    Ok(())
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
