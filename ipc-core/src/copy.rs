//! Copies between private memory and memory that another process may change at any time.
#![allow(unsafe_code)]

/// Copies `from` to the shared address `to`.
///
/// # Safety
///
/// `to` must be valid for writes of `from.len()` bytes.
#[inline(always)]
pub(crate) unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    for (i, byte) in from.iter().enumerate() {
        // SAFETY: `i < from.len()`, for which the caller vouches.
        unsafe { to.add(i).write_volatile(*byte) };
    }
}

/// Copies from the shared address `from` into `to`.
///
/// # Safety
///
/// `from` must be valid for reads of `to.len()` bytes.
#[inline(always)]
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    for (i, byte) in to.iter_mut().enumerate() {
        // SAFETY: `i < to.len()`, for which the caller vouches.
        *byte = unsafe { from.add(i).read_volatile() };
    }
}
