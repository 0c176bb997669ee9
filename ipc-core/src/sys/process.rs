//! Who a process is, and whether it has ended.

use std::fs;
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

/// Whether the process is proven not to run any more: another boot, no such process, exited (even if nobody has reaped
/// it), or its id used again by a younger one. False across pid namespaces, and whenever /proc does not tell.
pub(crate) fn is_gone(who: &Identity) -> bool {
    if who.boot != 0 && boot() != 0 && who.boot != boot() {
        return true;
    }
    let here = inode("/proc/self/ns/pid");
    if here == 0 || who.pid_namespace != here {
        return false;
    }
    let Some(pid) = i32::try_from(who.pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    // The descriptor comes first: if it is of a younger process, the start time read afterwards says so.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // No such process, or the number now belongs to a mere thread of another one.
        Err(Errno::SRCH | Errno::INVAL) => return true,
        Err(_) => return false,
    };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    if matches!(
        poll(
            &mut ended,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0
            })
        ),
        Ok(1)
    ) {
        return true;
    }
    let same_clock = who.time_namespace == inode("/proc/self/ns/time");
    let start = start_time(&who.pid.to_string());
    same_clock && who.start != 0 && start.is_some_and(|start| start != who.start)
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets, so count from its last bracket.
fn start_time(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The inode of a namespace; 0 if /proc does not tell.
fn inode(path: &str) -> u64 {
    rustix::fs::stat(path).map_or(0, |stat| stat.st_ino)
}

/// The first eight bytes of the boot id; 0 if /proc does not tell.
fn boot() -> u64 {
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
