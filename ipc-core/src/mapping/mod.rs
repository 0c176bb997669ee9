//! Mappings: a range of memory each, and all that the kernel can do with it.
//!
//! Say what is wanted, then of what: options, and `map_file`, `map_anonymous` or `map_memfd`.
//!
//! ```
//! use ipc_core::MapOptions;
//!
//! # fn main() -> Result<(), ipc_core::mapping::MapError> {
//! let mapping = MapOptions::new().len(4096).map_anonymous()?;
//! mapping.write_at(100, b"hello")?;
//! let mut bytes = [0; 5];
//! mapping.read_at(100, &mut bytes)?;
//! assert_eq!(&bytes, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! A [`Mapping`] gives no slices of its bytes, since another process may change them at any moment, but bounds-checked
//! copies, which run at the speed of a memory copy. Only memory that nobody else can change is given as a slice: that of a
//! [`PrivateMapping`] and of a [`FrozenMapping`]. A file that is cut short while it is mapped is an error
//! ([`MapError::CutShort`]) and not the end of the process.
//!
//! What takes the pages away from under a user takes the mapping by value or by `&mut`: after [`Mapping::unmap`],
//! [`Mapping::resize`] and [`Mapping::split_at`] the old value is gone, and the compiler sees to it.
//!
//! # Safety
//!
//! `start..start + len` lies inside the body, which is mapped as `access` says for as long as the mapping lives. Bytes are
//! reached through `copy` alone or as atomics, so that others may change them at any moment.
#![allow(unsafe_code)]

use std::{
    fmt, io,
    ops::{Bound, Range, RangeBounds},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, compiler_fence},
    },
};

use area::Area;

use crate::{copy, fault::Guard, sys::mm};

mod area;
mod check;
mod error;
mod limits;
mod options;
mod place;
mod private;
mod range;
mod resize;
mod secret;
mod space;

pub use error::{Kept, MapError};
pub use limits::{Overcommit, huge_page_size, overcommit, page_size};
pub use options::MapOptions;
pub use place::Reservation;
pub use private::{FrozenMapping, PrivateMapping};
pub use range::{Advice, Residency, Sync, lock_all, unlock_all};
pub use resize::Resize;
pub use secret::SecretBuffer;
pub(crate) use space::reserve;

/// Memory mapped into this process.
///
/// Whole pages are mapped; [`len`](Mapping::len) is what was asked for. It may be shared between threads: its copies race
/// with nothing that the language knows of. It is unmapped when it is dropped, except in what the kernel shares of it with
/// others. A forked child inherits it.
#[derive(Debug)]
pub struct Mapping {
    /// Watches for missing pages, where somebody could take them away. It comes first, so that it is dropped before the
    /// addresses are free for others.
    guard: Option<Guard>,
    /// All pages that are ours: guard pages and room to grow included.
    area: Area,
    /// The pages that were asked for, as offsets in the area.
    body: Range<usize>,
    /// How many bytes of guard pages end the area.
    fence: usize,
    /// The first byte, as an offset in the area: beyond the first of the body where the file's offset is off a page.
    first: usize,
    len: usize,
    /// The size of its pages, in bytes.
    unit: usize,
    /// Shared or private, and whether swap is reserved: for pages that come later.
    flags: mm::MapFlags,
    access: Access,
    shared: bool,
    /// What the pages are of; `None` when they are anonymous.
    file: Option<Arc<File>>,
    /// Where in the file the body begins.
    offset: u64,
    huge: HugePages,
    /// What makes the checks on access take the long way; bits below.
    unusual: AtomicU8,
    /// The process for which `KEPT_FROM_CHILDREN` was set.
    process: AtomicU32,
    /// The error number of the first failed sync, else 0.
    sync_error: AtomicI32,
}

/// The mapping is not there in a forked child.
const KEPT_FROM_CHILDREN: u8 = 1;
/// The kernel may take the bytes away and give zeros, at any time.
const FREED: u8 = 2;
/// The mapping was put together of pieces, and does not grow.
const PIECES: u8 = 4;

/// The file of a mapping: its name for messages, and the descriptor if it is kept.
#[derive(Debug)]
struct File {
    name: String,
    descriptor: Option<OwnedFd>,
}

/// What may be done with the bytes of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the range only holds addresses.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing.
    ReadExecute,
}

impl Access {
    fn bits(self) -> mm::ProtFlags {
        match self {
            Access::None => mm::ProtFlags::empty(),
            Access::Read => mm::ProtFlags::READ,
            Access::ReadWrite => mm::ProtFlags::READ | mm::ProtFlags::WRITE,
            Access::ReadExecute => mm::ProtFlags::READ | mm::ProtFlags::EXEC,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::None => "without access",
            Access::Read => "read-only",
            Access::ReadWrite => "readable and writable",
            Access::ReadExecute => "readable and executable",
        })
    }
}

/// What became of the wish for huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// None were asked for.
    NotAsked,
    /// The mapping is made of huge pages of this many bytes, set aside for it.
    Reserved(usize),
    /// The kernel was asked to use huge pages as it sees fit; why there are none set aside.
    Transparent(String),
    /// The mapping is made of ordinary pages, and why.
    Unavailable(String),
}

impl Mapping {
    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes, as in the mapping of an empty file.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What may be done with the bytes.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether changes are seen by others: by processes that map the same file, and by forked children.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// What became of the wish for huge pages.
    pub fn huge_pages(&self) -> &HugePages {
        &self.huge
    }

    /// The address of the first byte. It stays as long as the mapping is not moved by [`resize`](Mapping::resize).
    pub fn address(&self) -> usize {
        self.as_ptr().addr().get()
    }

