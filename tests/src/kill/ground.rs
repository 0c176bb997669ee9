//! What a victim works on: a region or a directory, its copies, and which of its states are distinct.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};
use ipc_core::memory::LockByte;
use ipc_core::participant::Life;
use ipc_core::segment::{ObjectSpec, Place, Segment, SegmentOptions};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

/// The name that cases in a directory are about.
const SEGMENT: &str = "segment";

/// What a victim works on.
#[derive(Debug)]
pub enum Ground {
    /// A segment in a memory file.
    Region(Segment),
    /// A directory in which segments are made and removed, removed itself where we made it.
    Directory(PathBuf, Option<TempDir>),
}

impl Ground {
    /// The segment.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn segment(&self) -> &Segment {
        match self {
            Self::Region(segment) => segment,
            Self::Directory(..) => panic!("this ground is a directory"),
        }
    }

    /// A directory of our own.
    pub fn of_directory(directory: TempDir) -> Self {
        Self::Directory(directory.path().to_owned(), Some(directory))
    }

    /// The path of the file that cases in a directory are about.
    ///
    /// # Panics
    ///
    /// If this is a region.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Region(_) => panic!("this ground is a region"),
            Self::Directory(path, _) => path.join(SEGMENT),
        }
    }

    /// A copy in which nobody lives: no lock is held in it.
    pub fn copy(&self) -> Result<Self> {
        match self {
            Self::Region(segment) => Image::of(segment)?.restore(),
            Self::Directory(path, _) => {
                let copy = scratch_directory()?;
                copy_all(path, copy.path())?;
                Ok(Self::of_directory(copy))
            }
        }
    }

    /// Who is recorded as attached but dead.
    pub fn dead(&self) -> Vec<ipc_core::participant::ParticipantId> {
        match self {
            Self::Region(segment) => segment
                .participants()
                .filter(|id| matches!(segment.life(*id), Life::Dead(_)))
                .collect(),
            Self::Directory(..) => Vec::new(),
        }
    }
}

/// Where a journal notes of which adoption its words are.
const ADOPTIONS: usize = 320;

/// Copies files, and directories with theirs. What is a segment is adopted: it would be known for a copy. But it stands for the
/// memory itself, as it is when somebody is killed: no journal in it may be taken for a torn copy.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::DirBuilder::new().mode(0o700).create(&copy)?;
            copy_all(&entry.path(), &copy)?;
            continue;
        }
        std::fs::copy(entry.path(), &copy)?;
        // One that has no name yet but a temporary one is nobody's.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let segment = Segment::adopt(copy)?;
        let adoptions = u64::from(segment.header().adoptions);
        for entry in segment.entries() {
            if entry.kind == ipc_ring::journal::KIND.tag {
                let object = segment.object(&entry.name)?;
                object.area().word64(ADOPTIONS)?.store(adoptions, Relaxed);
            }
        }
    }
    Ok(())
}

/// A new directory on a memory file system, where there is one.
pub fn scratch_directory() -> Result<TempDir> {
    let prefix = scratch_prefix();
    let builder = || tempfile::Builder::new().prefix(&prefix).to_owned();
    if let Ok(directory) = builder().tempdir_in(MEMORY) {
        return Ok(directory);
    }
    Ok(builder().tempdir()?)
}

const MEMORY: &str = "/dev/shm";

/// What the directories of this harness are called, those of its victims among them.
fn scratch_prefix() -> String {
    let victim = std::env::args().nth(1).is_some_and(|word| word == "victim");
    let harness = match victim {
        true => std::os::unix::process::parent_id(),
        false => std::process::id(),
    };
    format!("ipc-kill-{harness}-")
}

