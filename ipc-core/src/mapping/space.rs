//! Blocks set aside on the file system before they are mapped.
//!
//! A mapped file with holes takes its blocks when a store touches them; when the file system is full by then, the store
//! raises SIGBUS. So whatever a segment or a growing file will hold is allocated when it is made.

use std::{io, os::fd::AsFd};

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
    let filled = allocate(len, |offset, len| {
        fallocate(file, FallocateFlags::empty(), offset, len)
    });
    filled.map_err(|error| {
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

/// Allocates the first `len` bytes by `call`, which takes an offset and a length.
///
/// A signal may interrupt a call, and on tmpfs what an interrupted call did is undone. So what is interrupted is tried again
/// in halves, and what is done stays done.
fn allocate(len: u64, mut call: impl FnMut(u64, u64) -> Result<(), Errno>) -> Result<(), Errno> {
    let (mut done, mut piece) = (0, len);
    while done < len {
        match call(done, piece.min(len - done)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_come_to_an_end() {
        // Catches a loop that begins anew at each signal, as on tmpfs of older kernels, and a gap between two pieces.
        let len = 100 << 20;
        let (mut end, mut calls) = (0, 0);
        let done = allocate(len, |offset, len| {
            calls += 1;
            if len > 3 << 20 || calls % 3 == 0 {
                return Err(Errno::INTR);
            }
            assert_eq!(offset, end, "a piece begins where the one before ended");
            end += len;
            Ok(())
        });
        assert_eq!((done, end), (Ok(()), len));
    }

    #[test]
    fn other_errors_end_it() {
        // Catches an error that is taken for a signal: the loop would not end.
        assert_eq!(
            allocate(1 << 20, |_, _| Err(Errno::NOSPC)),
            Err(Errno::NOSPC)
        );
    }
}
