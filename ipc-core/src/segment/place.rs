//! Where segments live: names in a directory of one's own, paths, descriptors, and plain memory.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::segment::SegmentError;
use crate::segment::draft::sweep;
use crate::segment::header::Access;
use crate::segment::trust::Trust;
use crate::sys;

/// Where a segment is, or shall be.
#[derive(Debug)]
#[non_exhaustive]
pub enum Place {
    /// A name in the default directory: `$IPC_DIR`, else `$XDG_RUNTIME_DIR/ipc`, else `/dev/shm/ipc-UID`. One to 200
    /// bytes without slash, not beginning with a dot.
    Name(String),
    /// A file anywhere.
    Path(PathBuf),
    /// A name in a directory that a group shares. The directory belongs to the group and has mode 2770, or 2750 where only
    /// its owner creates; new segments get the mode 0660. All members of the group are trusted as far as the segment goes.
    Group {
        /// The directory.
        directory: PathBuf,
        /// The name in it, as of [`Place::Name`].
        name: String,
    },
    /// A sealed memory file without a name in the file system, to be passed to other processes. The text shows up in
    /// `/proc/PID/maps`.
    Memfd(String),
    /// An open descriptor of such a file, inherited or received.
    Fd(OwnedFd),
    /// Shared anonymous memory, which only forked children see.
    Anonymous,
}

impl Place {
    /// A name in the directory that a group shares.
    pub fn group(directory: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self::Group {
            directory: directory.into(),
            name: name.into(),
        }
    }
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
            Self::Group { directory, name } => write!(f, "{}", directory.join(name).display()),
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
    /// Whose files are trusted here.
    pub(crate) trust: Trust,
}

impl Spot {
    /// The place in the file system that `place` means. The default directory is made if it is missing and `make` says so.
    /// `Err(place)` inside if it is none in the file system.
    pub(crate) fn find(
        place: Place,
        trust: Trust,
        make: bool,
    ) -> Result<Result<Self, Place>, SegmentError> {
        match place {
            Place::Name(name) => {
                check_name(&name)?;
                let directory = default_directory();
                let path = directory.join(&name);
                let directory = open_private(&directory, make)?;
                Ok(Ok(Self {
                    directory,
                    name,
                    path,
                    trust,
                }))
            }
            Place::Group { directory, name } => {
                check_name(&name)?;
                let path = directory.join(&name);
                let (directory, group) = open_shared(&directory)?;
                let trust = Trust {
                    group: Some(group),
                    ..trust
                };
                Ok(Ok(Self {
                    directory,
                    name,
                    path,
                    trust,
                }))
            }
            Place::Path(path) => Self::at(path, trust).map(Ok),
            place => Ok(Err(place)),
        }
    }

