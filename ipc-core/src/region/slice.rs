//! Regions of many values of one plain type, as many as the creator chose.
//!
//! # Safety
//!
//! `base` points at `len` cells, aligned, in a mapping that the object keeps mapped, shared and writable.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use super::{SharedCell, SharedSlice, inherited, pointer_to};
use crate::fork::Process;
use crate::layout::{Layout, Message};
use crate::segment::{Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions};

/// The tag of a slice in the directory of a segment.
pub(super) const KIND: [u8; 8] = *b"slice\0\0\0";

/// The version of the kind.
pub(super) const VERSION: u32 = 1;

/// Values of type `T` in a segment, copied in and out. Dereferences to [`SharedSlice<T>`].
///
/// ```
/// use ipc_core::region::RegionSlice;
/// use ipc_core::segment::Place;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let samples = RegionSlice::<f32>::create(Place::Anonymous, 1000)?;
/// samples.write(998, &[0.5, 0.25]);
/// assert_eq!(samples[999].get(), 0.25);
/// # Ok(()) }
/// ```
pub struct RegionSlice<T> {
    object: Object,
    base: NonNull<SharedCell<T>>,
    len: usize,
    process: Process,
}

// SAFETY: it is a reference to cells, which are `Sync`, and an object, which is `Send`.
unsafe impl<T: Message> Send for RegionSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Message> Sync for RegionSlice<T> {}

impl<T: Message> RegionSlice<T> {
    /// What an object for `len` values needs, for a segment of several objects.
    ///
    /// # Errors
    ///
    /// If they would be larger than any memory.
    pub fn spec(len: usize) -> Result<ObjectSpec, SegmentError> {
        Ok(ObjectSpec {
            kind: KIND,
            version: VERSION,
            len: len
                .checked_mul(size_of::<T>())
                .ok_or(SegmentError::TooLarge)?,
            schema: SharedCell::<T>::schema().text(),
            parameters: [len as u64, size_of::<T>() as u64],
        })
    }

    /// Creates a segment that holds `len` values, all zero, and nothing else.
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`].
    pub fn create(place: impl Into<Place>, len: usize) -> Result<Self, SegmentError> {
        let options = SegmentOptions::new().object(super::ONLY, Self::spec(len)?);
        Self::in_segment(&options.create(place)?, super::ONLY)
    }

    /// Opens a segment that holds the values and nothing else. Their number is what the creator chose.
    ///
    /// # Errors
    ///
    /// As [`Region::open`](super::Region::open).
    pub fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open(place)?, super::ONLY)
    }

    /// The values of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// As [`Region::in_segment`](super::Region::in_segment).
    pub fn in_segment(segment: &Segment, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        object.expect(KIND, VERSION, &SharedCell::<T>::schema().text())?;
        let len = usize::try_from(object.entry().parameters[0]).unwrap_or(usize::MAX);
        let base = pointer_to(&object, len)?;
        Ok(Self {
            object,
            base,
            len,
            process: Process::current(),
        })
    }

    /// The values for the calling process, a forked child of the one that opened them.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    pub fn rejoin(&self) -> Result<Self, SegmentError> {
        Self::in_segment(&self.segment().rejoin()?, &self.object.entry().name)
    }

    /// Writes the values back to the file of their segment and waits.
    ///
    /// # Errors
    ///
    /// As [`Segment::sync`].
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.object.sync()
    }

    /// The segment that they lie in.
    pub fn segment(&self) -> &Segment {
        self.object.segment()
    }
}

impl<T: Message> Deref for RegionSlice<T> {
    type Target = SharedSlice<T>;

    /// # Panics
    ///
    /// In a forked child of the process that opened the region: use what [`rejoin`](RegionSlice::rejoin) returns.
    #[inline]
    fn deref(&self) -> &SharedSlice<T> {
        if !self.process.is_here() {
            inherited();
        }
        // SAFETY: (1) aligned and within the mapping, checked by `pointer_to`; (2) the object keeps the mapping; (3) others
        // may change a cell at any time, and every bit pattern of it is a value.
        SharedSlice::of(unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) })
    }
}

impl<T> Clone for RegionSlice<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for RegionSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionSlice")
            .field("object", self.object.entry())
            .finish_non_exhaustive()
    }
}
