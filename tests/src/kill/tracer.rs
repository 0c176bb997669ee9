//! A victim under ptrace: started, stepped, killed.
//!
//! # Safety
//!
//! What runs between fork and exec makes system calls and nothing else: it allocates nothing and takes no lock.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::libc::user;
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace::{self, AddressType, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::kill::ground::Ground;
use crate::kill::report::queued;

/// How long a system call may take before it counts as waiting for somebody.
const BLOCKED: Duration = Duration::from_millis(5);

/// No registration that the kernel writes to at moments of its own; and no copy by one instruction that repeats itself,
/// of which each repetition is a step.
const TUNABLES: &str = "glibc.pthread.rseq=0:glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:\
                        glibc.cpu.x86_rep_stosb_threshold=0x7fffffff";

/// A traced process that stands somewhere in its operation.
#[derive(Debug)]
pub struct Victim {
    pid: Pid,
    over: bool,
    /// Where it stands, as long as it does.
    here: Cell<Option<u64>>,
    /// What was read of its code, which does not change.
    code: RefCell<HashMap<u64, [u8; 2]>>,
}

/// Where a step has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the next instruction.
    Next,
    /// Nowhere: the victim sleeps in a system call. It runs, and stops when it comes out.
    Blocked,
}

/// Which part of a system call to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Before the kernel does anything.
    Entry,
    /// After it has done everything.
    Exit,
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When it was sent.
    pub at: Instant,
    /// How long the calling thread had waited for a processor by then.
    pub queued: Duration,
}

/// The victim did not come by where it was to be killed: its operation depends on time, and took another way.
#[derive(Debug, thiserror::Error)]
#[error("the victim went to {here:#x} instead of {address:#x}")]
pub struct Astray {
    here: u64,
    address: u64,
}

/// Why this machine does not let us trace; nothing if it does.
pub fn obstacle() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the tracer knows the instructions of x86_64 alone".into());
    }
    // A child that asks to be traced and is not allowed to does not get as far as `true`.
    match Victim::spawn(&mut Command::new("true")) {
        Ok(victim) => {
            drop(victim);
            None
        }
        Err(error) => Some(format!("this machine does not allow ptrace: {error}")),
    }
}

/// The program that runs victims.
#[derive(Clone, Debug)]
pub struct Program(pub PathBuf);

