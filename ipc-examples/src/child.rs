//! A forked child that runs a closure.
//!
//! # Safety
//!
//! The child runs ordinary code, which is allowed because the examples that fork have one thread.
#![allow(unsafe_code)]

use std::io::Write;

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork},
};

/// A forked child.
#[derive(Debug)]
pub struct Child(Pid);

impl Child {
    /// Forks. The child runs `work` and ends: well, or with code 1 and the error on standard error.
    ///
    /// # Errors
    ///
    /// When the process cannot be forked.
    pub fn spawn(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Child> {
        // What is still in the buffer would be printed twice.
        std::io::stdout().flush()?;
        // SAFETY: this process has one thread (see the module).
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Child(child)),
            ForkResult::Child => {
                let done = work();
                if let Err(error) = &done {
                    eprintln!("child: {error:#}");
                }
                std::process::exit(i32::from(done.is_err()))
            }
        }
    }

    /// Waits for its end, and says how it ended.
    ///
    /// # Errors
    ///
    /// When there is nothing to wait for.
    pub fn wait(self) -> anyhow::Result<WaitStatus> {
        Ok(waitpid(self.0, None)?)
    }
}

/// Runs `work` in a forked child to its end.
///
/// # Errors
///
/// When the child does not end well.
pub fn run(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    match Child::spawn(work)?.wait()? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => anyhow::bail!("the child ended otherwise: {other:?}"),
    }
}

/// Runs `work` in a forked child and names the signal that ended it, if one did.
///
/// # Errors
///
/// When there can be no child.
pub fn signal_of(
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Option<&'static str>> {
    // The signal is the point, not a core file.
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    match Child::spawn(work)?.wait()? {
        WaitStatus::Signaled(_, signal, _) => Ok(Some(signal.as_str())),
        _ => Ok(None),
    }
}

/// Reads a byte at an address, whether one may or not.
pub fn peek(address: usize) -> u8 {
    // SAFETY: none, on purpose: an example wants to show the fault.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

/// Writes a byte at an address, whether one may or not.
pub fn poke(address: usize, byte: u8) {
    // SAFETY: none, on purpose: an example wants to show the fault.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) }
}
