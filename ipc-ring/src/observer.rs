//! Looking at a ring without taking part: no participant's row, no role, no store.

use std::fmt;
use std::sync::Arc;

use ipc_core::ReadOnly;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::segment::{Entry, ObjectView, Place, Segment, SegmentError, SegmentView};

use crate::ring::{ONLY, misfit};
use crate::side::Whole;
use crate::{broadcast, broadcast_bytes, bytes, lanes, mpmc, spsc};

/// A ring of any kind, open for reading only. Its messages may be of any type.
///
/// The file need not be writable, and nobody notices. What it tells was so when it was looked at.
#[derive(Clone)]
pub struct Observer {
    object: ObjectView,
    ring: Arc<dyn Whole + Send + Sync>,
}

/// Makes a ring of what the directory says.
type Look = fn(&Area<ReadOnly>, &Entry) -> Result<Arc<dyn Whole + Send + Sync>, OutOfArea>;

/// The kinds that can be looked at.
const KINDS: [([u8; 8], Look); 7] = [
    (broadcast::KIND.tag, |area, entry| {
        Ok(Arc::new(broadcast::Shared::of(area, entry)?))
    }),
    (broadcast_bytes::KIND.tag, |area, entry| {
        Ok(Arc::new(broadcast_bytes::Shared::of(area, entry)?))
    }),
    (bytes::CHANNEL.tag, lanes_of),
    (bytes::KIND.tag, lanes_of),
    (lanes::KIND.tag, lanes_of),
    (mpmc::KIND.tag, |area, entry| {
        Ok(Arc::new(mpmc::Shared::of(area, entry)?))
    }),
    (spsc::KIND.tag, |area, entry| {
        Ok(Arc::new(spsc::Shared::of(area, entry)?))
    }),
];

fn lanes_of(
    area: &Area<ReadOnly>,
    entry: &Entry,
) -> Result<Arc<dyn Whole + Send + Sync>, OutOfArea> {
    Ok(Arc::new(bytes::Shared::of(area, entry)?))
}

impl Observer {
    /// Opens the ring of a segment that holds nothing else.
    ///
    /// # Errors
    ///
    /// As for opening a segment; and if what it holds is not such a ring.
    pub fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open_read_only(place)?, ONLY)
    }

    /// The ring of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none, or it is of another kind.
    pub fn in_segment(segment: &SegmentView, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        let tag = object.entry().kind;
        let Some((_, look)) = KINDS.iter().find(|(known, _)| *known == tag) else {
            return Err(SegmentError::Object(format!("{name:?} is no ring")));
        };
        let ring = look(object.area(), object.entry()).map_err(|_| misfit(object.entry()))?;
        Ok(Self { object, ring })
    }

    /// The object that it looks at.
    pub fn object(&self) -> &ObjectView {
        &self.object
    }

    /// How many messages are in it; in a broadcast ring, how many its slowest lossless reader has still to take.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How many messages fit in; of a ring of records, the bytes of the arena of each lane.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Whether somebody has closed it. That stays true.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer")
            .field(self.object.entry())
            .finish()
    }
}
