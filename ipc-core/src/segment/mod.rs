//! Segments: what processes that know nothing of each other meet in.
//!
//! A segment is a piece of shared memory with a checked header, a directory of the objects it holds, the layout of their
//! elements as text, and a table of the processes attached to it. It has its final size, and all its blocks, before
//! anybody can find it: a name never points at something half made.
//!
//! ```
//! use ipc_core::segment::{ObjectSpec, Place, SegmentOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = ObjectSpec { kind: *b"example\0", version: 1, len: 64, schema: String::new(), parameters: [0; 2] };
//! let segment = SegmentOptions::new().object("state", spec).create(Place::Memfd("example".into()))?;
//! assert_eq!(segment.entries()[0].name, "state");
//! # Ok(()) }
//! ```

mod create;
mod directory;
mod error;
mod header;
mod open;
mod place;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use create::SegmentOptions;
pub use directory::{Entry, Kind, MAX_NAME, OBJECT_ALIGN, ObjectSpec};
pub use error::SegmentError;
pub use header::{FORMAT_VERSION, HEADER_LEN, HEADER_PAGE, Header, MAGIC};
pub use place::{Place, default_directory};

use crate::mapped::Mapped;
use crate::memory::Area;
use crate::participant::{Life, ParticipantId, Participants};

/// An open segment. Clones share it; the last one lets go.
#[derive(Clone, Debug)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mapped: Mapped,
    /// Of the memory, or, where that has no descriptor, of the file of lock bytes.
    file: OwnedFd,
    path: Option<PathBuf>,
    header: Header,
    entries: Vec<Entry>,
    participants: Participants<Mapped>,
    /// Our row, once we have joined.
    joined: Mutex<Option<ParticipantId>>,
    kinds: Mutex<Vec<Kind>>,
}

/// One object of an open segment.
#[derive(Clone, Debug)]
pub struct Object {
    segment: Segment,
    entry: Entry,
    area: Area<Mapped>,
}

