//! Plain data in shared memory, copied in and copied out.
//!
//! A [`SharedCell`] holds a value that other processes may overwrite at any moment. Nobody gets a reference to the value:
//! `get` copies it out, `set` copies it in. A copy that races with a `set` may be torn: a mixture of the old and the new
//! bytes. It is still a value, since every bit pattern of a [`Message`] is one; where it must be whole, keep to a protocol
//! (a lock, a sequence number) or use a ring, which does.
//!
//! # Safety
//!
//! A cell is never read or written but through `copy`, which is safe against racing writers, and by values of a type of
//! which every bit pattern is valid and no byte is padding.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Deref;

use bytemuck::{bytes_of, bytes_of_mut, cast_slice, cast_slice_mut};

use crate::copy;
use crate::layout::{Layout, Message, Schema, Shared};

/// Plain data in shared memory. Zeros at first, as all of a new region.
#[repr(transparent)]
pub struct SharedCell<T>(UnsafeCell<T>);

// SAFETY: every access is a copy that may race, so threads need not agree on anything; the value is plain data.
unsafe impl<T: Message> Sync for SharedCell<T> {}

// SAFETY: (1) all bytes lie in an `UnsafeCell`, which is only accessed by copies that may race; (2) every bit pattern of a
// `Message` is a value.
unsafe impl<T: Message> Shared for SharedCell<T> {}

impl<T: Message> Layout for SharedCell<T> {
    fn schema() -> Schema {
        Schema::cell::<T>()
    }
}

impl<T: Message> SharedCell<T> {
    /// A cell in private memory.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Copies the value out. While somebody sets it, the copy may be torn.
    #[inline]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        // SAFETY: (1) valid for reads of its own size while `self` is borrowed; (2) `value` is a local variable.
        unsafe { copy::copy_out(self.0.get().cast(), bytes_of_mut(&mut value)) };
        value
    }

    /// Copies a value in. Orders nothing: whoever must see it learns that by an atomic.
    #[inline]
    pub fn set(&self, value: T) {
        // SAFETY: (1) valid for writes of its own size while `self` is borrowed; (2) `value` is a local variable.
        unsafe { copy::copy_in(self.0.get().cast(), bytes_of(&value)) };
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for SharedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedCell").field(&self.get()).finish()
    }
}

/// Many [`SharedCell`]s in a row, which are also copied in bulk.
///
/// A field is `[SharedCell<T>; N]`, and [`SharedSlice::of`] it is its slice; a
/// [`RegionSlice`](crate::region::RegionSlice) has a length that is chosen when it is created.
#[repr(transparent)]
pub struct SharedSlice<T>([SharedCell<T>]);

impl<T: Message> SharedSlice<T> {
    /// The cells as one slice.
    pub fn of(cells: &[SharedCell<T>]) -> &Self {
        let cells: *const [SharedCell<T>] = cells;
        // SAFETY: `SharedSlice` is a transparent wrapper, so the pointer is as valid as the reference it was made from, and
        // what it points at is borrowed for as long as the result.
        unsafe { &*(cells as *const Self) }
    }

    /// Copies the values from `at` on out. While somebody sets them, each may be torn.
    ///
    /// # Panics
    ///
    /// If `at + into.len()` is more than the length.
    pub fn read(&self, at: usize, into: &mut [T]) {
        let cells = &self.0[at..][..into.len()];
        // SAFETY: (1) the cells are as many as the values, of the same size, and borrowed; (2) `into` is private memory,
        // which shares no byte with cells.
        unsafe { copy::copy_out(cells.as_ptr().cast(), cast_slice_mut(into)) };
    }

    /// Copies values in, from `at` on. Orders nothing.
    ///
    /// # Panics
    ///
    /// If `at + from.len()` is more than the length.
    pub fn write(&self, at: usize, from: &[T]) {
        let cells = &self.0[at..][..from.len()];
        // SAFETY: (1) the cells are as many as the values, of the same size, borrowed, and made to be written through a
        // shared reference; (2) `from` is private memory, which shares no byte with cells.
        unsafe { copy::copy_in(UnsafeCell::raw_get(cells.as_ptr().cast()), cast_slice(from)) };
    }

    /// Copies all values out.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.0.len()];
        self.read(0, &mut values);
        values
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [SharedCell<T>];

    fn deref(&self) -> &[SharedCell<T>] {
        &self.0
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(SharedCell::get))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_copies_what_its_cells_hold() {
        // Catches a bulk copy that is off by an element or by a size.
        let cells = [const { SharedCell::new([0_u16; 3]) }; 5];
        let slice = SharedSlice::of(&cells);
        slice.write(1, &[[1, 2, 3], [4, 5, 6]]);
        slice[4].set([7, 8, 9]);
        assert_eq!(
            slice.to_vec(),
            [[0; 3], [1, 2, 3], [4, 5, 6], [0; 3], [7, 8, 9]]
        );
        let mut two = [[0; 3]; 2];
        slice.read(2, &mut two);
        assert_eq!(two, [[4, 5, 6], [0; 3]]);
        assert_eq!(cells[2].get(), [4, 5, 6]);
    }

    #[test]
    #[should_panic]
    fn a_copy_past_the_end_is_refused() {
        // Catches a bounds check that went missing.
        let cells = [const { SharedCell::new(0_u8) }; 4];
        SharedSlice::of(&cells).write(3, &[1, 2]);
    }
}
