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
mod draft;
mod error;
mod header;
mod open;
mod place;
mod remove;
mod state;
mod trust;
mod view;
mod whole;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use create::SegmentOptions;
pub use directory::{Entry, Kind, MAX_NAME, OBJECT_ALIGN, ObjectSpec};
pub use error::SegmentError;
pub use header::{FORMAT_MINOR, FORMAT_VERSION, HEADER_LEN, HEADER_PAGE, Header, MAGIC, Origin};
pub use open::parse;
pub use place::{Place, default_directory};
pub use view::{ObjectView, SegmentView};
pub(crate) use whole::Parts;

use crate::mapped::{Census, Mapped};
use crate::memory::{Area, Vigil};
use crate::participant::{Life, ParticipantId};
use crate::segment::header::Access;
use crate::segment::whole::Whole;

/// An open segment. Clones share it; the last one lets go.
#[derive(Clone, Debug)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    whole: Whole<Mapped>,
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
        SegmentOptions::new().open(place)
    }

    /// Opens a segment that exists for reading only. It need not be writable, and may use features that this program does
    /// not know, if they are of the kind that readers may ignore.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(place: impl Into<Place>) -> Result<SegmentView, SegmentError> {
        SegmentOptions::new().open_read_only(place)
    }

    /// Removes the name of a segment. Whoever has it open goes on using it, and is told by [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`SegmentError::NotFound`], and [`SegmentError::NoSegment`] for a file that is none: that is not ours to remove.
    pub fn unlink(place: impl Into<Place>) -> Result<(), SegmentError> {
        remove::unlink(place.into(), trust::Trust::default())
    }

    /// Makes a copy of a segment, such as a restored backup, a segment of its own: with a new identity, the same contents,
    /// and one more adoption in its header. The file is replaced by a new one of the same name.
    ///
    /// Whoever calls this vouches that the original is gone, or that nobody will take the two for one.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), except [`SegmentError::Copied`]. A segment that is no copy is just opened.
    pub fn adopt(place: impl Into<Place>) -> Result<Self, SegmentError> {
        remove::adopt(place.into(), trust::Trust::default())
    }

    pub(crate) fn assemble(mapped: Mapped, parts: Parts) -> Result<Self, SegmentError> {
        let kinds = [&crate::region::KINDS[..], crate::sync::KINDS].concat();
        let inner = Arc::new(Inner {
            whole: Whole::new(mapped.clone(), parts)?,
            joined: Mutex::default(),
            kinds: Mutex::new(kinds),
        });
        let census: Weak<Inner> = Arc::downgrade(&inner);
        mapped.set_census(census);
        Ok(Self { inner })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.inner.whole.parts.header
    }

    /// The objects in the segment.
    pub fn entries(&self) -> &[Entry] {
        &self.inner.whole.parts.entries
    }

    /// The file, if the segment has a name in a file system.
    pub fn path(&self) -> Option<&Path> {
        self.inner.whole.parts.path.as_deref()
    }

    /// What the user should know and could do without: an odd file system, huge pages that could not be had.
    pub fn warnings(&self) -> &[String] {
        &self.inner.whole.parts.warnings
    }

    /// The object of that name.
    ///
    /// # Errors
    ///
    /// If there is none of that name; the message lists those that there are.
    pub fn object(&self, name: &str) -> Result<Object, SegmentError> {
        let (entry, area) = self.inner.whole.object(name)?;
        Ok(Object {
            segment: self.clone(),
            entry,
            area,
        })
    }

    /// Whether the calling process is the one that opened the segment, and not a forked child of it.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.inner.whole.memory.is_here()
    }

    /// Whether all is well with the segment; to be asked when something takes unexpectedly long, for one. Makes a system
    /// call.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Forked`], [`SegmentError::CutShort`], [`SegmentError::SyncFailed`] or [`SegmentError::Replaced`], in this
    /// order. All of them are for good.
    pub fn check(&self) -> Result<(), SegmentError> {
        if !self.is_here() {
            return Err(SegmentError::Forked);
        }
        let whole = &self.inner.whole;
        whole.state.check(whole.memory.mapping(), &whole.parts)
    }

    /// Writes the segment back to its file and waits. When this returns `Ok`, all that was stored before survives a power
    /// cut, if the file is on a disk.
    ///
    /// # Errors
    ///
    /// [`SegmentError::SyncFailed`], now and at every later call of every process: the system forgets which bytes could
    /// not be written, so that a later success would prove nothing.
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.sync_range(0, self.inner.whole.parts.header.total_len as usize)
    }

    /// Waits until the name of the segment is on the disk, as whoever gave it has done unless he was killed just then. A
    /// segment that has no name has nothing to wait for.
    ///
    /// # Errors
    ///
    /// If the directory is gone or cannot be written back.
    pub fn sync_name(&self) -> Result<(), SegmentError> {
        let Some(path) = self.path() else {
            return Ok(());
        };
        match place::Spot::find(Place::from(path), trust::Trust::default(), false)? {
            Ok(spot) => draft::sync_directory(&spot),
            Err(_) => Ok(()),
        }
    }

    fn sync_range(&self, at: usize, len: usize) -> Result<(), SegmentError> {
        if !self.is_here() {
            return Err(SegmentError::Forked);
        }
        let whole = &self.inner.whole;
        whole.state.sync(whole.memory.mapping(), at, len)
    }

    /// The segment for the calling process, a forked child of the one that opened it. Handles inherited from the parent
    /// refuse to work; those made from what this returns do.
    ///
    /// # Errors
    ///
    /// What the system says when a descriptor is opened.
    pub fn rejoin(&self) -> Result<Self, SegmentError> {
        let Whole { memory, parts, .. } = &self.inner.whole;
        let failed = |error| SegmentError::Io {
            what: "open the inherited segment anew".into(),
            error,
        };
        let file = parts.file.try_clone().map_err(failed)?;
        let locks = place::reopen(&file, Access::ReadWrite).map_err(failed)?;
        let mapped = memory.attach_anew(locks.into());
        let parts = Parts {
            file,
            path: parts.path.clone(),
            header: parts.header.clone(),
            entries: parts.entries.clone(),
            warnings: parts.warnings.clone(),
        };
        let anew = Self::assemble(mapped, parts)?;
        anew.learn(&self.kinds());
        Ok(anew)
    }

    /// Tells the segment how kinds of objects clear up after the dead. Known tags are left alone.
    pub fn learn(&self, kinds: &[Kind]) {
        let mut known = self.kinds();
        for kind in kinds {
            if Kind::find(&known, kind.tag, kind.version).is_none() {
                known.push(*kind);
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Vec<Kind>> {
        self.inner.kinds()
    }

    /// Our participant number. Joins on the first call; the row is held until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Forked`] in a child that has inherited the handle; and if every row of the table is held by a process that
    /// lives.
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
        let id = self
            .inner
            .whole
            .participants
            .join(|dead| self.inner.resolve(dead))?;
        self.inner.whole.arrivals.announce();
        *joined = Some(id);
        Ok(id)
    }

    /// The numbers that participants can have here.
    pub fn participants(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        self.inner.whole.participants.ids()
    }

    /// What is known of a participant.
    pub fn life(&self, id: ParticipantId) -> Life {
        self.inner.whole.participants.life(id)
    }

    /// Clears up after `id` if it is proven dead: every claim that names it, in every object. True if it was, and is
    /// done. Anybody may call this at any time; it never waits for another who does the same.
    pub fn recover(&self, id: ParticipantId) -> bool {
        self.is_here()
            && self
                .inner
                .whole
                .participants
                .recover(id, |dead| self.inner.resolve(dead))
    }
}

impl AsFd for Segment {
    /// The descriptor of the memory, to be passed to other processes. Of anonymous memory, that of its lock bytes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.whole.parts.file.as_fd()
    }
}