impl Segment {
    /// Opens a segment that exists.
    ///
    /// # Errors
    ///
    /// Everything that makes it not exactly what this version of the format describes; nothing is changed then.
    pub fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        open::open(place.into())
    }

    /// Removes the name of a segment. Whoever has it open goes on using it.
    pub fn unlink(place: impl Into<Place>) -> Result<(), SegmentError> {
        open::unlink(place.into())
    }

    pub(crate) fn assemble(
        mapped: Mapped,
        file: OwnedFd,
        path: Option<PathBuf>,
        header: Header,
        entries: Vec<Entry>,
    ) -> Result<Self, SegmentError> {
        let damaged = |_| SegmentError::damaged("its participant table lies outside the segment");
        let offset = usize::try_from(header.participants_offset).unwrap_or(usize::MAX);
        let len = header.participants as usize * crate::participant::ROW;
        let area = Area::new(mapped.clone(), offset, len).map_err(damaged)?;
        let participants = Participants::new(area).map_err(damaged)?;
        let (joined, kinds) = (Mutex::default(), Mutex::default());
        Ok(Self {
            inner: Arc::new(Inner {
                mapped,
                file,
                path,
                header,
                entries,
                participants,
                joined,
                kinds,
            }),
        })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.inner.header
    }

    /// The objects in the segment.
    pub fn entries(&self) -> &[Entry] {
        &self.inner.entries
    }

    /// The file, if the segment has a name in a file system.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The object of that name.
    pub fn object(&self, name: &str) -> Result<Object, SegmentError> {
        let Some(entry) = self.inner.entries.iter().find(|entry| entry.name == name) else {
            let names = self
                .inner
                .entries
                .iter()
                .map(|entry| entry.name.clone())
                .collect();
            return Err(SegmentError::NoObject {
                name: name.to_owned(),
                names,
            });
        };
        let damaged = |_| SegmentError::damaged("an object lies outside the segment");
        let (at, len) = (entry.offset as usize, entry.len as usize);
        let area = Area::new(self.inner.mapped.clone(), at, len).map_err(damaged)?;
        Ok(Object {
            segment: self.clone(),
            entry: entry.clone(),
            area,
        })
    }

    /// Whether the calling process is the one that opened the segment, and not a forked child of it.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.inner.mapped.is_here()
    }

    /// The segment for the calling process, a forked child of the one that opened it. Handles inherited from the parent
    /// refuse to work; those made from what this returns do.
    pub fn rejoin(&self) -> Result<Self, SegmentError> {
        let inner = &self.inner;
        let file = inner.file.try_clone().map_err(|error| SegmentError::Io {
            what: "copy the descriptor".into(),
            error,
        })?;
        let mapped = inner.mapped.attach_anew(open::reopen(&file)?);
        // What the parent has learned is not copied: a thread that fork left behind may hold its lock.
        Self::assemble(
            mapped,
            file,
            inner.path.clone(),
            inner.header.clone(),
            inner.entries.clone(),
        )
    }

    /// Tells the segment how kinds of objects clear up after the dead. Known tags are left alone.
    pub fn learn(&self, kinds: &[Kind]) {
        let mut known = self
            .inner
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for kind in kinds {
            if Kind::find(&known, kind.tag).is_none() {
                known.push(*kind);
            }
        }
    }

    /// Our participant number. Joins on the first call; the row is held until the last clone is dropped.
    pub fn participant(&self) -> Result<ParticipantId, SegmentError> {
        if !self.is_here() {
            return Err(SegmentError::Forked);
        }
        let mut joined = self
            .inner
            .joined
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = *joined {
            return Ok(id);
        }
        let id = self.inner.participants.join(|dead| self.resolve(dead))?;
        *joined = Some(id);
        Ok(id)
    }

    /// The numbers that participants can have here.
    pub fn participants(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        self.inner.participants.ids()
    }

    /// What is known of a participant.
    pub fn life(&self, id: ParticipantId) -> Life {
        self.inner.participants.life(id)
    }

    /// Clears up after `id` if it is proven dead: every claim that names it, in every object. True if it was, and is
    /// done. Anybody may call this at any time.
    pub fn recover(&self, id: ParticipantId) -> bool {
        self.is_here()
            && self
                .inner
                .participants
                .recover(id, |dead| self.resolve(dead))
    }

    /// Resolves the claims of a dead participant in all objects. False if there are kinds that nobody here knows: then
    /// its row stays taken until somebody comes who does.
    fn resolve(&self, dead: ParticipantId) -> bool {
        let kinds = self
            .inner
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut complete = true;
        for entry in &self.inner.entries {
            let area = Area::new(
                self.inner.mapped.clone(),
                entry.offset as usize,
                entry.len as usize,
            );
            complete &= match (Kind::find(&kinds, entry.kind), area) {
                (Some(kind), Ok(area)) => (kind.recover)(&area, entry, dead).is_ok(),
                _ => false,
            };
        }
        complete
    }
}

impl AsFd for Segment {
    /// The descriptor of the memory, to be passed to other processes. Of anonymous memory, that of its lock bytes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let joined = self
            .joined
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if self.mapped.is_here() {
            joined
                .into_iter()
                .for_each(|id| self.participants.leave(id));
        }
    }
}

impl Object {
    /// The segment it lies in.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// What the directory says of it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its memory.
    pub fn area(&self) -> &Area<Mapped> {
        &self.area
    }

    /// Checks that the object is of the kind, version and element layout that the caller expects.
    pub fn expect(&self, kind: [u8; 8], version: u32, schema: &str) -> Result<(), SegmentError> {
        let entry = &self.entry;
        if entry.kind != kind {
            return Err(SegmentError::OtherKind {
                name: entry.name.clone(),
                found: directory::tag_text(&entry.kind),
                expected: directory::tag_text(&kind),
            });
        }
        if entry.version != version {
            return Err(SegmentError::OtherVersion {
                found: entry.version,
                expected: version,
            });
        }
        if entry.schema != schema {
            return Err(SegmentError::OtherLayout {
                name: entry.name.clone(),
                differences: crate::layout::differences(schema, &entry.schema),
            });
        }
        Ok(())
    }
}
