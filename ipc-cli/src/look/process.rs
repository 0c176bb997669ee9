//! What the kernel tells of another process, without touching it: its name, whether it is stopped, and on which shared
//! words it sleeps.
//!
//! `/proc/PID/syscall` names the system call that a thread is in, and its arguments. A thread in `futex` sleeps on the
//! word at the first; `/proc/PID/maps` tells which file lies there. So it is seen who waits, and for what, without a word
//! in shared memory for it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The most threads of one process that are looked at.
const THREADS: usize = 256;

/// `futex_waitv`, the same number on every architecture.
const WAITV: u64 = 449;

/// The file that a segment lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// The inode of our pid namespace, as in the identity of a participant.
pub(crate) fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// The name of the program, if the process is there.
pub(crate) fn command(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(crate::show::plain(name.trim_end()))
}

/// Whether all of it is stopped, by a signal or a debugger.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may hold anything.
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with(['T', 't']))
}

/// The offsets in the file of the words that its threads sleep on. `None` where the system does not tell.
pub(crate) fn sleeps_on(pid: u32, file: FileId) -> Option<Vec<u64>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut addresses = Vec::new();
    let mut told = false;
    for task in tasks.take(THREADS).flatten() {
        let Ok(call) = std::fs::read_to_string(task.path().join("syscall")) else {
            continue;
        };
        told = true;
        addresses.extend(words(&call, pid));
    }
    if !told {
        return None;
    }
    if addresses.is_empty() {
        return Some(Vec::new());
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let places: Vec<Mapped> = maps.lines().filter_map(Mapped::parse).collect();
    let find = |address: u64| {
        let place = places
            .iter()
            .find(|place| (place.begin..place.end).contains(&address))?;
        (place.file == file).then(|| place.offset + (address - place.begin))
    };
    Some(addresses.into_iter().filter_map(find).collect())
}

/// The addresses of the words that the call sleeps on: `202 0x7f… …`, the number and its arguments.
fn words(call: &str, pid: u32) -> Vec<u64> {
    let mut parts = call.split_whitespace();
    let number = parts.next().and_then(|text| text.parse::<u64>().ok());
    let arguments: Vec<u64> = parts.filter_map(hexadecimal).collect();
    match (number, &arguments[..]) {
        (Some(number), [address, operation, ..]) if number == futex() => {
            // FUTEX_WAIT and FUTEX_WAIT_BITSET, private or not; everything else wakes.
            match operation & 0x7f {
                0 | 9 => vec![*address],
                _ => Vec::new(),
            }
        }
        (Some(WAITV), [list, count, ..]) => waiters(pid, *list, (*count).min(128)),
        _ => Vec::new(),
    }
}

fn futex() -> u64 {
    nix::libc::SYS_futex as u64
}

/// The addresses in the list that `futex_waitv` was given: 24 bytes each, the address behind the expected value.
fn waiters(pid: u32, list: u64, count: u64) -> Vec<u64> {
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else {
        return Vec::new();
    };
    let address = |index: u64| {
        let mut word = [0; 8];
        let at = list.checked_add(index * 24 + 8)?;
        memory.read_exact_at(&mut word, at).ok()?;
        Some(u64::from_ne_bytes(word))
    };
    (0..count).map_while(address).collect()
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    begin: u64,
    end: u64,
    offset: u64,
    file: FileId,
}

impl Mapped {
    /// `7f00-7f10 rw-s 00000000 00:1a 42 /dev/shm/x`
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split_whitespace();
        let (begin, end) = parts.next()?.split_once('-')?;
        let offset = parts.nth(1)?;
        let (major, minor) = parts.next()?.split_once(':')?;
        let inode = parts.next()?.parse().ok()?;
        let device = nix::libc::makedev(
            hexadecimal(major)? as nix::libc::c_uint,
            hexadecimal(minor)? as nix::libc::c_uint,
        );
        Some(Self {
            begin: hexadecimal(begin)?,
            end: hexadecimal(end)?,
            offset: hexadecimal(offset)?,
            file: FileId { device, inode },
        })
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch lines of the kernel that are read wrongly: then nobody would ever be seen to wait.
    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "7f00-7f10 rw-s 00001000 00:1a 42       /dev/shm/a name";
        let mapped = Mapped::parse(line).expect("a line of a file");
        assert_eq!(
            (mapped.begin, mapped.end, mapped.offset),
            (0x7f00, 0x7f10, 0x1000)
        );
        assert_eq!(mapped.file.inode, 42);
        assert_eq!(mapped.file.device, nix::libc::makedev(0, 0x1a));
        assert_eq!(Mapped::parse("rubbish"), None);

        let wait = format!("{} 0x7f08 0x0 0x1 0x0 0x0 0x0 0x1 0x2", futex());
        assert_eq!(words(&wait, 1), [0x7f08]);
        let wake = format!("{} 0x7f08 0x1 0x1 0x0 0x0 0x0 0x1 0x2", futex());
        assert_eq!(words(&wake, 1), [0u64; 0]);
        assert_eq!(words("running", 1), [0u64; 0]);
    }
}
