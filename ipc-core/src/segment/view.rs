//! Segments that are only looked at.

use std::path::Path;
use std::sync::Arc;

use crate::mapped::Mapped;
use crate::memory::Area;
use crate::participant::{Life, ParticipantId, Participants};
use crate::read_only::ReadOnly;
use crate::segment::state::State;
use crate::segment::{Entry, Header, Parts, SegmentError};

/// A segment that is open for reading only. It takes no place in the participant table and changes nothing. Clones share it.
#[derive(Clone, Debug)]
pub struct SegmentView {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: ReadOnly,
    parts: Parts,
    participants: Participants<ReadOnly>,
    state: State<ReadOnly>,
}

/// One object of a segment that is open for reading only.
#[derive(Clone, Debug)]
pub struct ObjectView {
    segment: SegmentView,
    entry: Entry,
    area: Area<ReadOnly>,
}

impl SegmentView {
    pub(crate) fn assemble(mapped: Mapped, parts: Parts) -> Result<Self, SegmentError> {
        let damaged = |_| SegmentError::damaged("its participant table lies outside the segment");
        let memory = ReadOnly::new(mapped);
        let (at, len) = parts.table();
        let participants = Area::new(memory.clone(), at, len)
            .and_then(Participants::new)
            .map_err(damaged)?;
        let state = State::new(&memory).map_err(damaged)?;
        Ok(Self {
            inner: Arc::new(Inner {
                memory,
                parts,
                participants,
                state,
            }),
        })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.inner.parts.header
    }

    /// The objects in the segment.
    pub fn entries(&self) -> &[Entry] {
        &self.inner.parts.entries
    }

    /// The file, if the segment has a name in a file system.
    pub fn path(&self) -> Option<&Path> {
        self.inner.parts.path.as_deref()
    }

    /// What the user should know and could do without.
    pub fn warnings(&self) -> &[String] {
        &self.inner.parts.warnings
    }

    /// The object of that name.
    pub fn object(&self, name: &str) -> Result<ObjectView, SegmentError> {
        let entry = self.inner.parts.entry(name)?.clone();
        let damaged = |_| SegmentError::damaged("an object lies outside the segment");
        let (at, len) = (entry.offset as usize, entry.len as usize);
        let area = Area::new(self.inner.memory.clone(), at, len).map_err(damaged)?;
        Ok(ObjectView {
            segment: self.clone(),
            entry,
            area,
        })
    }

    /// The numbers that participants can have here.
    pub fn participants(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        self.inner.participants.ids()
    }

    /// What is known of a participant.
    pub fn life(&self, id: ParticipantId) -> Life {
        self.inner.participants.life(id)
    }

    /// Whether all is well with the segment; as [`Segment::check`](crate::segment::Segment::check).
    ///
    /// # Errors
    ///
    /// As there, except that an observer may be a forked child.
    pub fn check(&self) -> Result<(), SegmentError> {
        let Inner {
            memory,
            parts,
            state,
            ..
        } = &*self.inner;
        state.check(memory.mapped().mapping(), parts)
    }
}

impl ObjectView {
    /// The segment it lies in.
    pub fn segment(&self) -> &SegmentView {
        &self.segment
    }

    /// What the directory says of it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its memory. Only what loads works with it; what stores panics.
    pub fn area(&self) -> &Area<ReadOnly> {
        &self.area
    }

    /// Checks that the object is of the kind, version and element layout that the caller expects.
    pub fn expect(&self, kind: [u8; 8], version: u32, schema: &str) -> Result<(), SegmentError> {
        self.entry.expect(kind, version, schema)
    }
}
