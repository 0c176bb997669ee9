//! Files that are complete before they have a name.
//!
//! A draft is a file without a name (`O_TMPFILE`), linked into place in one step when it is done. Where the file system
//! has no such files, and where it shall take the place of another, it has a temporary name for a while:
//! `.NAME.16-hex-digits.new`, which is then renamed. Whoever builds it holds its *builder byte* meanwhile, so that what a
//! kill left behind can be told from what is being built: the next creator removes it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;

use crate::segment::SegmentError;
use crate::segment::place::Spot;
use crate::sys::lock;

/// The byte that the builder of a file with a temporary name holds, and whoever adopts a copy, of the copy.
pub(super) const BUILDER: u64 = 1 << 40;

/// A file on its way to a name.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    spot: &'a Spot,
    pub(crate) file: File,
    temporary: Option<String>,
}

impl<'a> Draft<'a> {
    /// A new empty file beside where it shall be. Removes what the dead left behind there.
    pub(crate) fn new(spot: &'a Spot) -> Result<Self, SegmentError> {
        sweep(spot);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(&spot.directory, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self {
                spot,
                file: file.into(),
                temporary: None,
            }),
            // What kernels and file systems say that do not know unnamed files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Self::named(spot),
            Err(error) => Err(SegmentError::io("create a file for", &spot.path, error)),
        }
    }

    /// A new empty file with a temporary name.
    fn named(spot: &'a Spot) -> Result<Self, SegmentError> {
        loop {
            let name = temporary_name(spot)?;
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
            let file = match openat(
                &spot.directory,
                name.as_str(),
                flags,
                Mode::RUSR | Mode::WUSR,
            ) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(SegmentError::io("create a file for", &spot.path, error)),
            };
            // Before the lock was ours, another creator may have taken the file for a dead one's.
            let ours = lock::try_lock(&file, BUILDER)
                .map_err(|error| SegmentError::io("lock", &spot.path, error))?;
            if ours && file.metadata().is_ok_and(|file| file.nlink() == 1) {
                return Ok(Self {
                    spot,
                    file,
                    temporary: Some(name),
                });
            }
        }
    }

    /// Gives the file its name, which must be free.
    pub(crate) fn publish(mut self) -> Result<(), SegmentError> {
        let Spot {
            directory,
            name,
            path,
            ..
        } = self.spot;
        let named = match &self.temporary {
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(
                    rustix::fs::CWD,
                    unnamed,
                    directory,
                    name.as_str(),
                    AtFlags::SYMLINK_FOLLOW,
                )
            }
            Some(temporary) => {
                let renamed = renameat_with(
                    directory,
                    temporary.as_str(),
                    directory,
                    name.as_str(),
                    RenameFlags::NOREPLACE,
                );
                match renamed {
                    Ok(()) => {
                        self.temporary = None;
                        Ok(())
                    }
                    // This file system cannot rename without replacing. It may link; the drop removes the other name.
                    Err(Errno::INVAL) => linkat(
                        directory,
                        temporary.as_str(),
                        directory,
                        name.as_str(),
                        AtFlags::empty(),
                    ),
                    Err(error) => Err(error),
                }
            }
        };
        match named {
            Ok(()) => self.settle(),
            Err(Errno::EXIST) => Err(SegmentError::Exists { path: path.clone() }),
            Err(error) => Err(SegmentError::io("name the new segment", path, error)),
        }
    }

    /// Gives the file its name, taking it from whatever has it.
    pub(crate) fn replace(mut self) -> Result<(), SegmentError> {
        let Spot {
            directory,
            name,
            path,
            ..
        } = self.spot;
        let failed = |error: Errno| SegmentError::io("name the new segment", path, error);
        if self.temporary.is_none() {
            // Locked before it has the name, so that nobody takes it for a dead one's.
            lock::try_lock(&self.file, BUILDER)
                .map_err(|error| SegmentError::io("lock", path, error))?;
            let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let temporary = temporary_name(self.spot)?;
            linkat(
                rustix::fs::CWD,
                unnamed,
                directory,
                temporary.as_str(),
                AtFlags::SYMLINK_FOLLOW,
            )
            .map_err(failed)?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            renameat(directory, temporary.as_str(), directory, name.as_str()).map_err(failed)?;
        }
        self.temporary = None;
        self.settle()
    }

    /// Waits until the name is on the disk.
    fn settle(self) -> Result<(), SegmentError> {
        // Nobody takes the file for a dead one's any more.
        let _ = lock::unlock(&self.file, BUILDER);
        sync_directory(self.spot)
    }
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(spot: &Spot) -> Result<(), SegmentError> {
    match fsync(&spot.directory) {
        // A directory that we may search but not read cannot be synced, nor one on some file systems of the network.
        Ok(()) | Err(Errno::BADF | Errno::INVAL | Errno::ROFS) => Ok(()),
        Err(error) => Err(SegmentError::io(
            "write back the directory of",
            &spot.path,
            error,
        )),
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Failing leaves a hidden file, which the next creator removes.
            let _ = unlinkat(&self.spot.directory, temporary.as_str(), AtFlags::empty());
        }
    }
}

fn temporary_name(spot: &Spot) -> Result<String, SegmentError> {
    let digits = u64::from_ne_bytes(super::create::random()?);
    Ok(format!(".{}.{digits:016x}.new", spot.name))
}

/// Whether `name` is a temporary one for `spot`.
fn is_temporary(spot: &Spot, name: &[u8]) -> bool {
    let digits = name
        .strip_prefix(b".")
        .and_then(|name| name.strip_prefix(spot.name.as_bytes()));
    let digits = digits
        .and_then(|name| name.strip_prefix(b"."))
        .and_then(|name| name.strip_suffix(b".new"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Removes the temporary files for `spot` that nobody builds any more. What cannot be removed stays.
pub(crate) fn sweep(spot: &Spot) {
    let Ok(entries) = Dir::read_from(&spot.directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_temporary(spot, name.to_bytes()) {
            continue;
        }
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(file) = openat(&spot.directory, name, flags, Mode::empty()) else {
            continue;
        };
        if lock::try_lock(&file, BUILDER).unwrap_or(false) {
            let _ = unlinkat(&spot.directory, name, AtFlags::empty());
        }
    }
}
