//! A process for tests: does what its standard input says, one line at a time, and answers each with one line.
//!
//! # Safety
//!
//! The raw `clone` below passes no stack and no pointer: it forks, without the handlers that `fork` would run. The child
//! only sleeps.
#![allow(unsafe_code)]

use std::io::{BufRead, Write};

use ipc_core::event::{Event, SLICE, Waiters};
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::{Place, Segment};
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
            // The descriptor of a segment that was passed to us.
            ["adopt", fd] => {
                let path = format!("/proc/self/fd/{fd}");
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)?;
                segment = Some(Segment::open(Place::Fd(file.into()))?);
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

fn sleep_for_ever() -> ! {
    loop {
        nix::unistd::pause();
    }
}