    /// The file, if it was kept with [`MapOptions::keep_file`] or is a memfd: for growing, locking and `fsync`.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.descriptor.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether the file was cut short under the mapping. Once true it stays true, and reads and writes fail.
    #[inline]
    pub fn is_cut_short(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_poisoned)
    }

    /// Copies the bytes from `offset` on into `to`.
    ///
    /// While others write the same bytes, what arrives is any mixture of old and new ones.
    ///
    /// # Errors
    ///
    /// When the bytes lie outside, the protection forbids it, or the file was cut short.
    #[inline]
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), MapError> {
        let from = self.span(offset, to.len())?;
        if self.access == Access::None {
            return Err(self.protected("read"));
        }
        // SAFETY: (1) `span` has checked the range, and it may be read; (2) no slice of ours overlaps a mapping's bytes
        // but one of a private mapping, which cannot be borrowed mutably beside this one.
        unsafe { copy::copy_out(from, to) };
        self.still_whole()
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// When the bytes lie outside, the protection forbids it, or the file was cut short.
    #[inline]
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), MapError> {
        let to = self.span(offset, from.len())?;
        if self.access != Access::ReadWrite {
            return Err(self.protected("written"));
        }
        // SAFETY: (1) `span` has checked the range, and it may be written; (2) as in `read_at`.
        unsafe { copy::copy_in(to, from) };
        self.still_whole()
    }

    /// Copies a range of bytes into a new vector.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Mapping::read_at).
    pub fn to_vec(&self, range: impl RangeBounds<usize>) -> Result<Vec<u8>, MapError> {
        let range = self.range(range)?;
        let mut bytes = vec![0; range.len()];
        self.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// The word of 8 bytes at `offset`, shared with whoever maps the same page.
    ///
    /// Words of one size alone are given, since accesses of several sizes to the same bytes have no defined meaning.
    ///
    /// # Errors
    ///
    /// When the offset is not a multiple of 8, the word lies outside, or the mapping is not writable.
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, MapError> {
        let word: *mut AtomicU64 = self.span(offset, size_of::<AtomicU64>())?.cast();
        if self.access != Access::ReadWrite {
            return Err(self.protected("used as an atomic word"));
        }
        if !word.is_aligned() {
            return Err(MapError::Misaligned {
                offset,
                align: align_of::<AtomicU64>(),
            });
        }
        self.still_whole()?;
        // SAFETY: (1) aligned and inside, as checked; (2) it lives as long as the borrow of the mapping; (3) others change
        // it by atomics too, or by what the language does not see.
        Ok(unsafe { AtomicU64::from_ptr(word.cast()) })
    }

    /// Unmaps now, and says when that fails. A drop does the same, silently.
    ///
    /// # Errors
    ///
    /// When the process is at its limit of mappings.
    pub fn unmap(mut self) -> Result<(), MapError> {
        self.guard = None;
        let len = self.area.len();
        let area = std::mem::replace(&mut self.area, Area::empty());
        area.unmap()
            .map_err(|source| limits::refused("munmap", len, source))
    }

    /// The first byte; valid until the mapping is unmapped or moved by value through [`resize`](Mapping::resize).
    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        // SAFETY: `first` lies in the area or at its end.
        unsafe { self.area.start().add(self.first) }
    }

    /// The address of `len` bytes at `offset`, if they lie inside.
    #[inline]
    fn span(&self, offset: usize, len: usize) -> Result<*mut u8, MapError> {
        if offset > self.len || len > self.len - offset {
            return Err(self.out_of_bounds(offset, len));
        }
        // ORDERING: Relaxed, as whoever sets a bit tells the others himself.
        if self.unusual.load(Relaxed) & KEPT_FROM_CHILDREN != 0 {
            self.check_process()?;
        }
        // SAFETY: `offset <= len`, all of which lies in the area.
        Ok(unsafe { self.as_ptr().add(offset) }.as_ptr())
    }

    /// Whether what was just accessed was there.
    #[inline]
    fn still_whole(&self) -> Result<(), MapError> {
        // ORDERING: SeqCst of the compiler alone: the mark is set by a signal handler on this thread, during the access above.
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        if self.is_cut_short() {
            Err(self.cut_short())
        } else {
            Ok(())
        }
    }

    /// A range of bytes as numbers, if it lies inside.
    fn range(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>, MapError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.len.max(start),
        };
        if start > end || end > self.len {
            return Err(self.out_of_bounds(start, end.saturating_sub(start)));
        }
        Ok(start..end)
    }

    /// The whole pages that hold a range of bytes, as offsets in the area.
    fn pages(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>, MapError> {
        let range = self.range(range)?;
        let page = page_size();
        let start = (self.first + range.start) / page * page;
        Ok(start..(self.first + range.end).next_multiple_of(page).max(start))
    }

    /// The name of the file, for messages.
    fn name(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(|| "anonymous memory".into(), |file| file.name.clone())
    }

    #[cold]
    fn out_of_bounds(&self, offset: usize, len: usize) -> MapError {
        MapError::OutOfBounds {
            offset,
            len,
            mapped: self.len,
        }
    }

    #[cold]
    fn protected(&self, wanted: &'static str) -> MapError {
        MapError::Protected {
            access: self.access,
            wanted,
        }
    }

    #[cold]
    fn cut_short(&self) -> MapError {
        MapError::CutShort { file: self.name() }
    }

    #[cold]
    fn check_process(&self) -> Result<(), MapError> {
        let child = std::process::id();
        if child == self.process.load(Relaxed) {
            Ok(())
        } else {
            Err(MapError::NotInChild { child })
        }
    }

    fn os(&self, call: &'static str, source: io::Error) -> MapError {
        MapError::Os {
            call,
            what: self.name(),
            source,
        }
    }
}
