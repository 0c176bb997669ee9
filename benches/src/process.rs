//! Groups of real processes: forked, pinned, started together, and ended with whoever made them.
//!
//! # Safety
//!
//! [`run`] refuses a process with several threads, so a forked child may do whatever its parent could.
#![allow(unsafe_code)]

use std::io::Write as _;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::Mapped;
use ipc_core::memory::Word64;
use ipc_core::segment::{ObjectSpec, Place, SegmentOptions};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// How long a group may take before it is killed and reported as stuck.
const LIMIT: Duration = Duration::from_secs(20);

/// The CPUs that this process may use, in order.
pub fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect()
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot pin to CPU {cpu}"))
}

/// CPU time of this process so far, its own and the kernel's for it.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many numbers a process of a group reports, each by its position.
const RESULTS: usize = 16;

/// One process of a group.
pub struct Member {
    /// Its number in the group, from 0.
    pub rank: usize,
    size: usize,
    /// Whether its system calls are counted: it must then make none of its own.
    counted: bool,
    arrived: Word64<Mapped>,
    /// Of all members.
    results: Vec<Word64<Mapped>>,
}

impl Member {
    /// Waits until every process of the group has come here. Polls, so that all leave within a hop of each other.
    pub fn barrier(&self) {
        let turn = self.arrived.add(1, AcqRel) / self.size as u64;
        let mut polls = 0_u32;
        while self.arrived.load(Acquire) / (self.size as u64) <= turn {
            polls = polls.wrapping_add(1);
            // Where there are more processes than CPUs, the others need theirs.
            if polls.is_multiple_of(4096) && !self.counted {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
    }

    /// Leaves a number for the parent.
    pub fn report(&self, at: usize, value: u64) {
        self.results[self.rank * RESULTS + at].store(value, Relaxed);
    }

    /// Leaves a number that is no whole one.
    pub fn report_number(&self, at: usize, value: f64) {
        self.report(at, value.to_bits());
    }

    /// What another member has reported before the last barrier.
    pub fn reported_by(&self, rank: usize, at: usize) -> u64 {
        self.results[rank * RESULTS + at].load(Relaxed)
    }
}

/// Runs `body` in one process for each entry of `places`, pinned to that CPU, and gives what each reported.
///
/// # Errors
///
/// If one fails, panics, is killed, or if they are not all done within 20 seconds; the others are killed then. If the
/// calling process has more than one thread.
pub fn run(places: &[usize], body: impl Fn(&Member) -> Result<()>) -> Result<Vec<[u64; RESULTS]>> {
    Ok(group(places, false, body)?.0)
}

/// Runs `body` as [`run`] does, in processes that have a CPU each, and gives how many system calls all of them made: those
/// to start and to end as well.
///
/// # Errors
///
/// Those of [`run`], and if processes may not be traced.
pub fn system_calls(places: &[usize], body: impl Fn(&Member) -> Result<()>) -> Result<u64> {
    Ok(group(places, true, body)?.1)
}

type Reports = Vec<[u64; RESULTS]>;

fn group(
    places: &[usize],
    counted: bool,
    body: impl Fn(&Member) -> Result<()>,
) -> Result<(Reports, u64)> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    ensure!(
        threads == 1,
        "a process with {threads} threads cannot fork safely"
    );
    let words = 1 + places.len() * RESULTS;
    let spec = ObjectSpec {
        kind: *b"control\0",
        version: 1,
        len: words * 8,
        schema: String::new(),
        parameters: [0; 2],
    };
    let control = SegmentOptions::new()
        .object("control", spec)
        .create(Place::Anonymous)?
        .object("control")?;
    let word = |index: usize| control.area().word64(index * 8);
    let member = |rank: usize| -> Result<Member> {
        let results = (1..words).map(word).collect::<Result<_, _>>()?;
        Ok(Member {
            rank,
            size: places.len(),
            counted,
            arrived: word(0)?,
            results,
        })
    };
    let members = (0..places.len()).map(member).collect::<Result<Vec<_>>>()?;
    let mut children = Vec::new();
    for (member, cpu) in members.iter().zip(places) {
        // SAFETY: this process has one thread, as checked above.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => children.push(child),
            Ok(ForkResult::Child) => serve(member, *cpu, &body),
            Err(error) => {
                end(&children);
                return Err(error).context("cannot fork");
            }
        }
    }
    let outcome = reap(&mut children);
    end(&children);
    let stops = outcome?;
    let result = |rank: usize, at: usize| members[0].results[rank * RESULTS + at].load(Acquire);
    let reports = (0..places.len()).map(|rank| std::array::from_fn(|at| result(rank, at)));
    // A call stops its process twice: before and after.
    Ok((reports.collect(), stops / 2))
}

fn serve(member: &Member, cpu: usize, body: &impl Fn(&Member) -> Result<()>) -> ! {
    // A child without its parent would measure for nobody.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let work = || {
        pin(cpu)?;
        if member.counted {
            ptrace::traceme().context("processes may not be traced here")?;
            raise(Signal::SIGSTOP)?;
        }
        body(member)
    };
    let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            // Who reads it may have gone away.
            let text = format_args!("process {} of the group failed: {error:#}", member.rank);
            let _ = writeln!(std::io::stderr(), "{text}");
            1
        }
        Err(_) => 101,
    };
    // SAFETY: ends the child without running what belongs to the parent.
    unsafe { libc::_exit(code) }
}

/// Waits for all children; those that have ended are taken from the list. Tells how often those that are traced stopped
/// at a system call.
fn reap(children: &mut Vec<Pid>) -> Result<u64> {
    let start = Instant::now();
    let mut stops = 0;
    while !children.is_empty() {
        let mut idle = true;
        let mut at = 0;
        while let Some(child) = children.get(at).copied() {
            match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::StillAlive => {
                    at += 1;
                    continue;
                }
                WaitStatus::PtraceSyscall(_) => {
                    stops += 1;
                    ptrace::syscall(child, None)?;
                }
                WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD;
                    ptrace::setoptions(child, options)?;
                    ptrace::syscall(child, None)?;
                }
                WaitStatus::Stopped(_, signal) => ptrace::syscall(child, signal)?,
                WaitStatus::Exited(_, 0) => {
                    children.remove(at);
                }
                status => {
                    children.remove(at);
                    bail!("a process of the group ended with {status:?}");
                }
            }
            idle = false;
        }
        ensure!(
            start.elapsed() < LIMIT,
            "a group was not done after {LIMIT:?}"
        );
        if idle {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(stops)
}

fn end(children: &[Pid]) {
    for child in children {
        let _ = kill(*child, Signal::SIGKILL);
        let _ = waitpid(*child, None);
    }
}
