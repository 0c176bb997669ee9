//! What can go wrong with a mapping, told to the person who meets it.

use std::{fmt, io};

use super::{Access, Mapping};

/// Why a call on a mapping failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// No length was given, and there is no file to take it from.
    #[error("the mapping has no length: add .len(bytes) to the options")]
    NoLength,
    /// A mapping of nothing was asked for.
    #[error(
        "a mapping of 0 bytes was asked for: give .len() one byte at least, or leave it away to map a whole file"
    )]
    ZeroLength,
    /// The length does not fit this address space.
    #[error("a mapping of {len} bytes does not fit the address space of this process")]
    TooLong {
        /// What was asked for, in bytes.
        len: u64,
    },
    /// A mapping begins on a page of the file.
    #[error(
        "offset {offset} is not a multiple of the page size {page}: map from {below} or from {}, or add .any_offset() to \
         map from the page below and have the difference hidden", below + page
    )]
    OffsetOffPage {
        /// The offset asked for.
        offset: u64,
        /// The page size.
        page: u64,
        /// The page below.
        below: u64,
    },
    /// An address or a place to split is not on a page.
    #[error("{what} {value} is not a multiple of the page size {page}")]
    OffPage {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: usize,
        /// The page size.
        page: usize,
    },
    /// No file that can be mapped.
    #[error("{file} is {what}, which cannot be mapped")]
    NotMappable {
        /// The file.
        file: String,
        /// What it is.
        what: &'static str,
    },
    /// The descriptor cannot read.
    #[error(
        "{file} is open for writing only, and a mapping needs to read even to write: open it for reading and writing"
    )]
    WriteOnly {
        /// The file.
        file: String,
    },
    /// The descriptor cannot write, and the mapping would.
    #[error(
        "{file} is open for reading only, and a shared mapping that may be written was asked for: open it for reading and \
         writing, or map it .read_only(), or .private() to keep the changes to this process"
    )]
    ReadOnlyFile {
        /// The file.
        file: String,
    },
    /// The mapping would reach past the end of the file.
    #[error(
        "{file} has {size} bytes, and a mapping of {len} bytes from offset {offset} reaches past them: map less, or add \
         .extend_file() to have the file grow"
    )]
    PastEnd {
        /// The file.
        file: String,
        /// Its size, in bytes.
        size: u64,
        /// The offset asked for.
        offset: u64,
        /// The length asked for.
        len: u64,
    },
    /// An alignment that no allocation can have.
    #[error("an alignment of {align} bytes was asked for: {why}")]
    BadAlign {
        /// What was asked for.
        align: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Options that contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// Something lies where the mapping was to be.
    #[error("the {len} bytes from address {address:#x} on are not free: {taken_by} lies there")]
    AddressTaken {
        /// The address asked for.
        address: usize,
        /// The length asked for.
        len: usize,
        /// What lies there.
        taken_by: String,
    },
    /// An access outside the mapping.
    #[error("{len} bytes at offset {offset} were asked for, and the mapping has {mapped}")]
    OutOfBounds {
        /// The offset.
        offset: usize,
        /// The length.
        len: usize,
        /// What is mapped, in bytes.
        mapped: usize,
    },
    /// A word that is not on its alignment.
    #[error("offset {offset} is not a multiple of {align}, the alignment of the word")]
    Misaligned {
        /// The offset.
        offset: usize,
        /// What it must be a multiple of.
        align: usize,
    },
    /// An access that the protection forbids.
    #[error("the mapping is {access}: it cannot be {wanted}")]
    Protected {
        /// What the mapping allows.
        access: Access,
        /// What was to be done.
        wanted: &'static str,
    },
    /// The file no longer reaches as far as the mapping.
    #[error(
        "{file} was cut short while it was mapped, or a page of it could not be supplied: its bytes here are not to be \
         trusted any more; map it again"
    )]
    CutShort {
        /// The file.
        file: String,
    },
    /// A forked child uses what was kept from it.
    #[error("this mapping was kept from forked children, and this is one (process {child})")]
    NotInChild {
        /// The process that asked.
        child: u32,
    },
    /// Writing back failed, now or before.
    #[error("writing {file} back failed{}: what was stored since the last good sync may be lost; {source}",
        if *.before { " before, and a later success would prove nothing" } else { "" })]
    SyncFailed {
        /// The file.
        file: String,
        /// Whether it was an earlier call that failed.
        before: bool,
        /// What the kernel said.
        source: io::Error,
    },
    /// No descriptor was kept.
    #[error(
        "this needs the file, of which the mapping keeps no descriptor: add .keep_file() to the options"
    )]
    NoFile,
    /// The kind of mapping does not allow it.
    #[error("{0}")]
    WrongKind(&'static str),
    /// The limit on locked memory.
    #[error(
        "{asked} bytes cannot be locked in memory: the limit RLIMIT_MEMLOCK is {limit} bytes, of which {locked} are in use; \
         raise it with `ulimit -l` or in limits.conf"
    )]
    LockLimit {
        /// What was to be locked, in bytes.
        asked: usize,
        /// The limit, in bytes.
        limit: u64,
        /// What this process has locked, in bytes.
        locked: u64,
    },
    /// The file system is full.
    #[error("{path} needs {asked} bytes, which are not to be had: {free} are free where it lies")]
    NoSpace {
        /// The file.
        path: String,
        /// The size asked for, in bytes.
        asked: u64,
        /// What is free, in bytes.
        free: u64,
    },
    /// The limit on the size of files.
    #[error(
        "{path} needs {asked} bytes, and the limit RLIMIT_FSIZE is {limit}: raise it with `ulimit -f`"
    )]
    FileSizeLimit {
        /// The file.
        path: String,
        /// The size asked for, in bytes.
        asked: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The kernel has no memory or addresses for it.
    #[error("the kernel refused {len} bytes: {why}")]
    Refused {
        /// What was asked for, in bytes.
        len: usize,
        /// Which limit it was, as far as can be told.
        why: String,
    },
    /// Any other failure of a system call.
    #[error("{call} failed for {what}: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What it was to work on.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A call that takes a mapping by value has failed and gives it back.
///
/// It becomes a [`MapError`] by `?`, and the mapping is then unmapped.
#[derive(Debug)]
pub struct Kept {
    /// The mapping, as it was.
    pub mapping: Mapping,
    /// Why it stays so.
    pub error: MapError,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Kept {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<Box<Kept>> for MapError {
    fn from(kept: Box<Kept>) -> MapError {
        kept.error
    }
}

impl From<MapError> for io::Error {
    fn from(error: MapError) -> io::Error {
        let kind = match &error {
            MapError::Os { source, .. } | MapError::SyncFailed { source, .. } => source.kind(),
            MapError::NoSpace { .. } => io::ErrorKind::StorageFull,
            MapError::FileSizeLimit { .. } => io::ErrorKind::FileTooLarge,
            MapError::Refused { .. } | MapError::LockLimit { .. } => io::ErrorKind::OutOfMemory,
            MapError::WriteOnly { .. } | MapError::ReadOnlyFile { .. } => {
                io::ErrorKind::PermissionDenied
            }
            MapError::CutShort { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}
