//! Looking at a ring without taking part: no participant's row, no role, no store.
//!
//! What is in a ring can be looked at by copies that are checked afterwards: a copy counts only if its message cannot have
//! been written over meanwhile. `mpmc` and the broadcast rings say of each message whether it still lies there: it can be seen
//! until a producer takes its place. In `spsc`, `bytes`, `lanes` and channels the producer shows the head that it goes by,
//! whenever it looks for a new one: up to a ring ahead of that it may be writing, so what lies before it is given up. So
//! whoever follows a fast ring misses some, and is told how many.
//!
//! # Orderings
//!
//! In every kind a producer first marks what it is about to write over, and then writes, with a Release fence between: the
//! word of the claim, of the slot, the head that it shows, the mark of the oldest record. An Acquire fence stands between a
//! copy and the second look at that mark. So a copy that holds a byte of a later message is found out, on every machine. The first
//! look is an Acquire and pairs with the Release of whoever published.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;

use ipc_core::ReadOnly;
use ipc_core::memory::{Area, OutOfArea};
use ipc_core::segment::{Entry, ObjectView, Place, Segment, SegmentError, SegmentView};

use crate::error::PopError;
use crate::ring::{ONLY, misfit};
use crate::seat::{Seats, Statistics};
use crate::side::{NoPeek, Peek, Spot};
use crate::{broadcast, broadcast_bytes, bytes, lanes, mpmc, spsc};

/// A ring of any kind, open for reading only. Its messages may be of any type.
///
/// The file need not be writable, and nobody notices. What it tells was so when it was looked at.
#[derive(Clone)]
pub struct Observer {
    object: ObjectView,
    ring: Arc<dyn Peek + Send + Sync>,
}

/// Makes a ring of what the directory says.
type Look = fn(&Area<ReadOnly>, &Entry) -> Result<Arc<dyn Peek + Send + Sync>, OutOfArea>;

/// The kinds that can be looked at, and the version of each.
const KINDS: [([u8; 8], u32, Look); 7] = [
    (broadcast::KIND.tag, broadcast::VERSION, |area, entry| {
        Ok(Arc::new(broadcast::Shared::of(area, entry)?))
    }),
    (
        broadcast_bytes::KIND.tag,
        broadcast_bytes::VERSION,
        |area, entry| Ok(Arc::new(broadcast_bytes::Shared::of(area, entry)?)),
    ),
    (bytes::CHANNEL.tag, bytes::VERSION, lanes_of),
    (bytes::KIND.tag, bytes::VERSION, lanes_of),
    (lanes::KIND.tag, lanes::VERSION, lanes_of),
    (mpmc::KIND.tag, mpmc::VERSION, |area, entry| {
        Ok(Arc::new(mpmc::Shared::of(area, entry)?))
    }),
    (spsc::KIND.tag, spsc::VERSION, |area, entry| {
        Ok(Arc::new(spsc::Shared::of(area, entry)?))
    }),
];

