//! What every kind of ring has in common: how it is created, opened and looked at.

use std::marker::PhantomData;
use std::time::Duration;

use ipc_core::memory::{Area, OutOfArea};
use ipc_core::segment::{
    Entry, Kind, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};
use ipc_core::{Mapped, Message};

use crate::error::ClaimError;
use crate::seat::{self, Seats, Statistics};
use crate::side::Whole;
use crate::slot;

/// The name of the ring in a segment that holds nothing else.
pub const ONLY: &str = "ring";

/// A ring of some kind, attached to an object in a segment.
pub trait Ring: Sized {
    /// The end that messages go in at.
    type Producer;
    /// The end that messages come out at.
    type Consumer;

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

    /// What an object for a ring with these options needs.
    #[doc(hidden)]
    fn spec_of(options: &Options<Self>) -> Result<ObjectSpec, SegmentError> {
        Self::spec_of_lanes(options.capacity, options.lanes)
    }

    /// The ring in an object, if it is one of this kind and of this layout.
    ///
    /// # Errors
    ///
    /// If it is of another kind, version or layout; the message says what differs.
    fn attach(object: Object) -> Result<Self, SegmentError>;

    /// The object that the ring is in.
    fn object(&self) -> &Object;

    /// The ring as the algorithm sees it.
    #[doc(hidden)]
    fn whole(&self) -> &dyn Whole;

    /// Claims the end that messages go in at.
    ///
    /// # Errors
    ///
    /// If it has been claimed as often as the kind allows, by processes that live; the dead are cleared up after.
    fn producer(&self) -> Result<Self::Producer, ClaimError>;

    /// Claims the end that messages come out at.
    ///
    /// # Errors
    ///
    /// As for [`producer`](Self::producer).
    fn consumer(&self) -> Result<Self::Consumer, ClaimError>;

    /// How to create the ring in a segment of its own.
    fn options() -> Options<Self> {
        Options::new(1024)
    }

    /// Opens a ring in a segment of its own.
    ///
    /// # Errors
    ///
    /// As for opening a segment; and if what it holds is no such ring, of this layout: the message says what differs.
    fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// The ring of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or it is of another kind, version or layout: the message says what differs.
    fn in_segment(segment: &Segment, name: &str) -> Result<Self, SegmentError> {
        segment.learn(KINDS);
        Self::attach(segment.object(name)?)
    }

    /// The segment that the ring lies in.
    fn segment(&self) -> &Segment {
        self.object().segment()
    }

    /// The ring for the calling process, a forked child of the one that opened it.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    fn rejoin(&self) -> Result<Self, SegmentError> {
        let segment = self.segment().rejoin()?;
        Self::in_segment(&segment, &self.object().entry().name)
    }

    /// Writes the ring back to the file of its segment and waits, as [`Object::sync`] does.
    ///
    /// # Errors
    ///
    /// If the file could not be written back. The segment is failed for good then.
    fn sync(&self) -> Result<(), SegmentError> {
        self.object().sync()
    }

    /// How many messages were in it when it was looked at, in all lanes together; of a broadcast ring, how many its slowest
    /// lossless reader had still to take. While others push and pop, it may differ by the time you read it.
    fn len(&self) -> usize {
        self.whole().len()
    }

    /// Whether nothing was in it when it was looked at.
    fn is_empty(&self) -> bool {
        self.whole().is_empty()
    }

    /// How many messages fit in. Of a ring of records: the bytes of its arena, or of that of each lane.
    fn capacity(&self) -> usize {
        self.whole().capacity()
    }

    /// Whether somebody has closed it. That stays true.
    fn is_closed(&self) -> bool {
        self.whole().is_closed()
    }

    /// What was counted in it, by whom, and who is there. Costs nobody anything but whoever looks.
    fn statistics(&self) -> Statistics {
        let seats = Seats::of(self.object().area(), self.object().entry());
        seats.map_or_else(
            |_| Statistics::default(),
            |seats| seats.statistics(self.whole()),
        )
    }

    /// Closes the ring for good: nothing more goes in, what is in it can still be taken. A producer that has no more to say
    /// where there are others is dropped instead. Does nothing in a forked child that has inherited the ring: it closes what
    /// [`rejoin`](Self::rejoin) returns.
    fn close(&self) {
        if self.object().segment().is_here() {
            self.whole().close();
        }
    }
}

/// How every kind of this crate clears up after the dead: for [`Segment::learn`], in a program that opens segments without
/// knowing what they hold.
pub const KINDS: &[Kind] = &[
    crate::broadcast::KIND,
    crate::broadcast_bytes::KIND,
    crate::bytes::CHANNEL,
    crate::bytes::KIND,
    crate::journal::KIND,
    crate::journal::rotating::KIND,
    crate::lanes::KIND,
    crate::mpmc::KIND,
    crate::spsc::KIND,
];

/// How to create a ring in a segment of its own.
#[derive(Clone, Debug)]
#[must_use = "options do nothing before create, open or open_or_create is called"]
pub struct Options<R> {
    pub(crate) capacity: usize,
    pub(crate) lanes: usize,
    pub(crate) patience: Option<Duration>,
    segment: SegmentOptions,
    ring: PhantomData<fn() -> R>,
}

