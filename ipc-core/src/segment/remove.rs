//! Taking a name away from a segment, giving it to another, and adopting a copy.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::segment::create::{own, random, set_aside};
use crate::segment::draft::{BUILDER, Draft};
use crate::segment::header::{Access, HEADER_LEN, HEADER_PAGE, MAGIC, field, state};
use crate::segment::place::{Place, Spot, reopen};
use crate::segment::trust::{self, Trust};
use crate::segment::{Segment, SegmentError, open};
use crate::sys::{self, lock};

/// How long to wait for somebody else who adopts the same file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Removes the name at `place`.
pub(crate) fn unlink(place: Place, trust: Trust) -> Result<(), SegmentError> {
    let spot = match Spot::find(place, trust, false)? {
        Ok(spot) => spot,
        Err(_) => return Ok(()),
    };
    let Some(old) = to_be_removed(&spot)? else {
        return Err(SegmentError::NotFound { path: spot.path });
    };
    match unlinkat(&spot.directory, spot.name.as_str(), AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Err(SegmentError::NotFound { path: spot.path }),
        Err(error) => return Err(SegmentError::io("remove", &spot.path, error)),
    }
    retire(&old);
    Ok(())
}

/// What has the name now, if it is a segment, damaged perhaps. Anything else is not ours to remove.
pub(crate) fn to_be_removed(spot: &Spot) -> Result<Option<File>, SegmentError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match openat(&spot.directory, spot.name.as_str(), flags, Mode::empty()) {
        Ok(found) => File::from(found),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(SegmentError::io("open", &spot.path, error)),
    };
    let failed = |error| SegmentError::io("examine", &spot.path, error);
    if !found.metadata().map_err(failed)?.is_file() {
        let fault = "it is not a regular file, and so not removed".to_owned();
        return Err(SegmentError::NotTrusted {
            path: spot.path.clone(),
            fault,
        });
    }
    let mut magic = [0; 8];
    // A segment of the other byte order is one as well; one that is too short was one, perhaps.
    let file = reopen(&found, Access::ReadOnly).map_err(failed)?;
    file.read_exact_at(&mut magic, 0).unwrap_or_default();
    match u64::from_ne_bytes(magic) {
        MAGIC => Ok(Some(found)),
        swapped if swapped == MAGIC.swap_bytes() => Ok(Some(found)),
        found => Err(SegmentError::NoSegment { found }),
    }
}

/// Tells whoever has the segment open that its name is gone. If it cannot be told, the count of its names says so as well.
pub(crate) fn retire(old: &File) {
    let Ok(file) = reopen(old, Access::ReadWrite) else {
        return;
    };
    let gone = file.metadata().is_ok_and(|file| file.nlink() == 0);
    if gone && open::read_file(&file, "the old segment".as_ref(), Access::ReadWrite).is_ok() {
        // Beside the mapping, since the old segment may be damaged in ways that only mapping it would show. The word can
        // hold SYNC_FAILED too, which is kept; that both change at once does no harm, since each is told otherwise too.
        let mut word = [0; 4];
        let at = field::STATE as u64;
        if file.read_exact_at(&mut word, at).is_ok() {
            let word = u32::from_ne_bytes(word) | state::RETIRED;
            let _ = file.write_all_at(&word.to_ne_bytes(), at);
        }
    }
}

/// Makes the copy at `place` a segment of its own.
pub(crate) fn adopt(place: Place, trust: Trust) -> Result<Segment, SegmentError> {
    let spot = match Spot::find(place, trust, false)? {
        Ok(spot) => spot,
        Err(place) => {
            return Err(SegmentError::BadName {
                name: place.to_string(),
                fault: "only a file can be a copy",
            });
        }
    };
    let old = open_alone(&spot)?;
    let (mut header, _) = open::read_file(&old, &spot.path, Access::ReadWrite)?;
    if trust::copied(&header.origin, &trust::origin(&old)).is_none() {
        return open::open_spot(&spot);
    }
    // A new file, since the bytes of a segment that has a name never change.
    let draft = Draft::new(&spot)?;
    let failed = |error| SegmentError::io("copy", &spot.path, error);
    set_aside(
        &draft.file,
        header.total_len,
        &spot.path.display().to_string(),
    )?;
    header.origin = trust::origin(&draft.file);
    header.uuid = random()?;
    header.adoptions = header.adoptions.saturating_add(1);
    header.creator = sys::process::identity();
    let mut page = [0; HEADER_PAGE];
    let mut written = [0; HEADER_LEN];
    old.read_exact_at(&mut written, 0).map_err(failed)?;
    page[..HEADER_LEN].copy_from_slice(&header.encode_over(written));
    draft.file.write_all_at(&page, 0).map_err(failed)?;
    copy(&old, &draft.file, HEADER_PAGE as u64, header.total_len).map_err(failed)?;
    let metadata = old.metadata().map_err(failed)?;
    own(&draft.file, Some(metadata.gid()), metadata.mode() & 0o777)
        .and_then(|()| draft.file.sync_all())
        .map_err(failed)?;
    draft.replace()?;
    open::open_spot(&spot)
}

/// What has the name now, with its builder byte: of two that adopt the same copy, the second one then finds what the
/// first one made of it, and not the copy, of which it would make another successor that counts as the first one does.
fn open_alone(spot: &Spot) -> Result<File, SegmentError> {
    let begun = Instant::now();
    loop {
        let file = spot.open(Access::ReadWrite)?;
        let failed = |error| SegmentError::io("lock", &spot.path, error);
        if lock::try_lock(&file, BUILDER).map_err(failed)? {
            let identity = |file: &File| file.metadata().map(|file| (file.dev(), file.ino()));
            let failed = |error| SegmentError::io("examine", &spot.path, error);
            let ours = identity(&file).map_err(failed)?;
            if identity(&spot.open(Access::ReadWrite)?).map_err(failed)? == ours {
                return Ok(file);
            }
            // Else the name has gone to another file meanwhile.
        }
        if begun.elapsed() > PATIENCE {
            return Err(SegmentError::Io {
                what: format!(
                    "adopt {}, which another process has been adopting for a minute",
                    spot.path.display()
                ),
                error: std::io::ErrorKind::TimedOut.into(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copies the bytes between two offsets.
fn copy(from: &File, to: &File, mut at: u64, end: u64) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    while at < end {
        let len = piece.len().min((end - at) as usize);
        from.read_exact_at(&mut piece[..len], at)?;
        to.write_all_at(&piece[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
