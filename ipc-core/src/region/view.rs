//! Typed regions that are only read.
//!
//! A view gives no `&T`: an atomic behind a reference could be stored to, and a store to memory that is mapped for reading
//! ends the process. Instead a view is narrowed to a part ([`RegionView::project`]), and the part is loaded, or the whole is
//! copied.
//!
//! # Safety
//!
//! A `T` lies at `area`, aligned, in a mapping that the object keeps mapped. It is only loaded from, at most 8 bytes at once
//! where the load is atomic (wider ones may write), or copied out.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};

use super::{KIND, ONLY, SharedCell, VERSION, check_room};
use crate::ReadOnly;
use crate::layout::{Message, Shared};
use crate::memory::Area;
use crate::segment::{ObjectView, Place, Segment, SegmentError, SegmentView};

/// A `T` in a segment that is open for reading only, or a part of one.
///
/// ```
/// # use std::os::fd::AsFd;
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// # use ipc_core::region::{Region, RegionView};
/// # use ipc_core::segment::Place;
/// # use ipc_core::{Layout, Shared};
/// #[derive(Layout, Shared)]
/// #[repr(C)]
/// struct Counters {
///     requests: AtomicU64,
///     errors: [AtomicU64; 3],
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = Region::<Counters>::create(Place::Memfd("counters".into()))?;
/// # region.errors[1].store(3, Relaxed);
/// # let place = region.segment().as_fd().try_clone_to_owned()?;
/// let counters = RegionView::<Counters>::open(place)?;
/// let errors = counters.project(|counters| &counters.errors[1]);
/// assert_eq!(errors.load(Relaxed), 3);
/// # Ok(()) }
/// ```
pub struct RegionView<T> {
    object: ObjectView,
    area: Area<ReadOnly>,
    shared: PhantomData<fn() -> T>,
}

impl<T: Shared> RegionView<T> {
    /// Opens a segment that holds the region alone, for reading only.
    ///
    /// # Errors
    ///
    /// As [`Region::open`](super::Region::open).
    pub fn open(place: impl Into<Place>) -> Result<Self, SegmentError> {
        Self::in_segment(&Segment::open_read_only(place)?, ONLY)
    }

    /// The region of that name among the objects of a segment.
    ///
    /// # Errors
    ///
    /// If there is none, or what there is is not a region of a `T`.
    pub fn in_segment(segment: &SegmentView, name: &str) -> Result<Self, SegmentError> {
        let object = segment.object(name)?;
        object.expect(KIND, VERSION, &T::schema().text())?;
        let area = object.area().clone();
        check_room::<T>(object.entry(), 1, area.pointer().cast::<T>().is_aligned())?;
        Ok(Self {
            object,
            area,
            shared: PhantomData,
        })
    }

    /// A part of the region. `part` is called once, with zeros in private memory, to learn where the part lies.
    ///
    /// # Panics
    ///
    /// If what `part` returns is no part of what it was given.
    pub fn project<U: Shared>(&self, part: impl FnOnce(&T) -> &U) -> RegionView<U> {
        let model = zeroed::<T>();
        let from = std::ptr::from_ref(part(&model))
            .addr()
            .wrapping_sub(std::ptr::from_ref(&*model).addr());
        assert!(
            from <= size_of::<T>() && size_of::<U>() <= size_of::<T>() - from,
            "not a part of the region"
        );
        let area = self
            .area
            .part(from, size_of::<U>())
            .expect("a part lies within the region");
        RegionView {
            object: self.object.clone(),
            area,
            shared: PhantomData,
        }
    }

    /// A private copy. What is stored meanwhile may be in it or not, or in part.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the region was found to lie in its object when it was opened"
    )]
    pub fn copy(&self) -> Box<T> {
        let mut copy = zeroed::<T>();
        let to: *mut T = &mut *copy;
        // SAFETY: the copy is initialised, ours alone, and has this size; every bit pattern is a `T` (`Shared`).
        let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), size_of::<T>()) };
        self.area
            .read(0, to)
            .expect("the region lies within its object");
        copy
    }

    /// The segment that the region lies in.
    pub fn segment(&self) -> &SegmentView {
        self.object.segment()
    }
}

/// A `T` of zeros, in private memory.
fn zeroed<T: Shared>() -> Box<T> {
    // Never on the stack, where a large region has no room.
    let mut zeros = Box::<T>::new_uninit();
    // SAFETY: the box is valid for writes of one `T`, and aligned for it.
    unsafe { zeros.as_mut_ptr().write_bytes(0, 1) };
    // SAFETY: every bit pattern is a `T` (`Shared`), all zeros among them.
    unsafe { zeros.assume_init() }
}

impl<T: Load> RegionView<T> {
    /// Loads the atomic.
    ///
    /// # Panics
    ///
    /// If the order is `Release` or `AcqRel`, which loads cannot have.
    #[inline]
    pub fn load(&self, order: Ordering) -> T::Value {
        // SAFETY: (1) aligned: the region is, and the part is where one is in an aligned `T`; (2) within the mapping, which
        // the object keeps; (3) only atomics and copies that may race touch it; this is a load of at most 8 bytes.
        unsafe { T::load_from(self.area.pointer(), order) }
    }
}

impl<M: Message> RegionView<SharedCell<M>> {
    /// Copies the value out. While somebody sets it, the copy may be torn.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the cell was found to lie in its object when the region was opened"
    )]
    pub fn get(&self) -> M {
        let mut value = M::zeroed();
        self.area
            .read(0, bytemuck::bytes_of_mut(&mut value))
            .expect("the cell lies within its object");
        value
    }
}

/// An atomic that can be loaded from memory that is mapped for reading only.
pub trait Load: Shared + sealed::Sealed {
    /// What it holds.
    type Value;

    /// Loads.
    ///
    /// # Safety
    ///
    /// `at` is aligned and valid for reads while the call lasts, and others change it by atomics of this size alone, or by
    /// what the language does not see.
    unsafe fn load_from(at: *const u8, order: Ordering) -> Self::Value;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! load {
    ($($atomic:ty = $value:ty),*) => {$(
        impl sealed::Sealed for $atomic {}

        impl Load for $atomic {
            type Value = $value;

            #[inline]
            unsafe fn load_from(at: *const u8, order: Ordering) -> $value {
                // SAFETY: the caller's contract; the atomic is only loaded from, which does not write.
                unsafe { <$atomic>::from_ptr(at.cast_mut().cast()) }.load(order)
            }
        }
    )*};
}

load!(
    AtomicU8 = u8,
    AtomicU16 = u16,
    AtomicU32 = u32,
    AtomicU64 = u64
);
load!(
    AtomicI8 = i8,
    AtomicI16 = i16,
    AtomicI32 = i32,
    AtomicI64 = i64
);

impl<T> Clone for RegionView<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            area: self.area.clone(),
            shared: PhantomData,
        }
    }
}

impl<T> fmt::Debug for RegionView<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionView")
            .field("object", self.object.entry())
            .finish_non_exhaustive()
    }
}