    fn at(path: PathBuf, trust: Trust) -> Result<Self, SegmentError> {
        let bad = |fault| SegmentError::BadName {
            name: path.display().to_string(),
            fault,
        };
        let name = path
            .file_name()
            .ok_or_else(|| bad("a path must end with a file name"))?;
        let name = name
            .to_str()
            .ok_or_else(|| bad("the file name is not UTF-8"))?
            .to_owned();
        if name.len() > MAX_NAME {
            return Err(bad("the file name has more than 200 bytes"));
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(parent, flags | OFlags::RDONLY, Mode::empty()) {
            // It may be searched, but not listed or synced.
            Err(Errno::ACCESS) => rustix::fs::open(parent, flags | OFlags::PATH, Mode::empty()),
            other => other,
        };
        match directory {
            Ok(directory) => Ok(Self {
                directory,
                name,
                path,
                trust,
            }),
            Err(Errno::NOENT) => Err(SegmentError::NoDirectory {
                path: parent.to_owned(),
            }),
            Err(error) => Err(SegmentError::io("open the directory", parent, error)),
        }
    }

    /// Opens the file, if there is one that may be trusted. It is looked at before it is opened: opening a pipe would wait,
    /// and opening a device may do anything.
    pub(crate) fn open(&self, access: Access) -> Result<File, SegmentError> {
        let not_found = || SegmentError::NotFound {
            path: self.path.clone(),
        };
        let examine = |file: &File| {
            file.metadata()
                .map_err(|error| SegmentError::io("examine", &self.path, error))
        };
        for turn in 0.. {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match openat(&self.directory, self.name.as_str(), flags, Mode::empty()) {
                Ok(found) => File::from(found),
                Err(Errno::NOENT) => return Err(not_found()),
                Err(error) => return Err(SegmentError::io("open", &self.path, error)),
            };
            let metadata = examine(&found)?;
            if metadata.is_file() && metadata.nlink() == 2 && turn < TURNS {
                // Its creator may be about to remove the temporary name, or have died before it could.
                sweep(self);
                std::thread::sleep(Duration::from_millis(turn));
                continue;
            }
            self.trust.check(&metadata, &self.path)?;
            let file = reopen(&found, access)
                .map_err(|error| SegmentError::io("open", &self.path, error))?;
            if examine(&file)?.nlink() > 0 {
                return Ok(file);
            }
            // The name was removed in between, or given to another file: another look tells which.
            if turn >= TURNS {
                break;
            }
        }
        Err(not_found())
    }
}

/// How often a file with two names is looked at again, for a tenth of a second in all.
const TURNS: u64 = 14;

/// A file description of our own for an open file, so that its locks are ours alone.
pub(crate) fn reopen(file: &impl AsFd, access: Access) -> io::Result<File> {
    let flags = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    match sys::file_system::reopen(file, flags) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NOENT) => Err(io::Error::other(
            "its descriptor is not in /proc/self/fd: mount /proc",
        )),
        Err(error) => Err(error.into()),
    }
}

/// The longest name, which leaves room for what a temporary name adds.
const MAX_NAME: usize = 200;

fn check_name(name: &str) -> Result<(), SegmentError> {
    let fault = match name {
        "" => "it is empty",
        _ if name.len() > MAX_NAME => "it has more than 200 bytes",
        _ if name.starts_with('.') => "it begins with a dot",
        _ if name.contains('/') => "it contains a slash; a path is given as such",
        _ if name.chars().any(char::is_control) => "it contains a control character",
        _ => return Ok(()),
    };
    Err(SegmentError::BadName {
        name: name.to_owned(),
        fault,
    })
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SegmentError::NoParent {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(SegmentError::io("create the directory", path, error)),
        }
    }
    let (directory, metadata) = open_directory(path).map_err(|error| match error {
        // Nothing was ever created there, so there is no segment either.
        SegmentError::NoDirectory { path } => SegmentError::NotFound { path },
        error => error,
    })?;
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
    Ok(directory)
}

/// Opens a directory that a group shares, and tells which.
fn open_shared(path: &Path) -> Result<(OwnedFd, u32), SegmentError> {
    let (directory, metadata) = open_directory(path)?;
    let mode = metadata.mode() & 0o7777;
    // Set-group-id: what is made there belongs to the group. Nothing for others.
    if mode & 0o2000 == 0 || mode & 0o007 != 0 {
        return Err(SegmentError::GroupDirectory {
            path: path.to_owned(),
            mode,
        });
    }
    Ok((directory, metadata.gid()))
}

fn open_directory(path: &Path) -> Result<(OwnedFd, Metadata), SegmentError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => File::from(directory),
        Err(Errno::NOENT) => {
            return Err(SegmentError::NoDirectory {
                path: path.to_owned(),
            });
        }
        // With NOFOLLOW the kernel says so of a symbolic link.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(SegmentError::NotADirectory {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(SegmentError::io("open the directory", path, error)),
    };
    let metadata = directory
        .metadata()
        .map_err(|error| SegmentError::io("examine the directory", path, error))?;
    Ok((directory.into(), metadata))
}
