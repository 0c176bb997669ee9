//! Segments that are only looked at.

use std::path::Path;
use std::sync::Arc;

use crate::mapped::Mapped;
use crate::memory::Area;
use crate::participant::{Life, ParticipantId};
use crate::read_only::ReadOnly;
use crate::segment::whole::Whole;
use crate::segment::{Entry, Header, Parts, SegmentError};

/// A segment that is open for reading only. It takes no place in the participant table and changes nothing. Clones share it.
#[derive(Clone, Debug)]
pub struct SegmentView {
    whole: Arc<Whole<ReadOnly>>,
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
        let whole = Whole::new(ReadOnly::new(mapped), parts)?;
        Ok(Self {
            whole: Arc::new(whole),
        })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.whole.parts.header
    }

    /// The objects in the segment.
    pub fn entries(&self) -> &[Entry] {
        &self.whole.parts.entries
    }

    /// The file, if the segment has a name in a file system.
    pub fn path(&self) -> Option<&Path> {
        self.whole.parts.path.as_deref()
    }

    /// What the user should know and could do without.
    pub fn warnings(&self) -> &[String] {
        &self.whole.parts.warnings
    }

    /// The object of that name.
    ///
    /// # Errors
    ///
    /// If there is none of that name; the message lists those that there are.
    pub fn object(&self, name: &str) -> Result<ObjectView, SegmentError> {
        let (entry, area) = self.whole.object(name)?;
        Ok(ObjectView {
            segment: self.clone(),
            entry,
            area,
        })
    }

    /// The numbers that participants can have here.
    pub fn participants(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        self.whole.participants.ids()
    }

    /// What is known of a participant.
    pub fn life(&self, id: ParticipantId) -> Life {
        self.whole.participants.life(id)
    }

    /// Whether all is well with the segment; as [`Segment::check`](crate::segment::Segment::check).
    ///
    /// # Errors
    ///
    /// As there, except that an observer may be a forked child.
    pub fn check(&self) -> Result<(), SegmentError> {
        let mapping = self.whole.memory.mapped().mapping();
        self.whole.state.check(mapping, &self.whole.parts)
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
    ///
    /// # Errors
    ///
    /// What differs: the kind, the version, or the layouts, line by line.
    pub fn expect(&self, kind: [u8; 8], version: u32, schema: &str) -> Result<(), SegmentError> {
        self.entry.expect(kind, version, schema)
    }
}
