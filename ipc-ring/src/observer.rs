//! Looking at a ring without taking part: no participant's row, no role, no store.

use ipc_core::ReadOnly;
use ipc_core::segment::{Place, Segment, SegmentError, SegmentView};

use crate::ring::ONLY;
use crate::{broadcast, mpmc, spsc};

/// A ring of messages of a fixed type, open for reading only: `spsc`, `mpmc` or `broadcast`. The messages may be of any
/// type.
///
/// The file need not be writable, and nobody notices. What it tells was so when it was looked at.
#[derive(Clone, Debug)]
pub struct Observer {
    ring: Shared,
}

#[derive(Clone, Debug)]
enum Shared {
    Spsc(spsc::Shared<ReadOnly>),
    Mpmc(mpmc::Shared<ReadOnly>),
    Broadcast(broadcast::Shared<ReadOnly>),
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
        let (entry, area) = (object.entry(), object.area());
        let [capacity, stride] = entry.parameters.map(|number| number as usize);
        let ring = match entry.kind {
            tag if tag == spsc::KIND.tag => {
                spsc::Shared::new(area, capacity, stride).map(Shared::Spsc)
            }
            tag if tag == mpmc::KIND.tag => {
                mpmc::Shared::with_stride(area, capacity, stride).map(Shared::Mpmc)
            }
            tag if tag == broadcast::KIND.tag => {
                broadcast::Shared::with_stride(area, capacity, stride).map(Shared::Broadcast)
            }
            _ => {
                return Err(SegmentError::Object(format!(
                    "{name:?} is no ring of messages of a fixed type"
                )));
            }
        };
        match ring {
            Ok(ring) => Ok(Self { ring }),
            Err(fault) => Err(SegmentError::Damaged(format!("the ring {name:?}: {fault}"))),
        }
    }

    /// How many messages are in it; in a broadcast ring, how many its slowest lossless reader has still to take.
    pub fn len(&self) -> usize {
        match &self.ring {
            Shared::Spsc(ring) => ring.len(),
            Shared::Mpmc(ring) => ring.len(),
            Shared::Broadcast(ring) => ring.len(),
        }
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        match &self.ring {
            Shared::Spsc(ring) => ring.capacity(),
            Shared::Mpmc(ring) => ring.capacity(),
            Shared::Broadcast(ring) => ring.capacity(),
        }
    }

    /// Whether somebody has closed it. That stays true.
    pub fn is_closed(&self) -> bool {
        match &self.ring {
            Shared::Spsc(ring) => ring.is_closed(),
            Shared::Mpmc(ring) => ring.is_closed(),
            Shared::Broadcast(ring) => ring.is_closed(),
        }
    }
}
