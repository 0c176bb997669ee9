//! Creators that are killed on the way.
//!
//! # Safety
//!
//! The one foreign call installs a filter of system calls in a child, from an array that lives as long as the call.
#![allow(unsafe_code)]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_core::region::Region;
use ipc_core::segment::{Segment, SegmentError};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::{child, files, is_root, scratch, small, soon};

/// Stops twice, for the tracer: before the operation and after it.
fn between_stops(operation: impl FnOnce()) {
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    operation();
    raise(Signal::SIGSTOP).unwrap();
}

pub fn creator(path: &Path) {
    between_stops(|| drop(small().create(path).unwrap()));
}

pub fn replacer(path: &Path) {
    between_stops(|| drop(small().replace(path).unwrap()));
}

pub fn adopter(path: &Path) {
    between_stops(|| drop(Segment::adopt(path).unwrap()));
}

/// On a file system that has no unnamed files, as far as this process can see.
pub fn creator_without_tmpfile(path: &Path) {
    refuse_tmpfile();
    creator(path);
}

/// Has the kernel answer every `openat` with `O_TMPFILE` as file systems do that cannot.
fn refuse_tmpfile() {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, jump, and) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ,
        0x54,
    );
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32;
    let mut filter = [
        op(load, 0, 0, 0),
        op(jump, libc::SYS_openat as u32, 0, 4),
        // The low half of the third argument, the flags.
        op(load, 16 + 2 * 8, 0, 0),
        op(and, 0o20_000_000, 0, 0),
        op(jump, 0, 1, 0),
        op(libc::BPF_RET, refuse, 0, 0),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().unwrap();
    // SAFETY: `program` points at as many instructions as it says, and both live while the call lasts.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// How far a victim is let go before it is killed.
#[derive(Clone, Copy, Debug)]
struct Distance {
    /// Stops at the edges of system calls.
    edges: usize,
    /// Single instructions behind that.
    steps: usize,
}

/// Runs the role, kills it after so far, and says whether it got as far as its end.
fn killed_after(role: &str, path: &Path, distance: Distance) -> bool {
    let mut victim = child(role, path)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let thread = traced_thread(&victim);
    let mut ended = !wait_for_stop(thread);
    for _ in 0..distance.edges {
        if ended {
            break;
        }
        ptrace::syscall(thread, None).unwrap();
        ended = !wait_for_stop(thread) || at_the_end(thread);
    }
    for _ in 0..distance.steps {
        if ended {
            break;
        }
        ptrace::step(thread, None).unwrap();
        ended = !wait_for_stop(thread) || at_the_end(thread);
    }
    kill(Pid::from_raw(victim.id() as i32), Signal::SIGKILL).unwrap();
    // The traced thread is reported to its tracer first.
    while let Ok(WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_)) =
        waitpid(thread, Some(WaitPidFlag::__WALL))
    {}
    victim.wait().unwrap();
    ended
}

/// The thread of the victim that is traced: the harness runs a test in a thread of its own.
fn traced_thread(victim: &Child) -> Pid {
    let tasks = format!("/proc/{}/task", victim.id());
    soon("the victim stops", || {
        std::fs::read_dir(&tasks).ok()?.flatten().find_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let stopped = status.contains("State:\tt") && !status.contains("TracerPid:\t0\n");
            stopped.then(|| Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap()))
        })
    })
}

/// Waits until the thread stops again; false if it has ended instead.
fn wait_for_stop(thread: Pid) -> bool {
    match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
        WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_) => true,
        WaitStatus::Exited(..) | WaitStatus::Signaled(..) => false,
        other => panic!("{other:?}"),
    }
}

/// Whether the thread has stopped itself, which it does at the end.
fn at_the_end(thread: Pid) -> bool {
    ptrace::getsiginfo(thread).is_ok_and(|signal| signal.si_signo == libc::SIGSTOP)
}

/// Kills the role at every edge of a system call, and at a sample of the instructions between; `check` looks at what is
/// left. Tells how often it was killed.
fn at_every_edge(role: &str, path: &Path, mut check: impl FnMut(&str)) -> usize {
    let mut edges = 0;
    while !killed_after(role, path, Distance { edges, steps: 0 }) {
        check(&format!("killed at edge {edges}"));
        edges += 1;
        assert!(edges < 2000, "it never ends");
    }
    check("killed at the end");
    // An odd multiplier goes through all residues: every edge gets its share, with other distances behind it.
    let samples = if is_root() { 2 * edges } else { edges / 4 };
    for sample in 0..samples {
        let distance = Distance {
            edges: sample % edges,
            steps: 1 + sample * 37 % 211,
        };
        killed_after(role, path, distance);
        check(&format!("killed at {distance:?}"));
    }
    edges
}

/// Looks at what a killed creator left: nothing that has the name, or all of it. And the next creator clears up.
fn nothing_or_all_of_it(place: &Path, path: &Path, seen: &mut [usize; 2], when: &str) {
    match Segment::open(path) {
        Ok(segment) => {
            segment.participant().unwrap();
            segment.check().unwrap();
            seen[1] += 1;
        }
        Err(SegmentError::NotFound { .. }) => seen[0] += 1,
        Err(error) => panic!("{when}: {error:?}"),
    }
    drop(small().replace(path).unwrap());
    assert_eq!(
        files(place),
        ["segment"],
        "{when}: the next creator clears up"
    );
    Segment::unlink(path).unwrap();
}

