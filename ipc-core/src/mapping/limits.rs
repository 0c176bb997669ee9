//! The sizes and limits of this machine and process, read when they are asked for.

use std::{fmt, fs, io};

use rustix::process::{Resource, getrlimit};

use super::MapError;
use crate::sys::mm;

/// The size of a page, in bytes: the unit of every mapping. Asked of the kernel at run time.
pub fn page_size() -> usize {
    mm::page_size()
}

/// The size of a huge page, in bytes, if this machine has any kind of them.
pub fn huge_page_size() -> Option<usize> {
    kibibytes("/proc/meminfo", "Hugepagesize:").and_then(|bytes| usize::try_from(bytes).ok())
}

/// How the kernel decides whether to promise more memory than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcommit {
    /// `vm.overcommit_memory`: 0 refuses obvious excess, 1 refuses nothing, 2 keeps to the limit.
    pub mode: u8,
    /// The limit that counts in mode 2, in bytes.
    pub limit: u64,
    /// What is promised so far, in bytes.
    pub committed: u64,
}

impl fmt::Display for Overcommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overcommit {
            mode,
            limit,
            committed,
        } = self;
        match mode {
            0 => f.write_str(
                "vm.overcommit_memory is 0, which refuses what obviously exceeds memory and swap; .no_reserve() takes the \
                 mapping out of that account",
            ),
            1 => f.write_str("vm.overcommit_memory is 1, which refuses nothing for want of memory"),
            _ => write!(
                f,
                "vm.overcommit_memory is {mode}: {committed} bytes are promised of a limit of {limit} bytes, and \
                 .no_reserve() changes nothing"
            ),
        }
    }
}

/// Reads the machine's overcommit mode and account.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn overcommit() -> io::Result<Overcommit> {
    let text = fs::read_to_string("/proc/sys/vm/overcommit_memory")?;
    let mode = text
        .trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let account =
        |key| kibibytes("/proc/meminfo", key).ok_or(io::Error::from(io::ErrorKind::InvalidData));
    Ok(Overcommit {
        mode,
        limit: account("CommitLimit:")?,
        committed: account("Committed_AS:")?,
    })
}

/// The error for a refused call that takes memory or addresses: says which limit it was, as far as can be told.
pub(super) fn refused(call: &'static str, len: usize, source: io::Error) -> MapError {
    if source.raw_os_error() != Some(libc::ENOMEM) {
        return MapError::Os {
            call,
            what: format!("a mapping of {len} bytes"),
            source,
        };
    }
    let mut why = Vec::new();
    if let Some(limit) = getrlimit(Resource::As).current {
        let used = kibibytes("/proc/self/status", "VmSize:").unwrap_or(0);
        if used.saturating_add(len as u64) > limit {
            why.push(format!(
                "the limit RLIMIT_AS is {limit} bytes of addresses, of which {used} are in use"
            ));
        }
    }
    if let Some(limit) = most_mappings() {
        let used = fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
        if used + 1 >= limit {
            why.push(format!(
                "vm.max_map_count allows {limit} mappings, of which {used} are in use"
            ));
        }
    }
    if why.is_empty() {
        why.push(overcommit().map_or_else(
            |_| "out of memory or of addresses".into(),
            |o| o.to_string(),
        ));
    }
    MapError::Refused {
        len,
        why: why.join("; "),
    }
}

fn most_mappings() -> Option<usize> {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The error for a refused lock: names the limit where it is the limit.
pub(super) fn lock_refused(asked: usize, source: io::Error) -> MapError {
    let limit = getrlimit(Resource::Memlock).current;
    let locked = kibibytes("/proc/self/status", "VmLck:").unwrap_or(0);
    match (source.raw_os_error(), limit) {
        (Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN), Some(limit))
            if locked.saturating_add(asked as u64) > limit =>
        {
            MapError::LockLimit {
                asked,
                limit,
                locked,
            }
        }
        _ => MapError::Os {
            call: "mlock",
            what: format!("{asked} bytes"),
            source,
        },
    }
}

/// The memory that is to be had without taking it from others, swap included, in bytes.
pub(super) fn available_memory() -> Option<u64> {
    let memory = kibibytes("/proc/meminfo", "MemAvailable:")?;
    Some(memory + kibibytes("/proc/meminfo", "SwapFree:").unwrap_or(0))
}

/// How much this process has mapped, in bytes.
pub(super) fn mapped_bytes() -> usize {
    kibibytes("/proc/self/status", "VmSize:")
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(0)
}

/// The number of bytes that a file of `/proc` gives in kibibytes in the line that begins with `key`.
fn kibibytes(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}
