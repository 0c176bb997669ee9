//! What can go wrong with a segment, told to the person who meets it.

use std::io;
use std::path::{Path, PathBuf};

use crate::mapping::MapError;
use crate::participant::TableFull;

/// Why a segment could not be created, opened or joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The name cannot be one.
    #[error("{name:?} cannot be the name of a segment: {fault}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// There is nothing of that name.
    #[error("there is no segment at {path}; start the process that creates it, or create it first")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is something of that name already.
    #[error("{path} exists already; open it, choose another name, or remove it first")]
    Exists {
        /// Where it was to be.
        path: PathBuf,
    },
    /// The directory is not there.
    #[error("there is no directory {path}; make it first")]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The directory of segments cannot be made, since the one around it is not there.
    #[error(
        "the directory {path} cannot be made: what is around it is not there; set IPC_DIR to a directory that can, or unset \
         XDG_RUNTIME_DIR if it is out of date"
    )]
    NoParent {
        /// The directory that was to be made.
        path: PathBuf,
    },
    /// What should be the directory is none.
    #[error("{path} is not a directory itself (a symbolic link to one is not followed here)")]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// The directory of a group is not set up as one.
    #[error(
        "the directory {path} has mode {mode:04o} and is not one that a group alone shares; \
         run: chmod 2770 {path}; chgrp GROUP {path}"
    )]
    GroupDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The mode asked for lets somebody write who will not be trusted.
    #[error("{fault} (mode {mode:04o})")]
    BadMode {
        /// The mode.
        mode: u32,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The directory of segments belongs to somebody else.
    #[error(
        "the directory {path} belongs to user {owner}, not to {user}; set IPC_DIR to a directory of your own"
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// The directory of segments is open to others.
    #[error(
        "the directory {path} has mode {mode:04o} and is open to others; run: chmod 700 {path}"
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a regular file, or not one that this user may trust.
    #[error("{path} cannot be a segment: {fault}")]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The first bytes are not those of a segment.
    #[error(
        "not a segment: it begins with {found:#018x}, a segment with {:#018x}",
        crate::segment::MAGIC
    )]
    NoSegment {
        /// The first eight bytes as a number.
        found: u64,
    },
    /// Too short to be a segment.
    #[error("not a segment: it has {found} bytes, a segment at least {expected}")]
    TooShort {
        /// Its size in bytes.
        found: u64,
        /// The least size in bytes.
        expected: u64,
    },
    /// Written on a machine of the other byte order.
    #[error(
        "the segment was written on a machine of the other byte order and cannot be shared with this one"
    )]
    OtherByteOrder,
    /// Written in another version of the format.
    #[error(
        "format version {found}, but this program knows version {expected}; use the same release on both sides"
    )]
    OtherVersion {
        /// The version of what was found.
        found: u32,
        /// The version this program knows.
        expected: u32,
    },
    /// Made with features that this program does not know.
    #[error(
        "the segment uses features that this program does not know ({features:#x}); use a newer release"
    )]
    UnknownFeatures {
        /// The bits.
        features: u64,
    },
    /// Made with features that this program may read past, but not write to.
    #[error(
        "the segment uses features that this program does not know ({features:#x}) and may not write to; \
         open it read-only, or use a newer release"
    )]
    ReadOnlyFeatures {
        /// The bits.
        features: u64,
    },
    /// The header is of another length.
    #[error(
        "the segment is damaged: its header says that it has {found} bytes, not {}",
        crate::segment::HEADER_LEN
    )]
    HeaderLength {
        /// What it says.
        found: u32,
    },
    /// A checksum is wrong.
    #[error(
        "the segment is damaged: the checksum of its {what} is {found:#010x}, and that of the bytes there {expected:#010x}"
    )]
    Checksum {
        /// Header or directory.
        what: &'static str,
        /// The checksum that is stored.
        found: u32,
        /// That of the bytes.
        expected: u32,
    },
    /// The file is a copy of the one that the segment was made in.
    #[error(
        "{path} is a copy of a segment ({fault}), and shares nothing with whoever uses the original; \
         if the original is gone for good, make the copy a segment of its own by Segment::adopt"
    )]
    Copied {
        /// The file.
        path: PathBuf,
        /// How that is seen.
        fault: String,
    },
    /// The name leads elsewhere by now.
    #[error(
        "the segment has been removed or replaced: nobody who comes by its name will meet you here; open the name anew"
    )]
    Replaced,
    /// A sync failed, now or before, here or in another process.
    #[error(
        "writing the segment back has failed{}: what was stored since the last good sync may be lost, and no later \
         success would prove otherwise; read what is there, and create it anew",
        .error.as_ref().map_or_else(|| " before".to_owned(), |error| format!(" ({error})"))
    )]
    SyncFailed {
        /// What the system said, if it was now.
        #[source]
        error: Option<MapError>,
    },
    /// The file was cut short while it was mapped.
    #[error(
        "the file of the segment was cut short while it was mapped: what is read here is not shared any more; open it anew"
    )]
    CutShort,
    /// Made for a machine that differs.
    #[error("the segment was made for a {what} of {found}, this machine has {expected}")]
    OtherMachine {
        /// What differs.
        what: &'static str,
        /// What the segment says.
        found: u32,
        /// What this machine has.
        expected: u32,
    },
    /// Not the size that the header says.
    #[error("the file has {found} bytes, its header says {expected}: it was cut short or enlarged")]
    WrongSize {
        /// The size of the file.
        found: u64,
        /// The size in the header.
        expected: u64,
    },
    /// Contradicts itself.
    #[error("the segment is damaged: {0}")]
    Damaged(String),
    /// Has no object of that name.
    #[error("the segment holds no object {name:?}, but {}", listed(names))]
    NoObject {
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// The object is of another kind.
    #[error("{name:?} is of kind {found:?}, not {expected:?}")]
    OtherKind {
        /// The object.
        name: String,
        /// Its kind.
        found: String,
        /// The kind asked for.
        expected: String,
    },
    /// The elements of the object are laid out otherwise.
    #[error("the elements of {name:?} are laid out otherwise:\n  {}", differences.join("\n  "))]
    OtherLayout {
        /// The object.
        name: String,
        /// The differences, field by field.
        differences: Vec<String>,
    },
    /// An object cannot be made as asked for.
    #[error("{0}")]
    Object(String),
    /// Larger than a file can be.
    #[error("the segment would be larger than a file can be; make its objects smaller")]
    TooLarge,
    /// It could not be mapped, or its room not be had.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Every place in the participant table is taken by a living process.
    #[error(transparent)]
    TableFull(#[from] TableFull),
    /// The handle was inherited through `fork`.
    #[error(
        "this handle belongs to the parent process: call rejoin() in the child and use what it returns"
    )]
    Forked,
    /// The system refused.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Names for a sentence.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none at all".to_owned();
    }
    names.join(", ")
}

impl SegmentError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(crate) fn io(what: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io {
            what: format!("{what} {}", path.display()),
            error: error.into(),
        }
    }
}
