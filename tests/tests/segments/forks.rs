//! Handles that a child inherits, memory files that are passed on, and processes that see another time.
//!
//! # Safety
//!
//! A forked child calls what it may call in a process of several threads: nothing here takes a lock that a lost thread
//! could hold, except the allocator's, which the C library makes safe.
#![allow(unsafe_code)]

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use ipc_core::participant::Life;
use ipc_core::region::Region;
use ipc_core::segment::{Place, Segment, SegmentError};
use nix::libc;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::support::{Killed, KilledStranger, child, is_root, scratch, skipped, small, soon};

#[test]
fn f09_an_inherited_handle_refuses_and_can_be_joined_anew() {
    // Catches a child that works on with its parent's place, or gives it up when it ends.
    let place = scratch();
    let output = child("forker", place.path().join("segment"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn forker(path: &Path) {
    for place in [
        Place::Path(path.into()),
        Place::Memfd("forked".into()),
        Place::Anonymous,
    ] {
        let segment = small().create(place).unwrap();
        let region = Region::<AtomicU64>::in_segment(&segment, "word").unwrap();
        let parent = segment.participant().unwrap();
        // Four threads that use the handles all the time, the locks inside among them.
        let end = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (segment, end) = (segment.clone(), end.clone());
                std::thread::spawn(move || {
                    while !end.load(SeqCst) {
                        segment.participant().unwrap();
                        segment.check().unwrap();
                        segment.life(parent);
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            // SAFETY: see the head of the file.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let done =
                        std::panic::catch_unwind(|| inherited(segment, region, parent.get()));
                    std::process::exit(if done.is_ok() { 0 } else { 1 });
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                }
            }
            assert!(
                matches!(segment.life(parent), Life::Alive(_)),
                "the child has given up what is ours"
            );
        }
        assert_eq!(region.load(SeqCst), 20);
        end.store(true, SeqCst);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

fn inherited(segment: Segment, region: Region<AtomicU64>, parent: u16) {
    assert!(!segment.is_here());
    assert!(matches!(segment.participant(), Err(SegmentError::Forked)));
    assert!(matches!(segment.check(), Err(SegmentError::Forked)));
    assert!(matches!(segment.sync(), Err(SegmentError::Forked)));
    std::panic::set_hook(Box::new(|_| {}));
    let used = std::panic::catch_unwind(|| region.load(SeqCst));
    assert!(
        used.unwrap_err()
            .downcast::<String>()
            .unwrap()
            .contains("rejoin")
    );
    let region = region.rejoin().unwrap();
    region.fetch_add(1, SeqCst);
    let anew = region.segment().clone();
    anew.check().unwrap();
    assert_ne!(anew.participant().unwrap().get(), parent);
    assert_eq!(anew.header(), segment.header());
}

/// Joins, makes a child by `make` that lives on, says who the child is, and waits to be killed.
fn parent_with(path: &Path, make: fn() -> Option<i32>) {
    let segment = Segment::open(path).unwrap();
    let id = segment.participant().unwrap();
    match make() {
        None => loop {
            // SAFETY: takes nothing, returns on a signal.
            unsafe { libc::pause() };
        },
        Some(child) => {
            // On standard error, since the harness writes to standard output as well.
            eprintln!("{child} {}", id.get());
            loop {
                std::thread::park();
            }
        }
    }
}

pub fn parent_that_forks(path: &Path) {
    parent_with(path, || {
        // SAFETY: the child only waits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => None,
            ForkResult::Parent { child } => Some(child.as_raw()),
        }
    });
}

/// As programs do that make their children without the C library: no handler runs in the child.
pub fn parent_that_clones(path: &Path) {
    parent_with(path, || {
        // SAFETY: a fork by another name; the child only waits.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        assert!(child >= 0);
        (child != 0).then_some(child as i32)
    });
}

#[test]
fn f09_a_dead_parent_is_dead_although_its_child_lives() {
    // Catches a child that keeps its parent's life byte locked, and so its place taken for ever.
    for role in ["parent_that_forks", "parent_that_clones"] {
        let place = scratch();
        let path = place.path().join("segment");
        let segment = small().create(path.as_path()).unwrap();
        let mut parent = Killed(child(role, &path).stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(parent.0.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let (grandchild, number) = line.split_once(' ').unwrap();
        let grandchild = KilledStranger(Pid::from_raw(grandchild.parse().unwrap()));
        let number: u16 = number.parse().unwrap();
        let id = segment
            .participants()
            .find(|id| id.get() == number)
            .unwrap();
        assert!(matches!(segment.life(id), Life::Alive(_)), "{role}");
        // Not reaped: a zombie is dead, too.
        parent.0.kill().unwrap();
        soon("the parent is declared dead", || {
            matches!(segment.life(id), Life::Dead(_)).then_some(())
        });
        assert_eq!(kill(grandchild.0, None), Ok(()), "{role}: the child lives");
        assert!(segment.recover(id), "{role}");
        assert_eq!(segment.life(id), Life::Free, "{role}");
    }
}

#[test]
fn f10_who_gets_a_memory_file_has_locks_of_his_own() {
    // Catches two processes that share an open file description, and so each other's locks: both would live in one row.
    let segment = small().create(Place::Memfd("passed".into())).unwrap();
    let ours = segment.participant().unwrap();
    // By exec, as standard input; and over a socket.
    let (here, there) = UnixStream::pair().unwrap();
    let inherited: OwnedFd = segment.as_fd().try_clone_to_owned().unwrap();
    let receivers = [Stdio::from(inherited), Stdio::from(OwnedFd::from(there))].map(|stdin| {
        let mut receiver = child("receiver", "");
        Killed(
            receiver
                .stdin(stdin)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    });
    let files = [segment.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(
        &here,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    let mut rows = vec![ours.get()];
    let mut alive = Vec::new();
    for mut receiver in receivers {
        let mut line = String::new();
        BufReader::new(receiver.0.stderr.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        rows.push(line.trim().parse().unwrap_or_else(|_| panic!("{line}")));
        alive.push(receiver);
    }
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), 3, "two processes in one row");
    drop(alive);
    for id in segment
        .participants()
        .filter(|id| *id != ours && rows.contains(&id.get()))
    {
        soon("the receivers are declared dead", || {
            matches!(segment.life(id), Life::Dead(_)).then_some(())
        });
    }
    assert!(matches!(segment.life(ours), Life::Alive(_)));
}

pub fn receiver(_: &Path) {
    let stdin = std::io::stdin();
    let file = match rustix::fs::fstat(&stdin).unwrap().st_mode & libc::S_IFMT {
        libc::S_IFSOCK => {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            recvmsg(
                &stdin,
                &mut [IoSliceMut::new(&mut byte)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
            .unwrap();
            let rights = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut files) => files.next(),
                _ => None,
            });
            rights.unwrap()
        }
        _ => stdin.as_fd().try_clone_to_owned().unwrap(),
    };
    let segment = Segment::open(file).unwrap();
    eprintln!("{}", segment.participant().unwrap().get());
    loop {
        std::thread::park();
    }
}

#[test]
fn f08_another_time_namespace_makes_nobody_dead() {
    // Catches a proof of death by start times that two processes count from different moments.
    if !is_root() {
        return skipped("only root makes a time namespace");
    }
    let place = scratch();
    let path = place.path().join("segment");
    let segment = small().create(path.as_path()).unwrap();
    let ours = segment.participant().unwrap();
    let role = child("in_another_time", &path);
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--time",
        "--boottime",
        "100000",
        "--monotonic",
        "100000",
        "--fork",
        "--",
    ]);
    command.arg(role.get_program()).args(role.get_args());
    command.envs(
        role.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(spawned) = spawned else {
        return skipped("there is no command unshare");
    };
    let mut spawned = Killed(spawned);
    let mut said = String::new();
    let mut errors = BufReader::new(spawned.0.stderr.take().unwrap());
    errors.read_line(&mut said).unwrap();
    let Ok(number) = said.trim().parse::<u16>() else {
        return skipped(format!(
            "no time namespace can be made here: {}",
            said.trim()
        ));
    };
    let theirs = segment
        .participants()
        .find(|id| id.get() == number)
        .unwrap();
    let Life::Alive(who) = segment.life(theirs) else {
        panic!("declared dead")
    };
    let Life::Alive(me) = segment.life(ours) else {
        panic!("declared dead")
    };
    assert_ne!(
        who.time_namespace, me.time_namespace,
        "it is in the same namespace: nothing was tested"
    );
    for _ in 0..100 {
        assert!(matches!(segment.life(theirs), Life::Alive(_)));
    }
    assert!(!segment.recover(theirs));
    // It looked at us from its side, too, and ends well when its input does.
    drop(spawned.0.stdin.take());
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(spawned.0.wait().unwrap().success(), "{rest}");
}

pub fn in_another_time(path: &Path) {
    let segment = Segment::open(path).unwrap();
    let id = segment.participant().unwrap();
    for other in segment.participants() {
        assert!(matches!(segment.life(other), Life::Alive(_) | Life::Free));
        assert!(!segment.recover(other));
    }
    eprintln!("{}", id.get());
    std::io::stdin().read_to_string(&mut String::new()).unwrap();
}
