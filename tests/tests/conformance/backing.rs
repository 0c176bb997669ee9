//! A ring of each kind in each sort of memory, found by another process in the way of that memory.

use std::os::fd::AsFd;
use std::path::PathBuf;

use ipc_core::segment::{Place, Segment};
use ipc_tests::adapters::{Kind, Ring};
use tempfile::TempDir;

/// The sorts of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backing {
    Name,
    Path,
    Memfd,
    Anonymous,
}

pub(crate) const ALL: [Backing; 4] = [
    Backing::Name,
    Backing::Path,
    Backing::Memfd,
    Backing::Anonymous,
];

/// A ring that exists. Its name goes with it.
pub(crate) struct Made {
    pub(crate) ring: Box<dyn Ring>,
    kind: Kind,
    backing: Backing,
    name: String,
    directory: TempDir,
}

impl Made {
    pub(crate) fn new(kind: Kind, backing: Backing, capacity: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unique = directory.path().file_name().unwrap().to_string_lossy();
        let name = format!("conformance-{}", unique.trim_start_matches('.'));
        let place = match backing {
            Backing::Name => Place::Name(name.clone()),
            Backing::Path => Place::Path(directory.path().join("ring")),
            Backing::Memfd => Place::Memfd(name.clone()),
            Backing::Anonymous => Place::Anonymous,
        };
        Self {
            ring: (kind.create)(place, capacity).unwrap(),
            kind,
            backing,
            name,
            directory,
        }
    }

    /// Where a ring with a path is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ring")
    }

    /// All that is in the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// The ring as another process finds it: to be called in a forked child.
    pub(crate) fn attach(&self) -> Box<dyn Ring> {
        let place = match self.backing {
            Backing::Name => Place::Name(self.name.clone()),
            Backing::Path => Place::Path(self.path()),
            Backing::Memfd => {
                let file = self.ring.segment().as_fd().try_clone_to_owned().unwrap();
                Place::Fd(file)
            }
            Backing::Anonymous => return self.ring.rejoin(),
        };
        (self.kind.open)(place).unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let (Backing::Name, true) = (self.backing, self.ring.segment().is_here()) {
            Segment::unlink(Place::Name(self.name.clone())).unwrap();
        }
    }
}
