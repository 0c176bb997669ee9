//! Opening a segment: everything is checked before anything is used.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::MapOptions;
use crate::mapped::Mapped;
use crate::segment::directory::{self, ENTRY_LEN, Entry};
use crate::segment::header::{Access, HEADER_LEN, HEADER_PAGE, Header};
use crate::segment::place::{Place, Spot, reopen};
use crate::segment::trust::{self, Trust};
use crate::segment::{Parts, Segment, SegmentError, SegmentView};

/// Opens what is at `place`.
pub(crate) fn open(place: Place, trust: Trust) -> Result<Segment, SegmentError> {
    let (file, path) = find(place, trust, Access::ReadWrite)?;
    let (mapped, parts) = attach(file, path, Access::ReadWrite)?;
    Segment::assemble(mapped, parts)
}

/// Opens what is at `place`, for reading only.
pub(crate) fn open_read_only(place: Place, trust: Trust) -> Result<SegmentView, SegmentError> {
    let (file, path) = find(place, trust, Access::ReadOnly)?;
    let (mapped, parts) = attach(file, path, Access::ReadOnly)?;
    SegmentView::assemble(mapped, parts)
}

pub(crate) fn open_spot(spot: &Spot) -> Result<Segment, SegmentError> {
    let file = spot.open(Access::ReadWrite)?;
    let (mapped, parts) = attach(file, Some(spot.path.clone()), Access::ReadWrite)?;
    Segment::assemble(mapped, parts)
}

/// The file at `place`, if it may be trusted.
fn find(
    place: Place,
    trust: Trust,
    access: Access,
) -> Result<(File, Option<PathBuf>), SegmentError> {
    match Spot::find(place, trust, false)? {
        Ok(spot) => Ok((spot.open(access)?, Some(spot.path))),
        Err(Place::Fd(file)) => {
            let file = File::from(file);
            trust::check_received(&file, &trust, &shown(&file))?;
            Ok((file, None))
        }
        Err(place) => Err(SegmentError::BadName {
            name: place.to_string(),
            fault: "it has no name to be found by; pass its descriptor, or fork",
        }),
    }
}

/// How messages name a file that came without a name.
fn shown(file: &File) -> PathBuf {
    format!("descriptor {}", file.as_raw_fd()).into()
}

/// Checks what the file holds, and maps it.
fn attach(
    file: File,
    path: Option<PathBuf>,
    access: Access,
) -> Result<(Mapped, Parts), SegmentError> {
    let shown = path.clone().unwrap_or_else(|| shown(&file));
    let (header, entries) = read_file(&file, &shown, access)?;
    if let Some(fault) = trust::copied(&header.origin, &trust::origin(&file)) {
        return Err(SegmentError::Copied { path: shown, fault });
    }
    let options = MapOptions::new()
        .guard_pages()
        .len(header.total_len as usize);
    let options = if access == Access::ReadOnly {
        options.read_only()
    } else {
        options
    };
    let mapping = options.map_file(&file)?;
    let locks = reopen(&file, access)
        .map_err(|error| SegmentError::io("open a second time", &shown, error))?;
    let warnings = path
        .as_ref()
        .and_then(|path| trust::file_system_warning(&file, path))
        .into_iter()
        .collect();
    Ok((
        Mapped::new(mapping, locks.into()),
        Parts {
            file: file.into(),
            path,
            header,
            entries,
            warnings,
        },
    ))
}

/// Reads and checks what a file says of itself.
pub(crate) fn read_file(
    file: &File,
    shown: &Path,
    access: Access,
) -> Result<(Header, Vec<Entry>), SegmentError> {
    let failed = |error| SegmentError::io("read", shown, error);
    let len = file.metadata().map_err(failed)?.len();
    read(len, access, |into, at| match file.read_exact_at(into, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let found = file.metadata().map_err(failed)?.len();
            Err(SegmentError::WrongSize {
                found,
                expected: len,
            })
        }
        other => other.map_err(failed),
    })
}

/// Reads and checks what the bytes of a whole segment say of themselves: a backup, say, or a core dump. Whether they are a
/// copy does not matter.
///
/// # Errors
///
/// As [`Segment::open_read_only`].
pub fn parse(bytes: &[u8]) -> Result<(Header, Vec<Entry>), SegmentError> {
    let len = bytes.len() as u64;
    read(len, Access::ReadOnly, |into, at| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let from = at
            .checked_add(into.len())
            .and_then(|end| bytes.get(at..end));
        into.copy_from_slice(from.ok_or(SegmentError::WrongSize {
            found: len,
            expected: len,
        })?);
        Ok(())
    })
}

/// Copies header, directory and schema out by `copy`, each once, and checks them in the order that gives each kind of
/// damage its own error.
fn read(
    len: u64,
    access: Access,
    copy: impl Fn(&mut [u8], u64) -> Result<(), SegmentError>,
) -> Result<(Header, Vec<Entry>), SegmentError> {
    if len < HEADER_PAGE as u64 {
        return Err(SegmentError::TooShort {
            found: len,
            expected: HEADER_PAGE as u64,
        });
    }
    let mut page = [0; HEADER_LEN];
    copy(&mut page, 0)?;
    let header = Header::decode(&page, len, access)?;
    let directory_len = header.objects as usize * ENTRY_LEN;
    // Both are bounded by `decode`.
    let mut contents = vec![0; directory_len + header.schema_len as usize];
    copy(&mut contents, header.directory_offset)?;
    header.verify_contents(&contents)?;
    let (directory, schema) = contents.split_at(directory_len);
    let entries = directory::decode(directory, schema, &header)?;
    Ok((header, entries))
}
