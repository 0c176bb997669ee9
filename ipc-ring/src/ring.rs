//! What every kind of ring has in common: how it is created and opened, and how roles in it are claimed.

use std::marker::PhantomData;
use std::thread;
use std::time::{Duration, Instant};

use ipc_core::fork::Process;
use ipc_core::participant::{Life, ParticipantId};
use ipc_core::segment::{
    Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};
use ipc_core::{Mapped, Message};

use crate::error::ClaimError;
use crate::role::{Holder, Role};

/// The name of the ring in a segment that holds nothing else.
pub const ONLY: &str = "ring";

/// A kind of ring, attached to an object in a segment.
pub trait Ring: Sized {
    /// What an object for a ring of `capacity` slots needs.
    ///
    /// # Errors
    ///
    /// If there can be no such ring; the message says which there can be.
    fn spec(capacity: usize) -> Result<ObjectSpec, SegmentError>;

    /// The same for a ring of several lanes. Kinds that have none ignore their number.
    #[doc(hidden)]
    fn spec_of_lanes(capacity: usize, lanes: usize) -> Result<ObjectSpec, SegmentError> {
        let _ = lanes;
        Self::spec(capacity)
    }

    /// The ring in an object, if it is one of this kind and of this layout.
    fn attach(object: Object) -> Result<Self, SegmentError>;

    /// How to create the ring in a segment of its own.
    fn options() -> Options<Self> {
        Options::new(1024)
    }

    /// Opens a ring in a segment of its own.
    fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// The ring of that name among the objects of a segment.
    fn in_segment(segment: &Segment, name: &str) -> Result<Self, SegmentError> {
        segment.learn(KINDS);
        Self::attach(segment.object(name)?)
    }
}

/// How every kind of this crate clears up after the dead.
pub(crate) const KINDS: &[Kind] = &[
    crate::broadcast::KIND,
    crate::bytes::CHANNEL,
    crate::bytes::KIND,
    crate::journal::KIND,
    crate::lanes::KIND,
    crate::mpmc::KIND,
    crate::spsc::KIND,
];

/// How to create a ring in a segment of its own.
#[derive(Clone, Debug)]
pub struct Options<R> {
    capacity: usize,
    pub(crate) lanes: usize,
    segment: SegmentOptions,
    ring: PhantomData<fn() -> R>,
}

impl<R: Ring> Options<R> {
    /// A ring of `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            lanes: 1,
            segment: SegmentOptions::new(),
            ring: PhantomData,
        }
    }

    /// How many messages fit in: a power of two, 1,024 if not set. Of a ring of bytes: how many bytes.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// How many processes can be attached at the same time, 64 if not set.
    pub fn participants(mut self, count: u16) -> Self {
        self.segment = self.segment.participants(count);
        self
    }

    /// The mode of the file, 0600 if not set.
    pub fn mode(mut self, mode: u32) -> Self {
        self.segment = self.segment.mode(mode);
        self
    }

    /// Creates the ring.
    pub fn create(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        let segment = self
            .segment
            .object(ONLY, R::spec_of_lanes(self.capacity, self.lanes)?)
            .create(place)?;
        R::in_segment(&segment, ONLY)
    }

    /// Opens the ring if it exists, and creates it otherwise. The capacity of one that exists is what its creator chose.
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        let segment = self
            .segment
            .object(ONLY, R::spec_of_lanes(self.capacity, self.lanes)?)
            .open_or_create(place)?;
        R::in_segment(&segment, ONLY)
    }
}

impl Options<crate::lanes::Ring> {
    /// How many lanes, and so producers at a time: 1 to 1,024, 16 if not set.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }
}

/// The object for a ring of `capacity` messages of type `T` in slots of `stride` bytes, `len` bytes in all. Neither number
/// is there if it cannot be counted.
pub(crate) fn spec_of<T: Message>(
    kind: Kind,
    version: u32,
    capacity: usize,
    stride: Option<usize>,
    len: Option<usize>,
) -> Result<ObjectSpec, SegmentError> {
    let refuse = |fault: &str| {
        Err(SegmentError::Object(format!(
            "a ring of {capacity} messages: {fault}"
        )))
    };
    if !capacity.is_power_of_two() {
        let near = capacity.checked_next_power_of_two().unwrap_or(1 << 30);
        return refuse(&format!(
            "its capacity must be a power of two, such as {near}"
        ));
    }
    if size_of::<T>() == 0 {
        return refuse("a message of no bytes cannot be told from none");
    }
    let (Some(stride), Some(len)) = (stride, len) else {
        return refuse("it would not fit any memory");
    };
    Ok(ObjectSpec {
        kind: kind.tag,
        version,
        len,
        schema: T::schema().text(),
        parameters: [capacity as u64, stride as u64],
    })
}

