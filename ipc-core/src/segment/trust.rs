//! Which files may be segments: whose they are, who may write to them, and whether they are what was made.

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, SealFlags, StatxFlags, fcntl_get_seals, fstatfs, statx};

use crate::segment::SegmentError;
use crate::segment::header::Origin;
use crate::sys;

/// Whose files are trusted, beside those of the caller and of root.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust {
    /// A user, for tools that look at the segments of others.
    pub(crate) owner: Option<u32>,
    /// A group, whose members may also write.
    pub(crate) group: Option<u32>,
}

impl Trust {
    /// Checks what kind of file it is, whose, and who may write to it.
    pub(crate) fn check(&self, metadata: &Metadata, path: &Path) -> Result<(), SegmentError> {
        let refused = |fault: String| {
            Err(SegmentError::NotTrusted {
                path: path.to_owned(),
                fault,
            })
        };
        if let Some(what) = not_regular(metadata) {
            return refused(format!("it is {what}, not a regular file"));
        }
        let (mode, group) = (metadata.mode() & 0o7777, metadata.gid());
        if mode & 0o002 != 0 {
            return refused(format!(
                "anybody may write to it (mode {mode:04o}); run: chmod o-w {}",
                path.display()
            ));
        }
        if mode & 0o020 != 0 && self.group != Some(group) {
            return refused(format!(
                "group {group} may write to it (mode {mode:04o}); if that is meant, say so by \
                 SegmentOptions::group({group}) or Place::group, else run: chmod g-w {}",
                path.display()
            ));
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        let trusted =
            owner == user || owner == 0 || self.owner == Some(owner) || self.group == Some(group);
        if !trusted {
            return refused(format!(
                "it belongs to user {owner}, not to {user}; if that is meant, say so by SegmentOptions::owner({owner})"
            ));
        }
        // None: removed just now, or never named. More: somebody else keeps a name for it where other rules may hold.
        if metadata.nlink() > 1 {
            return refused(format!(
                "it has {} names (hard links); remove the others",
                metadata.nlink()
            ));
        }
        Ok(())
    }
}

fn not_regular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_symlink() => Some("a symbolic link"),
        () if kind.is_fifo() => Some("a named pipe"),
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () => Some("something else"),
    }
}

/// Checks a file that was inherited or received by its descriptor. A memory file must be sealed, so that nobody can cut it
/// short; who owns it does not matter, since the caller got it from somebody. Any other file must be as if found by name.
pub(crate) fn check_received(file: &File, trust: &Trust, path: &Path) -> Result<(), SegmentError> {
    let metadata = file
        .metadata()
        .map_err(|error| SegmentError::io("examine", path, error))?;
    let needed = SealFlags::SHRINK | SealFlags::GROW;
    match fcntl_get_seals(file) {
        Ok(seals) if seals.contains(needed) => Ok(()),
        Ok(_) if metadata.nlink() == 0 => Err(SegmentError::NotTrusted {
            path: path.to_owned(),
            fault: "it is a memory file that is not sealed against shrinking and growing".into(),
        }),
        _ => trust.check(&metadata, path),
    }
}

/// What the file is, to be remembered in the header or compared with it.
pub(crate) fn origin(file: &impl AsFd) -> Origin {
    let Ok(known) = statx(
        file,
        "",
        AtFlags::EMPTY_PATH,
        StatxFlags::INO | StatxFlags::BTIME,
    ) else {
        return Origin::default();
    };
    let told = |flag: StatxFlags, value| {
        if known.stx_mask & flag.bits() != 0 {
            value
        } else {
            0
        }
    };
    let birth = (known.stx_btime.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(known.stx_btime.tv_nsec.into());
    Origin {
        inode: told(StatxFlags::INO, known.stx_ino),
        birth: told(StatxFlags::BTIME, birth),
        file_system: sys::file_system::uuid(file),
    }
}

/// How `found` shows that the file is not the one the segment was made in. `None` if it may be that one: what either side
/// does not know proves nothing.
pub(crate) fn copied(made: &Origin, found: &Origin) -> Option<String> {
    if made.file_system != [0; 16]
        && found.file_system != [0; 16]
        && made.file_system != found.file_system
    {
        return Some("it was made on another file system".into());
    }
    if made.inode != 0 && found.inode != 0 && made.inode != found.inode {
        return Some(format!(
            "it was made in inode {}, and this is inode {}",
            made.inode, found.inode
        ));
    }
    if made.birth != 0 && found.birth != 0 && made.birth != found.birth {
        return Some("it was made in a file that is older or younger than this one".into());
    }
    None
}

/// What to tell the user about the file system that the file lies on, if anything.
pub(crate) fn file_system_warning(file: &impl AsFd, path: &Path) -> Option<String> {
    let magic = fstatfs(file).ok()?.f_type as u64;
    let name = sys::file_system::name(magic);
    match name {
        Some("tmpfs" | "ext4" | "xfs" | "hugetlbfs" | "ramfs") => None,
        _ => Some(format!(
            "{} lies on {}, where room set aside may still be refused later and mappings may not agree; use tmpfs, ext4 or xfs",
            path.display(),
            name.map_or_else(
                || format!("an unknown file system ({magic:#x})"),
                str::to_owned
            ),
        )),
    }
}
