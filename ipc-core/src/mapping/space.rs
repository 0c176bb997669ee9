//! Blocks set aside on the file system before they are mapped.
//!
//! A mapped file with holes takes its blocks when a store touches them; when the file system is full by then, the store
//! raises SIGBUS. So whatever a segment or a growing file will hold is allocated when it is made.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstat, fstatvfs, ftruncate},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{MapError, limits};

/// The smallest piece that is tried when signals keep interrupting.
const SMALLEST: u64 = 64 << 10;

/// Makes `file` at least `len` bytes long with every block of them allocated; a longer file keeps its length.
///
/// `path` names the file in messages. When it fails, the file has the length that it had.
///
/// # Errors
///
/// [`MapError::NoSpace`] with what is free, [`MapError::FileSizeLimit`] instead of the signal that would have come, and
/// [`MapError::Os`] where the file system cannot set blocks aside.
pub(crate) fn reserve(file: &impl AsFd, len: u64, path: &str) -> Result<(), MapError> {
    let file = file.as_fd();
    let os = |call, source: Errno| MapError::Os {
        call,
        what: path.into(),
        source: source.into(),
    };
    // Beyond this limit the kernel sends SIGXFSZ, which ends the process.
    if let Some(limit) = getrlimit(Resource::Fsize)
        .current
        .filter(|limit| len > *limit)
    {
        return Err(MapError::FileSizeLimit {
            path: path.into(),
            asked: len,
            limit,
        });
    }
    // The file system of memory files has no size of its own: it would take memory until the kernel ends processes.
    let unlimited = fstatvfs(file).is_ok_and(|fs| fs.f_blocks == 0);
    if let Some(free) = limits::available_memory().filter(|free| unlimited && len > *free) {
        return Err(MapError::NoSpace {
            path: path.into(),
            asked: len,
            free,
        });
    }
    let before = fstat(file).map_err(|error| os("fstat", error))?.st_size as u64;
    allocate(file, len).map_err(|error| {
        if fstat(file).is_ok_and(|now| now.st_size as u64 > before) {
            // What was added is taken back; failing at that too would change nothing about the error.
            let _ = ftruncate(file, before);
        }
        match error {
            Errno::NOSPC | Errno::DQUOT => {
                // The superuser may use a little more than others.
                let free = fstatvfs(file).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
                MapError::NoSpace {
                    path: path.into(),
                    asked: len,
                    free,
                }
            }
            Errno::OPNOTSUPP => os("fallocate (which this file system does not offer)", error),
            _ => os("fallocate", error),
        }
    })
}

/// Allocates the first `len` bytes. On tmpfs a signal undoes the whole call, so an interrupted one is tried in halves.
fn allocate(file: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    let (mut done, mut piece) = (0, len);
    while done < len {
        match fallocate(file, FallocateFlags::empty(), done, piece.min(len - done)) {
            Ok(()) => done += piece.min(len - done),
            Err(Errno::INTR) => piece = (piece / 2).max(SMALLEST),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The error of a call on a file.
pub(super) fn os(call: &'static str, file: &str, source: impl Into<io::Error>) -> MapError {
    MapError::Os {
        call,
        what: file.into(),
        source: source.into(),
    }
}
