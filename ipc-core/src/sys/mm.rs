//! The system calls on memory.
//!
//! # Safety
//!
//! Each function passes its arguments on unchanged; the caller answers for them.
#![allow(unsafe_code)]

use std::{ffi::c_void, io};

pub(crate) use rustix::{
    mm::{
        Advice, MapFlags, MlockAllFlags, MlockFlags, MprotectFlags, MremapFlags, MsyncFlags,
        ProtFlags, madvise, mlock_with, mlockall, mmap, mmap_anonymous, mprotect, mremap,
        mremap_fixed, msync, munlock, munlockall, munmap,
    },
    param::page_size,
};

/// Which pages of a range are in memory: one byte a page, whose lowest bit counts.
///
/// # Safety
///
/// `at` must be a multiple of the page size and `pages` have a byte for each page of `len`.
pub(crate) unsafe fn mincore(at: *mut c_void, len: usize, pages: &mut [u8]) -> io::Result<()> {
    // SAFETY: the caller vouches for the range and for the length of `pages`.
    match unsafe { libc::mincore(at, len, pages.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
