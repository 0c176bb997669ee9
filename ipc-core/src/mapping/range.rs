//! What can be done with a range of a mapping: writing back, protecting, advising, locking, and asking what is in memory.

use std::{io, ops::RangeBounds, sync::atomic::Ordering::Relaxed};

use super::{Access, FREED, KEPT_FROM_CHILDREN, MapError, Mapping, limits};
use crate::sys::mm;

/// How to write changes back to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Writes and waits: when it returns, data and size are on the medium. The directory entry of a new file needs an
    /// `fsync` of the directory as well.
    Wait,
    /// Leaves the writing to the kernel. On Linux this starts nothing: it is what happens anyhow.
    Schedule,
    /// Makes other mappings of the file see the changes. On Linux they always do.
    Invalidate,
}

/// What to expect of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing in particular.
    Normal,
    /// Random access: no reading ahead.
    Random,
    /// Access from front to back: much reading ahead.
    Sequential,
    /// Access soon: reading begins now.
    WillNeed,
    /// No access soon. The pages are dropped: private ones are zero or the file's again, shared ones keep their bytes.
    DontNeed,
    /// Forked children do not get the range. This mapping's calls fail there.
    DontFork,
    /// Forked children get the range, after [`DontFork`](Advice::DontFork).
    DoFork,
    /// Forked children find zeros there; for private anonymous memory.
    WipeOnFork,
    /// Forked children find the bytes there, after [`WipeOnFork`](Advice::WipeOnFork).
    KeepOnFork,
    /// Core dumps leave the range out.
    DontDump,
    /// Core dumps hold the range, after [`DontDump`](Advice::DontDump).
    DoDump,
    /// Brings the pages into memory, readable. A missing one is an error rather than a signal.
    PopulateRead,
    /// Brings the pages into memory, writable, with private copies made and blocks allocated.
    PopulateWrite,
    /// Huge pages where the kernel sees fit.
    HugePage,
    /// No huge pages.
    NoHugePage,
    /// The bytes are of no more use: the kernel may take the pages when memory is short, whereupon they read as zeros,
    /// unless they are written before. For private anonymous memory.
    Free,
    /// The pages may leave memory before others.
    Cold,
    /// The pages leave memory now, to swap or to the file.
    PageOut,
    /// Punches a hole into the file: the blocks are given back, and the range reads as zeros everywhere. (On
    /// tmpfs and memfds reading it through a mapping takes pages for the zeros again.)
    Remove,
}

impl Advice {
    fn raw(self) -> mm::Advice {
        match self {
            Advice::Normal => mm::Advice::Normal,
            Advice::Random => mm::Advice::Random,
            Advice::Sequential => mm::Advice::Sequential,
            Advice::WillNeed => mm::Advice::WillNeed,
            Advice::DontNeed => mm::Advice::LinuxDontNeed,
            Advice::DontFork => mm::Advice::LinuxDontFork,
            Advice::DoFork => mm::Advice::LinuxDoFork,
            Advice::WipeOnFork => mm::Advice::LinuxWipeOnFork,
            Advice::KeepOnFork => mm::Advice::LinuxKeepOnFork,
            Advice::DontDump => mm::Advice::LinuxDontDump,
            Advice::DoDump => mm::Advice::LinuxDoDump,
            Advice::PopulateRead => mm::Advice::LinuxPopulateRead,
            Advice::PopulateWrite => mm::Advice::LinuxPopulateWrite,
            Advice::HugePage => mm::Advice::LinuxHugepage,
            Advice::NoHugePage => mm::Advice::LinuxNoHugepage,
            Advice::Free => mm::Advice::LinuxFree,
            Advice::Cold => mm::Advice::LinuxCold,
            Advice::PageOut => mm::Advice::LinuxPageOut,
            Advice::Remove => mm::Advice::LinuxRemove,
        }
    }
}

/// Which pages of a range are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// One value for each page, in order.
    pub pages: Vec<bool>,
}

impl Residency {
    /// How many pages are in memory.
    pub fn resident(&self) -> usize {
        self.pages.iter().filter(|resident| **resident).count()
    }
}

impl Mapping {
    /// Writes changes of a range back to the file; the range is widened to whole pages. Waits for the disk unless
    /// `how` says otherwise.
    ///
    /// # Errors
    ///
    /// [`MapError::SyncFailed`] when writing failed. The kernel reports such a failure once and then forgets which pages it
    /// concerned, so every later call fails too: map the file again and look at what is there.
    pub fn sync(&self, range: impl RangeBounds<usize>, how: Sync) -> Result<(), MapError> {
        let pages = self.pages(range)?;
        let flags = match how {
            Sync::Wait => mm::MsyncFlags::SYNC,
            Sync::Schedule => mm::MsyncFlags::ASYNC,
            Sync::Invalidate => mm::MsyncFlags::INVALIDATE,
        };
        let failed = |source, before| MapError::SyncFailed {
            file: self.name(),
            before,
            source,
        };
        // ORDERING: Relaxed; the number stands for itself.
        let before = self.sync_error.load(Relaxed);
        if before != 0 {
            return Err(failed(io::Error::from_raw_os_error(before), true));
        }
        if pages.is_empty() {
            return Ok(());
        }
        self.area.sync(pages, flags).map_err(|source| {
            self.note_sync_failure(&source);
            failed(source, false)
        })
    }

