//! Typed regions: structs of atomics and cells that processes use by reference.
//!
//! This is the only place where a pointer into shared memory becomes a reference. A [`Region<T>`] gives `&T`, which other
//! processes change at any time; that is sound because `T` is [`Shared`]: made of atomics and [`SharedCell`]s
//! alone, of which every bit pattern is a value. A new region is all zeros. There is no `&mut T`.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! use ipc_core::region::Region;
//! use ipc_core::segment::Place;
//! use ipc_core::{Layout, Shared};
//!
//! #[derive(Layout, Shared)]
//! #[repr(C)]
//! struct Counters {
//!     requests: AtomicU64,
//!     errors: AtomicU64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // With a name in place of `Place::Anonymous` any process finds it; this one is shared with forked children.
//! let counters = Region::<Counters>::create(Place::Anonymous)?;
//! counters.requests.fetch_add(1, Relaxed);
//! assert_eq!(counters.requests.load(Relaxed), 1);
//! # Ok(()) }
//! ```
//!
//! A [`RegionView`] is open for reading only, of a file that need not be writable: its parts are loaded and copied, one by
//! one, and there is nothing to store with.
//!
//! Several regions share a segment by its directory: [`Region::spec`] for the creator, [`Region::in_segment`] for all.
//!
//! # When a participant dies
//!
//! A region has no claims: whoever dies leaves it as its last store left it. A [`SharedCell`] whose writer died half way
//! holds a mixture of the old and the new bytes.
//!
//! # Safety
//!
//! `base` points at a `T`, aligned, in a mapping that the object keeps mapped, shared and writable. If somebody cuts the
//! file short, the guard of the mapping puts private pages of zeros in the place of those that are lost: `&T` stays valid,
//! and what it shows is a `T` as well, though not shared any more. [`Segment::check`] tells.
#![allow(unsafe_code)]

mod slice;
mod view;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

pub use crate::cell::{SharedCell, SharedSlice};
pub use slice::RegionSlice;
pub use view::{Load, RegionView};

use crate::Mapped;
use crate::fork::Process;
use crate::layout::Shared;
use crate::memory::{Area, OutOfArea};
use crate::participant::ParticipantId;
use crate::segment::{
    Entry, Kind, OBJECT_ALIGN, Object, ObjectSpec, Place, Segment, SegmentError, SegmentOptions,
};

/// The name of the region in a segment that holds nothing else.
pub const ONLY: &str = "region";

/// The tag of a typed region in the directory of a segment.
pub const KIND: [u8; 8] = *b"region\0\0";

/// The version of the kind.
pub const VERSION: u32 = 1;

/// Regions and slices hold no claims: there is nothing to clear up after the dead.
pub(crate) const KINDS: [Kind; 2] = [
    Kind {
        tag: KIND,
        version: VERSION,
        recover: nothing,
    },
    Kind {
        tag: slice::KIND,
        version: slice::VERSION,
        recover: nothing,
    },
];

fn nothing(_: &Area<Mapped>, _: &Entry, _: ParticipantId) -> Result<(), OutOfArea> {
    Ok(())
}

/// A `T` in a segment. Dereferences to `T`.
pub struct Region<T> {
    object: Object,
    base: NonNull<T>,
    process: Process,
    shared: PhantomData<T>,
}

// SAFETY: a region is a reference to a `T` that is `Sync`, and an object, which is `Send`.
unsafe impl<T: Shared> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Region<T> {}

impl<T: Shared> Region<T> {
    /// What an object for the region needs, for a segment of several objects.
    pub fn spec() -> ObjectSpec {
        const {
            assert!(
                align_of::<T>() <= OBJECT_ALIGN,
                "objects are aligned to 128 bytes: a region cannot ask for more"
            )
        };
        ObjectSpec {
            kind: KIND,
            version: VERSION,
            len: size_of::<T>(),
            schema: T::schema().text(),
            parameters: [0; 2],
        }
    }