impl Inner {
    fn kinds(&self) -> MutexGuard<'_, Vec<Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves the claims of one who has died, or leaves, in all objects. False if there are kinds that nobody here knows:
    /// then the row of a dead one stays taken until somebody comes who does.
    fn resolve(&self, gone: ParticipantId) -> bool {
        let kinds = self.kinds().clone();
        let mut complete = true;
        for entry in &self.whole.parts.entries {
            let area = self.whole.area(entry);
            complete &= match (Kind::find(&kinds, entry.kind, entry.version), area) {
                (Some(kind), Ok(area)) => (kind.recover)(&area, entry, gone).is_ok(),
                _ => false,
            };
        }
        complete
    }
}

impl Census for Inner {
    fn vigil(&self) -> Option<Vigil<Mapped>> {
        // Only those who have joined are watched: where we have not, neither may those have whom we wait for. And whoever is
        // about to join waits, if it waits, for another to be cleared up after.
        (*self.joined.try_lock().ok()?)?;
        self.whole.arrivals.vigil(&self.whole.participants)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let joined = self
            .joined
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(id) = joined.filter(|_| self.whole.memory.is_here()) {
            // Guards that were forgotten still name us, and the next one in our row must not be taken for us. What we claim
            // in objects of kinds that we do not know is nothing.
            self.resolve(id);
            self.whole.participants.leave(id);
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

    /// Writes the object back to the file of the segment and waits; as [`Segment::sync`], for the pages it lies on.
    ///
    /// # Errors
    ///
    /// As [`Segment::sync`].
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.segment
            .sync_range(self.entry.offset as usize, self.entry.len as usize)
    }

    /// Checks that the object is of the kind, version and element layout that the caller expects.
    ///
    /// # Errors
    ///
    /// What differs: the kind, the version, or the layouts, line by line.
    pub fn expect(&self, kind: [u8; 8], version: u32, schema: &str) -> Result<(), SegmentError> {
        self.entry.expect(kind, version, schema)
    }
}

impl Entry {
    /// Checks that the object is of the kind, version and element layout that the caller expects.
    pub(crate) fn expect(
        &self,
        kind: [u8; 8],
        version: u32,
        schema: &str,
    ) -> Result<(), SegmentError> {
        if self.kind != kind {
            return Err(SegmentError::OtherKind {
                name: self.name.clone(),
                found: directory::tag_text(&self.kind),
                expected: directory::tag_text(&kind),
            });
        }
        if self.version != version {
            return Err(SegmentError::OtherVersion {
                found: self.version,
                expected: version,
            });
        }
        if self.schema != schema {
            return Err(SegmentError::OtherLayout {
                name: self.name.clone(),
                differences: crate::layout::differences(schema, &self.schema),
            });
        }
        Ok(())
    }
}