#[test]
fn f28_a_creator_killed_anywhere_leaves_nothing_or_all_of_it() {
    // Catches a name that exists before the file is complete, and leftovers that nobody removes.
    let place = scratch();
    let path = place.path().join("segment");
    for role in ["creator", "creator_without_tmpfile"] {
        let mut seen = [0; 2];
        let edges = at_every_edge(role, &path, |when| {
            nothing_or_all_of_it(place.path(), &path, &mut seen, when)
        });
        println!(
            "{role}: {edges} edges of system calls; then {} times nothing, {} times all of it",
            seen[0], seen[1]
        );
        assert!(
            edges > 20,
            "{role}: {edges} edges are too few to have seen anything"
        );
        assert!(seen[0] > 10 && seen[1] > 0, "{role}: {seen:?}");
    }
}

#[test]
fn f28_a_replacer_killed_anywhere_leaves_the_old_or_the_new() {
    // Catches a moment in which a replaced name leads nowhere.
    let place = scratch();
    let path = place.path().join("segment");
    let mut old = small().create(path.as_path()).unwrap();
    let mut seen = [0; 2];
    at_every_edge("replacer", &path, |when| {
        let now = Segment::open(path.as_path()).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let replaced = now.header().uuid != old.header().uuid;
        seen[usize::from(replaced)] += 1;
        assert_eq!(
            matches!(old.check(), Err(SegmentError::Replaced)),
            replaced,
            "{when}"
        );
        now.check().unwrap();
        old = small().replace(path.as_path()).unwrap();
        assert_eq!(
            files(place.path()),
            ["segment"],
            "{when}: the next creator clears up"
        );
    });
    assert!(seen[0] > 10 && seen[1] > 0, "{seen:?}");
}

#[test]
fn f28_an_adopter_killed_anywhere_leaves_the_copy_or_the_segment() {
    // Catches an adoption that changes the file in place, and so leaves neither the one nor the other.
    let place = scratch();
    let (original, path) = (place.path().join("original"), place.path().join("segment"));
    let segment = small().create(original.as_path()).unwrap();
    Region::<AtomicU64>::in_segment(&segment, "word")
        .unwrap()
        .store(42, Relaxed);
    std::fs::copy(&original, &path).unwrap();
    let mut seen = [0; 2];
    at_every_edge("adopter", &path, |when| {
        match Segment::open(path.as_path()) {
            Ok(adopted) => {
                assert_eq!(adopted.header().adoptions, 1, "{when}");
                assert_eq!(
                    Region::<AtomicU64>::in_segment(&adopted, "word")
                        .unwrap()
                        .load(Relaxed),
                    42,
                    "{when}"
                );
                seen[1] += 1;
            }
            Err(SegmentError::Copied { .. }) => {
                assert_eq!(
                    std::fs::read(&path).unwrap(),
                    std::fs::read(&original).unwrap(),
                    "{when}"
                );
                seen[0] += 1;
            }
            Err(error) => panic!("{when}: {error:?}"),
        }
        drop(Segment::adopt(path.as_path()).unwrap());
        drop(small().replace(path.as_path()).unwrap());
        assert_eq!(
            files(place.path()),
            ["original", "segment"],
            "{when}: the next one clears up"
        );
        std::fs::copy(&original, &path).unwrap();
    });
    assert!(seen[0] > 10 && seen[1] > 0, "{seen:?}");
}

#[test]
fn a_file_under_construction_is_not_cleared_away() {
    // Catches a sweep that takes the file of a living creator for that of a dead one.
    let place = scratch();
    let path = place.path().join("segment");
    let mut victim = child("creator_without_tmpfile", &path)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let thread = traced_thread(&victim);
    assert!(wait_for_stop(thread));
    let hidden = || {
        files(place.path())
            .into_iter()
            .find(|name| name.starts_with(".segment."))
    };
    while hidden().is_none_or(|name| std::fs::metadata(place.path().join(name)).unwrap().len() == 0)
    {
        ptrace::syscall(thread, None).unwrap();
        assert!(
            wait_for_stop(thread) && !at_the_end(thread),
            "it was never seen"
        );
    }
    drop(small().create(path.as_path()).unwrap());
    assert!(hidden().is_some(), "swept away from a living creator");
    kill(Pid::from_raw(victim.id() as i32), Signal::SIGKILL).unwrap();
    while let Ok(WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_)) =
        waitpid(thread, Some(WaitPidFlag::__WALL))
    {}
    victim.wait().unwrap();
    drop(small().replace(path.as_path()).unwrap());
    assert_eq!(hidden(), None);
    // A file that only looks like one of ours, and is in use, stays as well; one of another name is none of our business.
    let other = std::fs::File::create(place.path().join(".other.0123456789abcdef.new")).unwrap();
    other.write_all_at(b"x", 0).unwrap();
    drop(small().replace(path.as_path()).unwrap());
    assert_eq!(
        files(place.path()),
        [".other.0123456789abcdef.new", "segment"]
    );
}
