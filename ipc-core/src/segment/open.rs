//! Opening a segment: everything is checked before anything is used.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::io::Errno;

use crate::MapOptions;
use crate::mapped::Mapped;
use crate::segment::directory::{self, ENTRY_LEN, Entry};
use crate::segment::header::{HEADER_LEN, HEADER_PAGE, Header};
use crate::segment::place::{Place, Spot};
use crate::segment::{Segment, SegmentError};

/// Opens what is at `place`.
pub(crate) fn open(place: Place) -> Result<Segment, SegmentError> {
    let spot = match place {
        Place::Name(name) => Spot::named(&name, false)?,
        Place::Path(path) => Spot::at(&path)?,
        Place::Fd(file) => return attach(file, None),
        Place::Memfd(_) | Place::Anonymous => {
            return Err(SegmentError::BadName {
                name: place.to_string(),
                fault: "it has no name to be found by; pass its descriptor, or fork",
            });
        }
    };
    open_spot(&spot)
}

pub(crate) fn open_spot(spot: &Spot) -> Result<Segment, SegmentError> {
    let file = match spot.open(OFlags::RDWR) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SegmentError::NotFound {
                path: spot.path.clone(),
            });
        }
        Err(error) => return Err(SegmentError::io("open", &spot.path, error)),
    };
    attach(file, Some(spot.path.clone()))
}

/// Removes the name at `place`.
pub(crate) fn unlink(place: Place) -> Result<(), SegmentError> {
    let spot = match place {
        Place::Name(name) => Spot::named(&name, false)?,
        Place::Path(path) => Spot::at(&path)?,
        Place::Fd(_) | Place::Memfd(_) | Place::Anonymous => return Ok(()),
    };
    match unlinkat(&spot.directory, spot.name.as_str(), AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(SegmentError::NotFound { path: spot.path }),
        Err(error) => Err(SegmentError::io("remove", &spot.path, error)),
    }
}

/// Checks the file and maps it.
fn attach(file: OwnedFd, path: Option<PathBuf>) -> Result<Segment, SegmentError> {
    let file = File::from(file);
    let shown = path
        .clone()
        .unwrap_or_else(|| format!("descriptor {}", file.as_raw_fd()).into());
    let len = trusted_len(&file, &shown)?;
    let (header, entries) = read(&file, len, &shown)?;
    let mapping = MapOptions::new()
        .len(len as usize)
        .map_file(&file)
        .map_err(|error| SegmentError::io("map", &shown, error))?;
    let locks = reopen(&file)?;
    Segment::assemble(
        Mapped::new(mapping, locks),
        file.into(),
        path,
        header,
        entries,
    )
}

/// The size of a file that can be a segment.
fn trusted_len(file: &File, shown: &Path) -> Result<u64, SegmentError> {
    let metadata = file
        .metadata()
        .map_err(|error| SegmentError::io("examine", shown, error))?;
    let fault = |fault: String| SegmentError::NotTrusted {
        path: shown.to_owned(),
        fault,
    };
    if !metadata.is_file() {
        return Err(fault("it is not a regular file".into()));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && user != 0 {
        return Err(fault(format!(
            "it belongs to user {}, not to {user}",
            metadata.uid()
        )));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(fault(format!(
            "anybody may write to it (mode {:04o})",
            metadata.mode() & 0o7777
        )));
    }
    Ok(metadata.len())
}

/// Reads and checks header, directory and schema, by copies, in the order that gives each kind of damage its own error.
fn read(file: &File, len: u64, shown: &Path) -> Result<(Header, Vec<Entry>), SegmentError> {
    if len < HEADER_PAGE as u64 {
        return Err(SegmentError::TooShort {
            found: len,
            expected: HEADER_PAGE as u64,
        });
    }
    let failed = |error| SegmentError::io("read", shown, error);
    let mut page = [0; HEADER_LEN];
    file.read_exact_at(&mut page, 0).map_err(failed)?;
    let header = Header::decode(&page, len)?;
    let directory_len = header.objects as usize * ENTRY_LEN;
    let mut rest = vec![0; directory_len];
    file.read_exact_at(&mut rest, header.directory_offset)
        .map_err(failed)?;
    let mut schema = vec![0; header.schema_len as usize];
    file.read_exact_at(&mut schema, header.schema_offset)
        .map_err(failed)?;
    rest.extend_from_slice(&schema);
    header.verify(&page, &rest, len)?;
    let entries = directory::decode(&rest[..directory_len], &schema, header.total_len)?;
    Ok((header, entries))
}

/// A file description of our own for the file, so that its locks are ours alone.
pub(crate) fn reopen(file: &impl AsFd) -> Result<OwnedFd, SegmentError> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| SegmentError::io("reopen (is /proc mounted?)", &path, error))
}
