//! A range of whole pages of this process's address space, owned.
//!
//! Everything here is safe to call, because an area hands out nothing but raw pointers: whoever reads or writes through
//! one answers for the protection and the backing of the page. What would pull pages away from under such a pointer takes
//! the area by value or by `&mut`.
//!
//! # Safety
//!
//! `start..start + len` is mapped, and by nobody but us, from construction to drop. Every call below works on whole pages
//! inside this range, which `bytes_at` asserts.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    io,
    mem::ManuallyDrop,
    ops::Range,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

use super::Access;
use crate::sys::mm;

/// An owned range of pages, unmapped on drop. May be empty.
#[derive(Debug)]
pub(super) struct Area {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an area is a range of addresses; what it does to them are system calls, which any thread may make.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

/// What lies in the pages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backing<'fd> {
    Anonymous,
    File { fd: BorrowedFd<'fd>, offset: u64 },
}

impl Area {
    /// An area without pages.
    pub(super) const fn empty() -> Area {
        Area {
            start: NonNull::dangling(),
            len: 0,
        }
    }

    /// Takes addresses for `len` bytes, without memory behind them; at `at` if given, where nothing may lie yet.
    pub(super) fn reserve(len: usize, at: Option<usize>) -> io::Result<Area> {
        Area::map(
            len,
            at,
            Access::None,
            mm::MapFlags::PRIVATE | mm::MapFlags::NORESERVE,
            Backing::Anonymous,
        )
    }

    /// Maps `len` bytes; at `at` if given, where nothing may lie yet.
    pub(super) fn map(
        len: usize,
        at: Option<usize>,
        access: Access,
        mut flags: mm::MapFlags,
        backing: Backing<'_>,
    ) -> io::Result<Area> {
        let hint = at.map_or(ptr::null_mut(), ptr::without_provenance_mut);
        if at.is_some() {
            flags |= mm::MapFlags::FIXED_NOREPLACE;
        }
        let start = match backing {
            // SAFETY: nothing that exists is replaced, so no memory changes hands.
            Backing::Anonymous => unsafe { mm::mmap_anonymous(hint, len, access.bits(), flags) },
            // SAFETY: as above.
            Backing::File { fd, offset } => unsafe {
                mm::mmap(hint, len, access.bits(), flags, fd, offset)
            },
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let area = Area { start, len };
        if at.is_some_and(|at| at != start.addr().get()) {
            // A kernel that does not know the flag takes the address for a hint.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(area)
    }

    /// Maps over `range`, in the place of what lies there.
    pub(super) fn place(
        &mut self,
        range: Range<usize>,
        access: Access,
        flags: mm::MapFlags,
        backing: Backing<'_>,
    ) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        let flags = flags | mm::MapFlags::FIXED;
        match backing {
            // SAFETY: the range is ours, and `&mut` says that nobody uses what it held.
            Backing::Anonymous => unsafe { mm::mmap_anonymous(at, len, access.bits(), flags) },
            // SAFETY: as above.
            Backing::File { fd, offset } => unsafe {
                mm::mmap(at, len, access.bits(), flags, fd, offset)
            },
        }?;
        Ok(())
    }

    /// Moves the pages of `from` to `at` in this area, in the place of what lies there.
    pub(super) fn take_over(
        &mut self,
        at: usize,
        from: Area,
        len: usize,
    ) -> Result<(), (Area, io::Error)> {
        let (to, len) = self.bytes_at(at..at + len);
        // SAFETY: both ranges are ours, and owning them says that nobody uses what they hold.
        match unsafe {
            mm::mremap_fixed(
                from.start.as_ptr().cast(),
                from.len,
                len,
                mm::MremapFlags::MAYMOVE,
                to,
            )
        } {
            Ok(_) => {
                // The kernel has unmapped the old place.
                let _moved = ManuallyDrop::new(from);
                Ok(())
            }
            Err(error) => Err((from, error.into())),
        }
    }

    /// Changes the length; `may_move` allows for another place.
    pub(super) fn resize(self, len: usize, may_move: bool) -> Result<Area, (Area, io::Error)> {
        let flags = if may_move {
            mm::MremapFlags::MAYMOVE
        } else {
            mm::MremapFlags::empty()
        };
        // SAFETY: the range is ours, and owning it says that nobody uses what it holds.
        match unsafe { mm::mremap(self.start.as_ptr().cast(), self.len, len, flags) } {
            Ok(start) => {
                let _moved = ManuallyDrop::new(self);
                Ok(Area {
                    start: NonNull::new(start.cast()).expect("mremap gives no null page"),
                    len,
                })
            }
            Err(error) => Err((self, error.into())),
        }
    }

    /// Cuts the area in two, at a multiple of the page size.
    pub(super) fn split_at(self, at: usize) -> (Area, Area) {
        let (back, len) = self.bytes_at(at..self.len);
        let front = ManuallyDrop::new(self);
        let back = NonNull::new(back.cast()).expect("inside a mapping");
        (
            Area {
                start: front.start,
                len: at,
            },
            Area { start: back, len },
        )
    }

    /// One area of two, of which the second begins where the first ends.
    pub(super) fn join(self, next: Area) -> Area {
        if self.len == 0 {
            return next;
        }
        if next.len > 0 {
            assert_eq!(
                self.start.addr().get() + self.len,
                next.start.addr().get(),
                "the areas do not touch"
            );
        }
        let (first, next) = (ManuallyDrop::new(self), ManuallyDrop::new(next));
        Area {
            start: first.start,
            len: first.len + next.len,
        }
    }

    /// Unmaps it, and reports what a drop would swallow.
    pub(super) fn unmap(self) -> io::Result<()> {
        let area = ManuallyDrop::new(self);
        if area.len == 0 {
            return Ok(());
        }
        // SAFETY: the range is ours, and owning it says that nobody uses what it holds.
        Ok(unsafe { mm::munmap(area.start.as_ptr().cast(), area.len) }?)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The addresses of a range.
    pub(super) fn addresses(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.start.addr().get();
        start + range.start..start + range.end
    }

    pub(super) fn protect(&mut self, range: Range<usize>, access: Access) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        let flags = mm::MprotectFlags::from_bits_retain(access.bits().bits());
        // SAFETY: the range is ours; `&mut` says that there are no references that the change would make invalid.
        Ok(unsafe { mm::mprotect(at, len, flags) }?)
    }

    pub(super) fn sync(&self, range: Range<usize>, flags: mm::MsyncFlags) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        // SAFETY: the range is ours and mapped; its bytes stay as they are.
        Ok(unsafe { mm::msync(at, len, flags) }?)
    }

