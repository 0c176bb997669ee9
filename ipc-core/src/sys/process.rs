//! Who a process is, and whether it has ended.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::memory::Identity;

/// The identity of the calling process. Read anew in a forked child.
pub(crate) fn identity() -> Identity {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    Identity {
        pid,
        start: start_time("self").unwrap_or(0),
        pid_namespace: inode("/proc/self/ns/pid"),
        time_namespace: inode("/proc/self/ns/time"),
        boot: boot(),
    }
}

/// What is known of another process.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It runs, or is stopped. The descriptor stands for it and for no other, whoever gets its id later.
    Runs(OwnedFd),
    /// Proven: another boot, no such process, exited (even if nobody has reaped it), or its id used again by a younger one.
    Gone,
    /// It lies in another pid namespace, or /proc does not tell.
    Unknown,
}

/// Finds out about a process. `me` is the identity of the calling one.
pub(crate) fn look_up(who: &Identity, me: &Identity) -> Standing {
    if who.boot != 0 && boot() != 0 && who.boot != boot() {
        return Standing::Gone;
    }
    if me.pid_namespace == 0 || who.pid_namespace != me.pid_namespace {
        return Standing::Unknown;
    }
    let Some(pid) = i32::try_from(who.pid).ok().and_then(Pid::from_raw) else {
        return Standing::Unknown;
    };
    // The descriptor comes first: if it is of a younger process, the start time read afterwards says so.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // No such process, or the number now belongs to a mere thread of another one.
        Err(Errno::SRCH | Errno::INVAL) => return Standing::Gone,
        Err(_) => return Standing::Unknown,
    };
    // A process can change its time namespace, unlike its pid namespace: ask anew.
    let same_clock = who.time_namespace == inode("/proc/self/ns/time") && who.start != 0;
    let start = start_time(&who.pid.to_string());
    if has_ended(&process) || same_clock && start.is_some_and(|start| start != who.start) {
        Standing::Gone
    } else if same_clock && start.is_some() {
        Standing::Runs(process)
    } else {
        Standing::Unknown
    }
}

/// Whether the process behind a descriptor has exited.
pub(crate) fn has_ended(process: &OwnedFd) -> bool {
    const AT_ONCE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut ended, Some(&AT_ONCE)), Ok(1))
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets, so count from its last bracket.
pub(crate) fn start_time(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The inode of a namespace; 0 if /proc does not tell.
fn inode(path: &str) -> u64 {
    rustix::fs::stat(path).map_or(0, |stat| stat.st_ino)
}

/// The first eight bytes of the boot id; 0 if /proc does not tell.
pub(crate) fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(16)
            .collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}