impl<R: Ring> Options<R> {
    /// A ring of `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            lanes: 1,
            patience: None,
            segment: SegmentOptions::new(),
            ring: PhantomData,
        }
    }

    /// How many messages fit in: a power of two, 1,024 if not set. Of a ring of bytes: how many bytes.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Everything that can be said of a segment: how many processes can be attached at a time, the mode of the file, a group
    /// or an owner to trust, huge pages. Objects that it has been given lie beside the ring.
    ///
    /// ```
    /// use ipc_core::segment::{Place, SegmentOptions};
    /// use ipc_ring::{Ring, spsc};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let many = SegmentOptions::new().participants(1000).huge_pages();
    /// let ring = spsc::Ring::<u64>::options().segment(many).create(Place::Memfd("feed".into()))?;
    /// assert_eq!(ring.segment().header().participants, 1000);
    /// # Ok(()) }
    /// ```
    pub fn segment(mut self, options: SegmentOptions) -> Self {
        self.segment = options;
        self
    }

    /// How many processes can be attached at the same time, 64 if not set.
    pub fn participants(self, count: u16) -> Self {
        let segment = self.segment.clone().participants(count);
        self.segment(segment)
    }

    /// The mode of the file, 0600 if not set.
    pub fn mode(self, mode: u32) -> Self {
        let segment = self.segment.clone().mode(mode);
        self.segment(segment)
    }

    /// Creates the ring.
    ///
    /// # Errors
    ///
    /// If there can be no such ring, something has the name already, or there is no room for it.
    pub fn create(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        R::in_segment(&self.with_ring()?.create(place)?, ONLY)
    }

    /// Opens the ring, with the owner and the group that these options trust. Its capacity is what its creator chose.
    ///
    /// # Errors
    ///
    /// As [`Ring::open`].
    pub fn open(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        R::in_segment(&self.segment.open(place)?, ONLY)
    }

    /// Opens the ring if it exists, and creates it otherwise. The capacity of one that exists is what its creator chose.
    ///
    /// # Errors
    ///
    /// As [`Ring::open`] for one that exists, and as [`create`](Self::create) for one that does not.
    pub fn open_or_create(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        R::in_segment(&self.with_ring()?.open_or_create(place)?, ONLY)
    }

    /// Creates the ring and gives it the name, whatever had the name before. Whoever has the old one open goes on using it.
    ///
    /// # Errors
    ///
    /// If there can be no such ring, there is no room for it, or what has the name is no segment.
    pub fn replace(self, place: impl Into<Place>) -> Result<R, SegmentError> {
        R::in_segment(&self.with_ring()?.replace(place)?, ONLY)
    }

    fn with_ring(self) -> Result<SegmentOptions, SegmentError> {
        let spec = R::spec_of(&self)?;
        Ok(self.segment.object(ONLY, spec))
    }
}

impl Options<crate::lanes::Ring> {
    /// How many lanes, and so producers at a time: 1 to 1,024, 16 if not set.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }
}

/// A ring and the object that it is in: what the `Ring` of every kind holds.
#[derive(Clone, Debug)]
pub(crate) struct Attached<W> {
    pub(crate) object: Object,
    pub(crate) shared: W,
}

impl<W> Attached<W> {
    /// The ring that `new` makes of the area and the capacity, if the object is of that kind, with messages of type `T` in
    /// slots of `stride` bytes.
    pub(crate) fn typed<T: Message>(
        object: Object,
        kind: Kind,
        version: u32,
        stride: Option<usize>,
        new: impl FnOnce(&Area<Mapped>, usize) -> Result<W, OutOfArea>,
    ) -> Result<Self, SegmentError> {
        object.expect(kind.tag, version, &T::schema().text())?;
        let [capacity, found] = object.entry().parameters;
        let capacity = usize::try_from(capacity)
            .ok()
            .filter(|_| stride.is_some_and(|stride| stride as u64 == found));
        match capacity.map(|capacity| new(object.area(), capacity)) {
            Some(Ok(shared)) => Ok(Self { object, shared }),
            _ => Err(misfit(object.entry())),
        }
    }

    /// The same for messages in slots with words; `new` makes the ring of area, capacity, size and alignment.
    pub(crate) fn in_slots<T: Message>(
        object: Object,
        kind: Kind,
        version: u32,
        new: fn(&Area<Mapped>, usize, usize, usize) -> Result<W, OutOfArea>,
    ) -> Result<Self, SegmentError> {
        let (size, align) = (size_of::<T>(), align_of::<T>());
        let stride = slot::stride(size, align);
        Self::typed::<T>(object, kind, version, stride, |area, capacity| {
            new(area, capacity, size, align)
        })
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
    let len = len.and_then(|len| seat::size(kind.tag, 1, len));
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

/// The object for a ring of `capacity` messages of type `T` in slots with words; `len` tells how long it is, of capacity,
/// size and alignment.
pub(crate) fn spec_in_slots<T: Message>(
    kind: Kind,
    version: u32,
    capacity: usize,
    len: fn(usize, usize, usize) -> Option<usize>,
) -> Result<ObjectSpec, SegmentError> {
    let (size, align) = (size_of::<T>(), align_of::<T>());
    let (stride, len) = (slot::stride(size, align), len(capacity, size, align));
    spec_of::<T>(kind, version, capacity, stride, len)
}

/// What the directory says of a ring does not fit its object.
pub(crate) fn misfit(entry: &Entry) -> SegmentError {
    let Entry {
        name,
        len,
        parameters: [capacity, other],
        ..
    } = entry;
    SegmentError::Damaged(format!(
        "what the directory says of the ring {name:?}, {capacity} and {other}, does not fit its {len} bytes"
    ))
}

/// What to say of a ring whose positions contradict each other.
pub(crate) fn damaged(object: &Object) -> SegmentError {
    SegmentError::Damaged(format!(
        "the positions of the ring {:?} contradict each other",
        object.entry().name
    ))
}