    /// Creates a segment that holds the region alone.
    ///
    /// # Errors
    ///
    /// As [`SegmentOptions::create`].
    pub fn create(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Self::options().create(place)?, ONLY)
    }

    /// Opens a segment that holds the region alone.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`], and [`SegmentError::OtherLayout`], field by field, if the region is not a `T`.
    pub fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open(place)?, ONLY)
    }

    /// Opens a segment that holds the region alone, or creates it if there is none. Of several processes at once, one
    /// creates it and the others open what it made.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Self::options().open_or_create(place)?, ONLY)
    }

    fn options() -> SegmentOptions {
        SegmentOptions::new().object(ONLY, Self::spec())
    }

    /// Opens a segment that holds the region alone, for reading only.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(place: impl Into<Place>) -> Result<RegionView<T>, SegmentError> {
        RegionView::open(place)
    }

    /// The region of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none, or what there is is not a region of a `T`.
    pub fn in_segment(segment: &Segment, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        object.expect(KIND, VERSION, &T::schema().text())?;
        let base = pointer_to::<T>(&object, 1)?;
        Ok(Self {
            object,
            base,
            process: Process::current(),
            shared: PhantomData,
        })
    }

    /// The region for the calling process, a forked child of the one that opened it.
    ///
    /// # Errors
    ///
    /// As [`Segment::rejoin`].
    pub fn rejoin(&self) -> Result<Self, SegmentError> {
        let object = self.segment().rejoin()?.object(&self.object.entry().name)?;
        Ok(Self {
            object,
            base: self.base,
            process: Process::current(),
            shared: PhantomData,
        })
    }

    /// The segment that the region lies in.
    pub fn segment(&self) -> &Segment {
        self.object.segment()
    }

    /// Writes the region back to the file of its segment and waits.
    ///
    /// # Errors
    ///
    /// As [`Segment::sync`].
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.object.sync()
    }

    /// A part of the region, as a handle of its own that keeps the whole mapped.
    ///
    /// # Panics
    ///
    /// If what `part` returns is no part of what it was given.
    pub fn project<U: Shared>(&self, part: impl FnOnce(&T) -> &U) -> Region<U> {
        let base = NonNull::from(part(self));
        let from = base.addr().get().wrapping_sub(self.base.addr().get());
        assert!(
            from <= size_of::<T>() && size_of::<U>() <= size_of::<T>() - from,
            "not a part of the region"
        );
        Region {
            object: self.object.clone(),
            base,
            process: self.process,
            shared: PhantomData,
        }
    }
}

/// Checks that the object has room for `count` of `T`, aligned, and gives a pointer to the first.
fn pointer_to<T>(object: &Object, count: usize) -> Result<NonNull<T>, SegmentError> {
    let base: NonNull<T> = object.area().pointer().cast();
    check_room::<T>(object.entry(), count, base.is_aligned())?;
    Ok(base)
}

/// Checks that the object has room for `count` of `T`. Its place in the mapping is inside, which its area makes sure of.
fn check_room<T>(entry: &Entry, count: usize, aligned: bool) -> Result<(), SegmentError> {
    let len = size_of::<T>().checked_mul(count).map(|len| len as u64);
    if len.is_none_or(|len| len > entry.len) || !aligned {
        return Err(SegmentError::Damaged(format!(
            "the object {:?} has {} bytes, too few for {count} of {} bytes, or is not aligned to {}",
            entry.name,
            entry.len,
            size_of::<T>(),
            align_of::<T>(),
        )));
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn inherited() -> ! {
    panic!("{}", SegmentError::Forked)
}

impl<T: Shared> Deref for Region<T> {
    type Target = T;

    /// # Panics
    ///
    /// In a forked child of the process that opened the region: use what [`rejoin`](Region::rejoin) returns.
    #[inline]
    fn deref(&self) -> &T {
        if !self.process.is_here() {
            inherited();
        }
        // SAFETY: (1) aligned and within the mapping, checked by `pointer_to` or inherited from it; (2) the object keeps the
        // mapping; (3) `Shared`: every bit pattern is a value, and others may change it at any time.
        unsafe { self.base.as_ref() }
    }
}

impl<T> Clone for Region<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("object", self.object.entry())
            .finish_non_exhaustive()
    }
}
