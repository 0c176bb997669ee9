//! Where segments live: names in a directory of one's own, paths, descriptors, and plain memory.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::segment::SegmentError;

/// Where a segment is, or shall be.
#[derive(Debug)]
#[non_exhaustive]
pub enum Place {
    /// A name in the default directory: `$IPC_DIR`, else `$XDG_RUNTIME_DIR/ipc`, else `/dev/shm/ipc-UID`. One to 200
    /// bytes without slash, not beginning with a dot.
    Name(String),
    /// A file anywhere.
    Path(PathBuf),
    /// A sealed memory file without a name in the file system, to be passed to other processes. The text shows up in
    /// `/proc/PID/maps`.
    Memfd(String),
    /// An open descriptor of such a file, inherited or received.
    Fd(OwnedFd),
    /// Shared anonymous memory, which only forked children see.
    Anonymous,
}

impl From<&str> for Place {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<&String> for Place {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

impl From<String> for Place {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<OwnedFd> for Place {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(fd)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "segment {name:?}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Memfd(label) => write!(f, "memory file {label:?}"),
            Self::Fd(_) => write!(f, "inherited memory file"),
            Self::Anonymous => write!(f, "anonymous memory"),
        }
    }
}

/// A place in the file system: an open directory, and a name in it.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) directory: OwnedFd,
    pub(crate) name: String,
    /// For messages.
    pub(crate) path: PathBuf,
}

impl Spot {
    /// The file for a name in the default directory. The directory is made if it is missing and `make` says so.
    pub(crate) fn named(name: &str, make: bool) -> Result<Self, SegmentError> {
        let fault = match name {
            "" => Some("it is empty"),
            _ if name.len() > 200 => Some("it has more than 200 bytes"),
            _ if name.starts_with('.') => Some("it begins with a dot"),
            _ if name.contains('/') => Some("it contains a slash; a path is given as such"),
            _ if name.chars().any(char::is_control) => Some("it contains a control character"),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(SegmentError::BadName {
                name: name.to_owned(),
                fault,
            });
        }
        let directory = default_directory();
        Ok(Self {
            path: directory.join(name),
            directory: open_private(&directory, make)?,
            name: name.to_owned(),
        })
    }

    /// The file at a path.
    pub(crate) fn at(path: &Path) -> Result<Self, SegmentError> {
        let bad = |fault| SegmentError::BadName {
            name: path.display().to_string(),
            fault,
        };
        let name = path
            .file_name()
            .ok_or_else(|| bad("a path must end with a file name"))?;
        let name = name
            .to_str()
            .ok_or_else(|| bad("the file name is not UTF-8"))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let directory = rustix::fs::open(
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| SegmentError::io("open the directory", parent, error))?;
        Ok(Self {
            directory,
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Opens the file without following a symbolic link or waiting for the other end of a pipe.
    pub(crate) fn open(&self, access: OFlags) -> io::Result<OwnedFd> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat(
            &self.directory,
            self.name.as_str(),
            flags,
            Mode::empty(),
        )?)
    }
}

/// The directory of named segments: `$IPC_DIR`, else `$XDG_RUNTIME_DIR/ipc`, else `/dev/shm/ipc-UID`.
pub fn default_directory() -> PathBuf {
    let set = |variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("IPC_DIR")
        .or_else(|| set("XDG_RUNTIME_DIR").map(|directory| directory.join("ipc")))
        .unwrap_or_else(|| format!("/dev/shm/ipc-{}", rustix::process::geteuid().as_raw()).into())
}

/// Opens a directory that must be ours and closed to others.
fn open_private(path: &Path, make: bool) -> Result<OwnedFd, SegmentError> {
    if make {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SegmentError::io("create the directory", path, error)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(rustix::io::Errno::NOENT) => {
            return Err(SegmentError::NotFound {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(SegmentError::io("open the directory", path, error)),
    };
    let file = File::from(directory);
    let metadata = file
        .metadata()
        .map_err(|error| SegmentError::io("examine the directory", path, error))?;
    let (me, mode) = (
        rustix::process::geteuid().as_raw(),
        metadata.mode() & 0o7777,
    );
    if metadata.uid() != me {
        return Err(SegmentError::ForeignDirectory {
            path: path.to_owned(),
            owner: metadata.uid(),
            user: me,
        });
    }
    if mode & 0o077 != 0 {
        return Err(SegmentError::OpenDirectory {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(file.into())
}
