//! Byte locks of an open file description (`F_OFD_SETLK`): the kernel frees them with its last descriptor.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_RDLCK, F_UNLCK, F_WRLCK, SEEK_SET, flock};

/// Tries to lock the byte for writing. `Ok(false)` if another open file description holds it.
pub(crate) fn try_lock(fd: impl AsFd, byte: u64) -> io::Result<bool> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&request(F_WRLCK, byte))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Unlocks the byte.
pub(crate) fn unlock(fd: impl AsFd, byte: u64) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_OFD_SETLK(&request(F_UNLCK, byte)))?;
    Ok(())
}

/// Whether another open file description holds the byte. Works on a read-only descriptor, and locks nothing.
pub(crate) fn is_locked(fd: impl AsFd, byte: u64) -> io::Result<bool> {
    let mut answer = request(F_RDLCK, byte);
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut answer))?;
    Ok(answer.l_type != F_UNLCK as i16)
}

fn request(kind: i32, byte: u64) -> flock {
    flock {
        l_type: kind as i16,
        l_whence: SEEK_SET as i16,
        l_start: byte as i64,
        l_len: 1,
        l_pid: 0,
    }
}