impl Program {
    /// Starts a victim for a case and runs it to its first marker.
    pub fn start(
        &self,
        kind: &str,
        operation: &str,
        state: &str,
        ground: &Ground,
    ) -> Result<Victim> {
        let mut command = Command::new(&self.0);
        command.args(["victim", kind, operation, state]);
        match ground {
            Ground::Region(segment) => {
                command.stdin(segment.as_fd().try_clone_to_owned()?);
            }
            Ground::Directory(path, _) => {
                command.arg(path).stdin(Stdio::null());
            }
        }
        command.stdout(Stdio::null());
        // The same addresses, and no work of the loader's, in every run.
        command.env_clear();
        command.env("LD_BIND_NOW", "1");
        command.env("GLIBC_TUNABLES", TUNABLES);
        let victim = Victim::spawn(&mut command);
        let mut victim = victim.with_context(|| format!("start {}", self.0.display()))?;
        victim.expect_trap("after exec")?;
        ptrace::setoptions(
            victim.pid,
            Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD,
        )?;
        ptrace::cont(victim.pid, None)?;
        victim.expect_trap("at its first marker")?;
        Ok(victim)
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Victim {
    /// Starts a program that is traced by us from its first instruction on, at the same addresses each time.
    fn spawn(command: &mut Command) -> io::Result<Self> {
        let prepare = || {
            personality::set(Persona::ADDR_NO_RANDOMIZE)?;
            ptrace::traceme().map_err(io::Error::from)
        };
        // SAFETY: `prepare` makes two system calls, which a forked child of a program with threads may do.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn()?;
        Ok(Self {
            pid: Pid::from_raw(child.id() as i32),
            over: false,
            here: Cell::new(None),
            code: RefCell::default(),
        })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// The address of the next instruction.
    pub fn address(&self) -> Result<u64> {
        if let Some(here) = self.here.get() {
            return Ok(here);
        }
        let here = ptrace::getregs(self.pid)?.rip;
        self.here.set(Some(here));
        Ok(here)
    }

    /// The first two bytes of the next instruction.
    fn instruction(&self) -> Result<[u8; 2]> {
        let here = self.address()?;
        if let Some(bytes) = self.code.borrow().get(&here) {
            return Ok(*bytes);
        }
        let bytes = ptrace::read(self.pid, here as AddressType)?.to_le_bytes();
        let bytes = [bytes[0], bytes[1]];
        self.code.borrow_mut().insert(here, bytes);
        Ok(bytes)
    }

    /// Whether the operation is over: the next instruction is the second marker.
    pub fn is_at_end(&self) -> Result<bool> {
        Ok(self.instruction()?[0] == 0xcc)
    }

    /// Whether the next instruction is a system call.
    pub fn is_at_system_call(&self) -> Result<bool> {
        Ok(self.instruction()? == [0x0f, 0x05])
    }

    /// Executes one instruction.
    pub fn step(&mut self) -> Result<Step> {
        let may_block = self.is_at_system_call()?;
        self.here.set(None);
        ptrace::step(self.pid, None)?;
        if may_block {
            return self.come_out(BLOCKED);
        }
        self.expect_trap("after a step")?;
        Ok(Step::Next)
    }

    /// Runs until the victim stands before the instruction at `address` for the `visits`-th time, counted from here.
    /// Much faster than to step there. Calls `release` whenever the victim sleeps.
    pub fn run_to(
        &mut self,
        address: u64,
        visits: usize,
        mut release: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let register = |index: usize| (offset_of!(user, u_debugreg) + 8 * index) as AddressType;
        // Register 7 says which of the four addresses are armed, and for what: the first, for execution.
        ptrace::write_user(self.pid, register(0), address as i64)?;
        ptrace::write_user(self.pid, register(7), 1)?;
        for _ in 0..visits {
            self.here.set(None);
            ptrace::cont(self.pid, None)?;
            self.come_out_released(&mut release)?;
            let here = self.address()?;
            ensure!(here == address, Astray { here, address });
        }
        ptrace::write_user(self.pid, register(7), 0)?;
        Ok(())
    }

    /// Waits until the victim, which runs, stops; or until it has slept in a system call for longer than `within`.
    pub fn come_out(&mut self, within: Duration) -> Result<Step> {
        let Some(status) = self.wait_awake(within)? else {
            return Ok(Step::Blocked);
        };
        self.check(status, "after a system call")?;
        Ok(Step::Next)
    }

    /// What the victim, which runs, meets next; nothing, if it has slept in a system call for longer than `within`.
    fn wait_awake(&self, within: Duration) -> Result<Option<WaitStatus>> {
        let begun = Instant::now();
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::StillAlive if begun.elapsed() > within && self.is_asleep() => {
                    return Ok(None);
                }
                WaitStatus::StillAlive => pause(begun),
                status => return Ok(Some(status)),
            }
        }
    }

    /// From before a system call to its entry, or on to its exit; or to its middle, if it blocks.
    pub fn go_to(&mut self, edge: Edge) -> Result<Step> {
        self.here.set(None);
        ptrace::syscall(self.pid, None)?;
        self.expect_system_call()?;
        if edge == Edge::Entry {
            return Ok(Step::Next);
        }
        self.exit_call(BLOCKED)
    }

    /// Runs to the next system call and stands before it; at its entry, in truth, where nothing has happened yet. False if
    /// there is none any more, and the victim stands at its second marker.
    pub fn run_to_call(&mut self) -> Result<bool> {
        self.here.set(None);
        ptrace::syscall(self.pid, None)?;
        let status = waitpid(self.pid, None)?;
        let entered = matches!(status, WaitStatus::PtraceSyscall(_));
        if !entered {
            self.check(status, "at a system call")?;
            self.back_to_marker()?;
            return Ok(false);
        }
        self.here.set(Some(ptrace::getregs(self.pid)?.rip - 2));
        Ok(true)
    }

    /// Leaves the system call that it was run to, in which it may sleep for a slice.
    pub fn leave_call(&mut self) -> Result<()> {
        let left = self.exit_call(Duration::from_secs(5))?;
        ensure!(left == Step::Next, "the victim sleeps without end");
        Ok(())
    }

    /// From the entry of a system call to its exit; or to its middle, if it sleeps there for longer than `within`.
    fn exit_call(&mut self, within: Duration) -> Result<Step> {
        self.here.set(None);
        ptrace::syscall(self.pid, None)?;
        match self.wait_awake(within)? {
            None => Ok(Step::Blocked),
            Some(WaitStatus::PtraceSyscall(_)) => Ok(Step::Next),
            Some(status) => {
                self.over = !matches!(status, WaitStatus::Stopped(..));
                bail!("the victim did not leave its system call: {status:?}");
            }
        }
    }

    /// The address that a victim asleep in a system call comes back to, as the kernel has it.
    pub fn asleep_at(&self) -> Result<u64> {
        let line = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid))?;
        let last = line.split_whitespace().last().context("a system call")?;
        ensure!(last.starts_with("0x"), "the victim is not asleep: {line:?}");
        Ok(u64::from_str_radix(last.trim_start_matches("0x"), 16)?)
    }

    /// Lets the victim run from where it stands to its second marker. Calls `release` whenever it sleeps.
    pub fn run_to_end(&mut self, release: impl FnMut() -> Result<()>) -> Result<()> {
        self.here.set(None);
        ptrace::cont(self.pid, None)?;
        self.come_out_released(release)?;
        self.back_to_marker()
    }

    /// From behind the second marker, which has trapped, to before it, where stepping would have stopped.
    fn back_to_marker(&mut self) -> Result<()> {
        let mut registers = ptrace::getregs(self.pid)?;
        registers.rip -= 1;
        self.here.set(None);
        ptrace::setregs(self.pid, registers)?;
        ensure!(self.is_at_end()?, "the victim stopped at no marker");
        Ok(())
    }

    /// Waits until the victim comes out of a sleep that ends by itself.
    pub fn come_out_of_sleep(&mut self) -> Result<()> {
        let out = self.come_out(Duration::from_secs(5))?;
        ensure!(out == Step::Next, "the victim sleeps without end");
        Ok(())
    }

    /// As [`come_out`](Self::come_out), giving a sleeping victim what it waits for.
    fn come_out_released(&mut self, mut release: impl FnMut() -> Result<()>) -> Result<()> {
        if self.come_out(BLOCKED)? == Step::Next {
            return Ok(());
        }
        release()?;
        self.come_out_of_sleep()
    }

    /// Whether it sleeps in a system call; otherwise it is running, or waits for a processor.
    fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, fields)| fields.starts_with('S'))
    }

    /// Lets the victim leave its second marker and end by itself; its operation must have given what it should.
    pub fn finish(mut self) -> Result<()> {
        if self.is_at_end()? {
            self.here.set(None);
            ptrace::cont(self.pid, None)?;
            self.expect_trap("at its second marker")?;
        }
        self.here.set(None);
        ptrace::cont(self.pid, None)?;
        let status = self.wait()?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "the victim, left alone, ended with {status:?}"
        );
        Ok(())
    }

    /// Kills it, and proves that it died of that.
    pub fn kill(mut self) -> Result<Death> {
        let death = Death {
            queued: queued(),
            at: Instant::now(),
        };
        kill(self.pid, Signal::SIGKILL)?;
        let status = waitpid(self.pid, None)?;
        self.over = true;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
            "the victim was to be killed and ended with {status:?}"
        );
        Ok(death)
    }

    /// Waits until it stops, or ends.
    fn wait(&mut self) -> Result<WaitStatus> {
        let status = waitpid(self.pid, None)?;
        self.over = has_ended(status);
        Ok(status)
    }

    fn expect_trap(&mut self, when: &str) -> Result<()> {
        let status = self.wait()?;
        self.check(status, when)
    }

    fn check(&mut self, status: WaitStatus, when: &str) -> Result<()> {
        self.over = has_ended(status);
        ensure!(
            matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP)),
            "the victim was to stop {when}; it met {status:?}"
        );
        Ok(())
    }

    fn expect_system_call(&mut self) -> Result<()> {
        let status = self.wait()?;
        ensure!(
            matches!(status, WaitStatus::PtraceSyscall(_)),
            "the victim was to stop at a system call; it met {status:?}"
        );
        Ok(())
    }
}

fn has_ended(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}

/// Between two looks at a victim: give way at first, then sleep a little.
fn pause(begun: Instant) {
    if begun.elapsed() < Duration::from_micros(300) {
        std::thread::yield_now();
    } else {
        std::thread::sleep(Duration::from_micros(100));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.over {
            let _ = kill(self.pid, Signal::SIGKILL);
            while let Ok(status) = waitpid(self.pid, None) {
                if has_ended(status) {
                    break;
                }
            }
        }
    }
}
