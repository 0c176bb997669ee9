//! A process for tests: does what its standard input says, one line at a time, and answers each with one line.
//!
//! # Safety
//!
//! An inherited descriptor is taken once. The raw `clone` below passes no stack and no pointer: it forks, without the handlers that `fork` would run. The child
//! only sleeps.
#![allow(unsafe_code)]

use std::io::{BufRead, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use ipc_core::event::{Event, SLICE, Waiters};
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::{Kind, Place, Segment, SegmentError};
use ipc_core::sync::{Attach, Mutex};
use ipc_ring::{Ring as _, spsc};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

fn main() -> anyhow::Result<()> {
    let mut segment: Option<Segment> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let open = || {
            segment
                .as_ref()
                .ok_or_else(|| anyhow::anyhow!("open a segment first"))
        };
        let id = |word: &str| -> anyhow::Result<ParticipantId> {
            let id = ParticipantId::new(word.parse()?);
            id.ok_or_else(|| anyhow::anyhow!("{word} is not a participant"))
        };
        let answer = match words.as_slice() {
            ["open", path] => {
                segment = Some(Segment::open(Place::Path((*path).into()))?);
                "open".to_owned()
            }
            // A segment whose descriptor we have inherited, and share with others.
            ["adopt", fd] => {
                // SAFETY: the test passes it to us, and nothing else here owns it.
                let file = unsafe { OwnedFd::from_raw_fd(fd.parse()?) };
                segment = Some(Segment::open(Place::Fd(file))?);
                "open".to_owned()
            }
            ["join"] => match open()?.participant() {
                Ok(id) => id.get().to_string(),
                Err(error) => format!("refused: {error}"),
            },
            ["leave"] => {
                segment = None;
                "left".to_owned()
            }
            ["life", word] => match open()?.life(id(word)?) {
                Life::Free => "free".to_owned(),
                Life::Alive(who) => format!("alive {}", who.pid),
                Life::Dead(who) => format!("dead {}", who.pid),
            },
            ["recover", word] => open()?.recover(id(word)?).to_string(),
            // Begins to recover, comes to an object of this kind, and goes no further.
            ["half-recover", word] => {
                open()?.learn(&[Kind {
                    tag: *b"test\0\0\0\0",
                    version: 1,
                    recover: |_, _, _| {
                        println!("recovering");
                        sleep_for_ever()
                    },
                }]);
                format!("recovered: {}", open()?.recover(id(word)?))
            }
            // Recovers, and opens a segment, without any descriptor to be had.
            ["crowded", word, path] => {
                let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
                setrlimit(Resource::RLIMIT_NOFILE, 0, most)?;
                let recovered = open()?.recover(id(word)?);
                let opened = Segment::open(Place::Path((*path).into()));
                setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
                match opened {
                    Ok(_) => anyhow::bail!("the limit did not hold"),
                    Err(error) => format!("{recovered}, {error}"),
                }
            }
            // Takes an end of the ring and keeps it; the producer pushes one message first.
            ["ring", end] => {
                let ring = spsc::Ring::<u64>::in_segment(open()?, ipc_ring::ONLY)?;
                if *end == "producer" {
                    let mut producer = ring.producer()?;
                    producer.push(7)?;
                    std::mem::forget(producer);
                } else {
                    std::mem::forget(ring.consumer()?);
                }
                "taken".to_owned()
            }
            ["pid"] => std::process::id().to_string(),
            // A child that inherits everything, and only sleeps.
            ["fork"] => {
                // SAFETY: this process has one thread.
                match unsafe { fork() }? {
                    ForkResult::Parent { child } => child.to_string(),
                    ForkResult::Child => sleep_for_ever(),
                }
            }
            ["clone"] => {
                // SAFETY: as the head of this file says; flags are those of a fork.
                let child = unsafe {
                    nix::libc::syscall(nix::libc::SYS_clone, nix::libc::SIGCHLD, 0, 0, 0, 0)
                };
                if child == 0 {
                    sleep_for_ever()
                }
                child.to_string()
            }
            // What a forked child finds that goes on with what it has inherited.
            ["forked"] => {
                // SAFETY: this process has one thread.
                match unsafe { fork() }? {
                    ForkResult::Child => {
                        let refused = matches!(open()?.participant(), Err(SegmentError::Forked));
                        drop(segment.take());
                        std::process::exit(if refused { 0 } else { 1 })
                    }
                    ForkResult::Parent { child } => match waitpid(child, None)? {
                        WaitStatus::Exited(_, 0) => "refused".to_owned(),
                        other => format!("{other:?}"),
                    },
                }
            }
            // A forked child that watches over the others by itself; what it says.
            ["watch", "in", "a", "child"] => {
                // SAFETY: the other thread of this process, which only counts, holds no lock that the child would need.
                match unsafe { fork() }? {
                    ForkResult::Child => {
                        let told = ipc_tests::sync_peer::obey(&open()?.rejoin()?, &["watch", "l"]);
                        let known = told.is_ok_and(|told| told == "1 thread");
                        std::process::exit(if known { 0 } else { 1 })
                    }
                    ForkResult::Parent { child } => match waitpid(child, None)? {
                        WaitStatus::Exited(_, 0) => "1 thread".to_owned(),
                        other => format!("{other:?}"),
                    },
                }
            }
            // Becomes another program, which knows nothing of segments.
            ["exec"] => return Err(Command::new("sleep").arg("1000").exec().into()),
            // So many children join, one after the other, and are killed without leaving.
            ["die", times] => {
                for _ in 0..times.parse::<u32>()? {
                    // SAFETY: this process has one thread.
                    match unsafe { fork() }? {
                        ForkResult::Child => {
                            let joined = open()?
                                .rejoin()
                                .and_then(|own| own.participant().map(|_| own));
                            if joined.is_ok() {
                                nix::sys::signal::raise(Signal::SIGKILL)?;
                            }
                            std::process::exit(1)
                        }
                        ForkResult::Parent { child } => match waitpid(child, None)? {
                            WaitStatus::Signaled(..) => {}
                            other => anyhow::bail!("a child could not join: {other:?}"),
                        },
                    }
                }
                "dead".to_owned()
            }
            // Works for so long while a signal interrupts it every 50 microseconds.
            ["soak", path, millis] => soak(path, Duration::from_millis(millis.parse()?))?,
            // Waits for a forked child as `vfork` does, in uninterruptible sleep, until it is killed.
            ["stick"] => {
                println!("stuck");
                let flags = nix::libc::CLONE_VFORK | nix::libc::SIGCHLD;
                // SAFETY: as the head of this file says; the child has memory of its own.
                let child = unsafe { nix::libc::syscall(nix::libc::SYS_clone, flags, 0, 0, 0, 0) };
                if child == 0 {
                    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                    sleep_for_ever()
                }
                "free".to_owned()
            }
            // Sleeps on an event for ever, whatever is published.
            ["sleep", name] => {
                let object = open()?.object(name)?;
                let event = Event::new(object.area(), 0, Waiters::Many)?;
                println!("asleep");
                loop {
                    let prepared = event.prepare();
                    event.sleep(prepared, SLICE);
                }
            }
            ["sync", rest @ ..] => ipc_tests::sync_peer::obey(open()?, rest)?,
            _ => anyhow::bail!("do not understand {line:?}"),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Opens, joins, locks, waits and leaves under a rain of signals.
fn soak(path: &str, time: Duration) -> anyhow::Result<String> {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    let every = |micros| nix::libc::itimerval {
        it_interval: nix::libc::timeval {
            tv_sec: 0,
            tv_usec: micros,
        },
        it_value: nix::libc::timeval {
            tv_sec: 0,
            tv_usec: micros,
        },
    };
    let rain = |micros| {
        // SAFETY: the first pointer is to a live value; the second may be null.
        unsafe {
            nix::libc::setitimer(nix::libc::ITIMER_REAL, &every(micros), std::ptr::null_mut())
        }
    };
    rain(50);
    let end = Instant::now() + time;
    let (mut rounds, mut timeouts) = (0, 0);
    while Instant::now() < end {
        let segment = Segment::open(Place::Path(path.into()))?;
        let mutex = Mutex::<u64>::in_segment(&segment, "m")?;
        let mut guard = mutex.lock().map_err(|error| anyhow::anyhow!("{error}"))?;
        guard.set(&(guard.get() + 1));
        let soon = Instant::now() + Duration::from_millis(3);
        // The same process has it: the wait ends at its deadline, not at a signal.
        timeouts += u32::from(mutex.lock_until(soon).is_err() && Instant::now() >= soon);
        rounds += 1;
    }
    rain(0);
    Ok(format!("{rounds} {timeouts}"))
}

fn sleep_for_ever() -> ! {
    loop {
        nix::unistd::pause();
    }
}