fn lanes_of(
    area: &Area<ReadOnly>,
    entry: &Entry,
) -> Result<Arc<dyn Peek + Send + Sync>, OutOfArea> {
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
    /// If there is none, or it is of another kind, or of another version of it.
    pub fn in_segment(segment: &SegmentView, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        let tag = object.entry().kind;
        let Some((_, version, look)) = KINDS.iter().find(|(known, ..)| *known == tag) else {
            return Err(SegmentError::Object(format!("{name:?} is no ring")));
        };
        object.expect(tag, *version, &object.entry().schema)?;
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

    /// What was counted in it, by whom, and who is there.
    pub fn statistics(&self) -> Statistics {
        let seats = Seats::of(self.object.area(), self.object.entry());
        seats.map_or_else(
            |_| Statistics::default(),
            |seats| seats.statistics(&*self.ring),
        )
    }

    /// Whether somebody has closed it. That stays true.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

impl Observer {
    /// Follows what is published from now on, without taking it.
    pub fn follow(&self) -> Follower {
        self.follow_from(|ring, lane| ring.newest(lane))
    }

    /// Follows what is published, without taking it, from the oldest message on that nobody has taken.
    pub fn follow_from_oldest(&self) -> Follower {
        self.follow_from(|ring, lane| ring.oldest(lane))
    }

    fn follow_from(&self, start: fn(&(dyn Peek + Send + Sync), usize) -> Spot) -> Follower {
        let ring = self.ring.clone();
        Follower {
            spots: (0..ring.lanes()).map(|lane| start(&*ring, lane)).collect(),
            lane: 0,
            ring,
        }
    }
}

/// Sees the messages of a ring as they go by.
///
/// ```
/// use ipc_ring::{Observer, PopError, Ring, spsc};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("doc-follow-{}", std::process::id());
/// let ring = spsc::Ring::<u64>::options().create(&name)?;
/// let mut follower = Observer::open(&name)?.follow();
/// ring.producer()?.push(7)?;
///
/// let mut message = Vec::new();
/// follower.try_next(&mut message)?;
/// assert_eq!(message, 7_u64.to_ne_bytes());
/// assert_eq!(follower.try_next(&mut message), Err(PopError::Empty));
/// assert_eq!(ring.len(), 1);
/// # ipc_core::segment::Segment::unlink(&name)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Follower {
    ring: Arc<dyn Peek + Send + Sync>,
    /// Where we are in each lane.
    spots: Vec<Spot>,
    /// The lane to look at next.
    lane: usize,
}

impl Follower {
    /// How many lanes there are; 1 where messages have one order.
    pub fn lanes(&self) -> usize {
        self.spots.len()
    }

    /// Where in a lane the next message is looked for; `None` if there is no such lane.
    pub fn position(&self, lane: usize) -> Option<u64> {
        self.spots.get(lane).map(|spot| spot.position)
    }

    /// Copies the next message, which replaces what is in `message`. Tells the lane that it was in; 0 where there is one.
    /// Never waits, and takes nothing: to wait, look again after a while, as nobody knows of us. What a producer of `mpmc`
    /// took a place for and never published, since it died or gave the place back, is stepped over in silence.
    ///
    /// # Errors
    ///
    /// [`PopError::Lagged`] with the number of messages that went by unseen. It is exact but for two cases: in `mpmc`, places that were
    /// skipped are among them; in `bytes`, `lanes` and channels the count is rough where records were just being moved, or
    /// somebody was killed at it. [`PopError::Empty`] if there is nothing new, [`PopError::Closed`] if there will not be, and
    /// [`PopError::Corrupt`].
    pub fn try_next(&mut self, message: &mut Vec<u8>) -> Result<usize, PopError> {
        // Before the look, so that what was published before is seen.
        let closed = self.ring.is_closed();
        // ORDERING: pairs with the Release of whoever closed the ring.
        fence(Acquire);
        let mut pending = false;
        for _ in 0..self.spots.len() {
            let lane = self.lane;
            self.lane = (lane + 1) % self.spots.len();
            let spot = &mut self.spots[lane];
            let mut steps = self.ring.capacity();
            let looked = loop {
                match self.ring.peek(lane, *spot, message) {
                    Err(NoPeek::Skipped(next)) if steps > 0 => (*spot, steps) = (next, steps - 1),
                    other => break other,
                }
            };
            match looked {
                Ok(next) => {
                    *spot = next;
                    return Ok(lane);
                }
                Err(NoPeek::NotYet) => {}
                Err(NoPeek::Pending | NoPeek::Skipped(_)) => pending = true,
                Err(NoPeek::Gone(next)) => {
                    if next.position.wrapping_sub(spot.position) as i64 <= 0 {
                        return Err(PopError::Corrupt);
                    }
                    // Counts of records may contradict each other: at least one went by.
                    let missed = next.number.wrapping_sub(spot.number) as i64;
                    *spot = next;
                    return Err(PopError::Lagged(missed.max(1) as u64));
                }
                Err(NoPeek::Corrupt) => return Err(PopError::Corrupt),
            }
        }
        Err(if closed && !pending {
            PopError::Closed
        } else {
            PopError::Empty
        })
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Follower").field(&self.spots).finish()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer")
            .field(self.object.entry())
            .finish()
    }
}