    /// Writes data, size and times of the whole file back through its descriptor, and waits.
    ///
    /// # Errors
    ///
    /// [`MapError::NoFile`] without [`keep_file`](super::MapOptions::keep_file); else as [`sync`](Mapping::sync).
    pub fn sync_file(&self) -> Result<(), MapError> {
        self.sync(0..0, Sync::Wait)?;
        let file = self.file().ok_or(MapError::NoFile)?;
        rustix::fs::fsync(file).map_err(|error| {
            let source = error.into();
            self.note_sync_failure(&source);
            MapError::SyncFailed {
                file: self.name(),
                before: false,
                source,
            }
        })
    }

    /// Remembers the first failure.
    fn note_sync_failure(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        // ORDERING: Relaxed; the number stands for itself, and only the first is kept.
        let _ = self
            .sync_error
            .compare_exchange(0, number, Relaxed, Relaxed);
    }

    /// Changes what may be done with the bytes. For a part of a mapping, [split](Mapping::split_at) it first.
    ///
    /// # Errors
    ///
    /// What the kernel says: as for a shared mapping of a file that is open for reading only.
    pub fn protect(&mut self, access: Access) -> Result<(), MapError> {
        if !self.body.is_empty() {
            self.area
                .protect(self.body.clone(), access)
                .map_err(|source| match source.raw_os_error() {
                    Some(libc::EACCES) if access == Access::ReadWrite => {
                        MapError::ReadOnlyFile { file: self.name() }
                    }
                    _ => self.os("mprotect", source),
                })?;
        }
        self.access = access;
        Ok(())
    }

    /// Advises the kernel about a range, which is widened to whole pages.
    ///
    /// # Errors
    ///
    /// What the kernel says: `InvalidInput` where the advice does not suit the kind of mapping, or the kernel is too old.
    pub fn advise(&self, range: impl RangeBounds<usize>, advice: Advice) -> Result<(), MapError> {
        let pages = self.pages(range)?;
        match advice {
            Advice::DontFork => {
                // ORDERING: Relaxed; a fork comes after both in the same thread or is ordered by the caller.
                self.process.store(std::process::id(), Relaxed);
                self.unusual.fetch_or(KEPT_FROM_CHILDREN, Relaxed);
            }
            Advice::DoFork if pages == self.body => {
                self.unusual.fetch_and(!KEPT_FROM_CHILDREN, Relaxed);
            }
            _ => {}
        }
        if pages.is_empty() {
            return Ok(());
        }
        let advised = self.area.advise(pages, advice.raw());
        if advice == Advice::Free && advised.is_ok() {
            self.unusual.fetch_or(FREED, Relaxed);
        }
        advised.map_err(|source| match source.raw_os_error() {
            Some(libc::EFAULT) => self.cut_short(),
            _ => self.os("madvise", source),
        })
    }

    /// Locks a range in memory; it is widened to whole pages, all of which are brought in.
    ///
    /// Locks do not nest, are not inherited by a forked child and not kept by exec; a page that several mappings hold stays
    /// as long as one of them has it locked.
    ///
    /// # Errors
    ///
    /// [`MapError::LockLimit`] over the limit, naming it.
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<(), MapError> {
        self.lock_pages(range, false)
    }

    /// As [`lock`](Mapping::lock), but leaves each page out of memory until it is first touched.
    ///
    /// # Errors
    ///
    /// As [`lock`](Mapping::lock).
    pub fn lock_on_fault(&self, range: impl RangeBounds<usize>) -> Result<(), MapError> {
        self.lock_pages(range, true)
    }

    fn lock_pages(&self, range: impl RangeBounds<usize>, on_fault: bool) -> Result<(), MapError> {
        let pages = self.pages(range)?;
        let len = pages.len();
        if len == 0 {
            return Ok(());
        }
        self.area
            .lock(pages, on_fault)
            .map_err(|source| limits::lock_refused(len, source))
    }

    /// Lets a range leave memory again, however often it was locked.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<(), MapError> {
        let pages = self.pages(range)?;
        if pages.is_empty() {
            return Ok(());
        }
        self.area
            .unlock(pages)
            .map_err(|source| self.os("munlock", source))
    }

    /// Which pages of a range are in memory, at this moment.
    ///
    /// For a file this tells of the page cache, whoever brought the pages in; for a file of somebody else that this process
    /// may not write, the kernel says that all are.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn residency(&self, range: impl RangeBounds<usize>) -> Result<Residency, MapError> {
        let pages = self.pages(range)?;
        if pages.is_empty() {
            return Ok(Residency { pages: Vec::new() });
        }
        let pages = self
            .area
            .residency(pages)
            .map_err(|source| self.os("mincore", source))?;
        Ok(Residency { pages })
    }
}

/// Locks everything that this process has mapped now, or will map, in memory.
///
/// # Errors
///
/// [`MapError::LockLimit`] over the limit; with `future`, later mappings fail where they exceed it.
pub fn lock_all(now: bool, future: bool) -> Result<(), MapError> {
    let mut flags = mm::MlockAllFlags::empty();
    if now {
        flags |= mm::MlockAllFlags::CURRENT;
    }
    if future {
        flags |= mm::MlockAllFlags::FUTURE;
    }
    mm::mlockall(flags).map_err(|error| limits::lock_refused(limits::mapped_bytes(), error.into()))
}

/// Undoes [`lock_all`], and every other lock of this process.
///
/// # Errors
///
/// What the kernel says.
pub fn unlock_all() -> Result<(), MapError> {
    mm::munlockall().map_err(|error| super::space::os("munlockall", "this process", error))
}