    pub(super) fn lock(&self, range: Range<usize>, on_fault: bool) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        let flags = if on_fault {
            mm::MlockFlags::ONFAULT
        } else {
            mm::MlockFlags::empty()
        };
        // SAFETY: the range is ours and mapped; its bytes stay as they are.
        Ok(unsafe { mm::mlock_with(at, len, flags) }?)
    }

    pub(super) fn unlock(&self, range: Range<usize>) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        // SAFETY: the range is ours and mapped; its bytes stay as they are.
        Ok(unsafe { mm::munlock(at, len) }?)
    }

    /// Advises the kernel. Some advice changes the bytes: the caller sees to it that nobody has references to them.
    pub(super) fn advise(&self, range: Range<usize>, advice: mm::Advice) -> io::Result<()> {
        let (at, len) = self.bytes_at(range);
        // SAFETY: the range is ours and mapped; the caller has given out no references to bytes that may change.
        Ok(unsafe { mm::madvise(at, len, advice) }?)
    }

    /// Which pages of the range are in memory.
    pub(super) fn residency(&self, range: Range<usize>) -> io::Result<Vec<bool>> {
        let (at, len) = self.bytes_at(range);
        let mut pages = vec![0; len / mm::page_size()];
        // SAFETY: the range is ours and mapped, and there is a byte for each of its pages.
        unsafe { mm::mincore(at, len, &mut pages) }?;
        Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
    }

    /// The address and length of a range of whole pages.
    ///
    /// # Panics
    ///
    /// Panics if the range is not of whole pages or lies outside: a fault of this crate.
    fn bytes_at(&self, range: Range<usize>) -> (*mut c_void, usize) {
        let page = mm::page_size();
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} in an area of {} bytes",
            self.len
        );
        assert!(
            range.start % page == 0 && range.end % page == 0,
            "{range:?} is not of whole pages"
        );
        // SAFETY: inside the area, as just asserted.
        let at = unsafe { self.start.add(range.start) };
        (at.as_ptr().cast(), range.len())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // What can fail is only unmapping the middle of a mapping in a process at its limit of mappings: the pages then
        // stay, which harms nobody. `unmap` reports it.
        let _ = std::mem::replace(self, Area::empty()).unmap();
    }
}