/// Removes all directories of this harness, which is about to end.
pub fn sweep() {
    let prefix = scratch_prefix();
    for place in [PathBuf::from(MEMORY), std::env::temp_dir()] {
        for entry in place.read_dir().into_iter().flatten().flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(prefix.as_bytes())
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// A region at some moment.
#[derive(Clone, Debug)]
pub struct Image {
    options: SegmentOptions,
    bytes: Vec<u8>,
    /// Where what changes begins: the participant table, then the objects.
    from: usize,
}

impl Image {
    /// `segment` as it is now.
    pub fn of(segment: &Segment) -> Result<Self> {
        let header = segment.header();
        let file = File::from(segment.as_fd().try_clone_to_owned()?);
        let mut bytes = vec![0; header.total_len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let mut options = SegmentOptions::new().participants(header.participants as u16);
        for entry in segment.entries() {
            let spec = ObjectSpec {
                kind: entry.kind,
                version: entry.version,
                len: entry.len as usize,
                schema: entry.schema.clone(),
                parameters: entry.parameters,
            };
            options = options.object(&entry.name, spec);
        }
        Ok(Self {
            options,
            bytes,
            from: header.participants_offset as usize,
        })
    }

    /// A segment of its own with the same contents.
    pub fn restore(&self) -> Result<Ground> {
        let segment = self.options.create(Place::Memfd("kill-copy".into()))?;
        let header = segment.header();
        let (len, from) = (
            header.total_len as usize,
            header.participants_offset as usize,
        );
        ensure!(
            len == self.bytes.len() && from == self.from,
            "a copy of another shape"
        );
        let file = File::from(segment.as_fd().try_clone_to_owned()?);
        file.write_all_at(&self.bytes[from..], from as u64)?;
        Ok(Ground::Region(segment))
    }
}

/// Watches a ground and tells its states apart.
#[derive(Debug)]
pub struct Watch {
    kind: Watched,
    last: Vec<u8>,
    /// What is read into next.
    room: Vec<u8>,
    locks: Vec<bool>,
}

#[derive(Debug)]
enum Watched {
    /// The memory, and a file description of our own to ask for locks.
    Region {
        file: File,
        locks: File,
        rows: u16,
    },
    Directory(PathBuf),
}

impl Watch {
    /// A watch on `ground`.
    pub fn new(ground: &Ground) -> Result<Self> {
        let mut watch = match ground {
            Ground::Region(segment) => {
                let file = File::from(segment.as_fd().try_clone_to_owned()?);
                let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                let locks = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                Self {
                    kind: Watched::Region {
                        file,
                        locks: locks.into(),
                        rows: segment.header().participants as u16,
                    },
                    last: vec![0; segment.header().total_len as usize],
                    room: vec![0; segment.header().total_len as usize],
                    locks: Vec::new(),
                }
            }
            Ground::Directory(path, _) => Self {
                kind: Watched::Directory(path.clone()),
                last: Vec::new(),
                room: Vec::new(),
                locks: Vec::new(),
            },
        };
        watch.look(true)?;
        Ok(watch)
    }

    /// Whether anything has changed since the last look. Locks and files change in system calls alone.
    pub fn look(&mut self, after_system_call: bool) -> Result<bool> {
        let mut changed = false;
        match &self.kind {
            Watched::Region { file, locks, rows } => {
                file.read_exact_at(&mut self.room, 0)?;
                if self.room != self.last {
                    changed = true;
                    std::mem::swap(&mut self.room, &mut self.last);
                }
                if after_system_call {
                    let bytes =
                        (1..=*rows).flat_map(|id| [LockByte::Life(id), LockByte::Recovery(id)]);
                    let held: Vec<bool> = bytes
                        .map(|byte| is_locked(locks, byte.offset()))
                        .collect::<Result<_>>()?;
                    changed |= held != self.locks;
                    self.locks = held;
                }
            }
            Watched::Directory(path) if after_system_call => {
                let now = list(path)?;
                changed |= now != self.last;
                self.last = now;
            }
            Watched::Directory(_) => {}
        }
        Ok(changed)
    }

    /// A number for the state at the last look: equal for equal states.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.last.hash(&mut hasher);
        self.locks.hash(&mut hasher);
        hasher.finish()
    }
}

fn is_locked(file: &File, byte: u64) -> Result<bool> {
    let mut request = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: byte as i64,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut request))?;
    Ok(request.l_type != nix::libc::F_UNLCK as i16)
}

/// Names and contents of a directory.
fn list(path: &Path) -> Result<Vec<u8>> {
    let mut entries: Vec<_> = path.read_dir()?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut all = Vec::new();
    for entry in entries {
        all.extend_from_slice(entry.file_name().as_encoded_bytes());
        all.push(0);
        if entry.file_type()?.is_dir() {
            all.extend_from_slice(&list(&entry.path())?);
        } else {
            all.extend_from_slice(&std::fs::read(entry.path())?);
        }
    }
    Ok(all)
}