/// The capacity of the ring in `object`, if it is of that kind, with messages of type `T` in slots of `stride` bytes.
pub(crate) fn capacity_of<T: Message>(
    object: &Object,
    kind: Kind,
    version: u32,
    stride: Option<usize>,
) -> Result<usize, SegmentError> {
    object.expect(kind.tag, version, &T::schema().text())?;
    let [capacity, found] = object.entry().parameters;
    usize::try_from(capacity)
        .ok()
        .filter(|_| stride.is_some_and(|stride| stride as u64 == found))
        .ok_or_else(|| misfit(object))
}

/// What the directory says of a ring does not fit its object.
pub(crate) fn misfit(object: &Object) -> SegmentError {
    let Entry {
        name,
        len,
        parameters: [capacity, stride],
        ..
    } = object.entry();
    SegmentError::Damaged(format!(
        "{capacity} slots of {stride} bytes do not fit the {len} bytes of the ring {name:?}"
    ))
}

/// What entitles a handle to its end of a ring: that the process takes part in the segment and, where the kind asks for
/// one, a role, which is given up on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    segment: Segment,
    role: Option<Role<Mapped>>,
    me: ParticipantId,
    process: Process,
    /// Of the peer's claims, the one whose end has been told.
    told: u64,
}

/// How long to wait for somebody else to clear up after a dead holder. It takes microseconds, unless he was stopped in it.
const CLEARING_UP: Duration = Duration::from_millis(100);

impl Claim {
    /// Takes part, without a role.
    pub(crate) fn participant(segment: &Segment) -> Result<Self, ClaimError> {
        Ok(Self {
            segment: segment.clone(),
            role: None,
            me: segment.participant()?,
            process: Process::current(),
            told: 0,
        })
    }

    /// Takes `role`. A holder that has died is cleared up after first. `peer` is the role of the other side, if its death
    /// shall be told.
    pub(crate) fn role<'a>(
        segment: &Segment,
        role: &Role<Mapped>,
        name: &'static str,
        peer: impl Into<Option<&'a Role<Mapped>>>,
    ) -> Result<Self, ClaimError> {
        let mut claim = Self::participant(segment)?;
        let patience = Instant::now() + CLEARING_UP;
        while let Err(holder) = role.claim(claim.me) {
            // Whoever clears up, and however the holder ended: if the word has changed, try again.
            segment.recover(holder);
            if role.holder() != Holder::Present(holder) {
                continue;
            }
            let holder = match segment.life(holder) {
                Life::Alive(who) => format!("process {}", who.pid),
                // Somebody else is clearing up after it.
                _ if Instant::now() < patience => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Life::Dead(who) => format!(
                    "process {}, which has died and is being cleared up after",
                    who.pid
                ),
                Life::Free => format!("{holder}, which is not attached: the ring is damaged"),
            };
            return Err(ClaimError::Taken { role: name, holder });
        }
        claim.role = Some(role.clone());
        // What happened before we came is nothing to tell.
        if let Some(peer) = peer.into().filter(|peer| peer.holder() == Holder::Died) {
            claim.told = peer.claims();
        }
        Ok(claim)
    }

    /// Our number in the segment.
    pub(crate) fn me(&self) -> ParticipantId {
        self.me
    }

    /// Whether the calling process is the one that made the claim.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_here()
    }

    /// Clears up after a participant if it has died.
    pub(crate) fn recover(&self, holder: ParticipantId) {
        self.segment.recover(holder);
    }

    /// Whether the holder of the role `peer` has died, and this is the first time that it is told.
    pub(crate) fn peer_died(&mut self, peer: &Role<Mapped>) -> bool {
        if let Holder::Present(holder) = peer.holder() {
            self.segment.recover(holder);
        }
        let news = peer.holder() == Holder::Died && peer.claims() != self.told;
        if news {
            self.told = peer.claims();
        }
        news
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let (true, Some(role)) = (self.is_here(), &self.role) {
            role.give_up(self.me);
        }
    }
}
