//! How to map: the options, the checks that need no system call to fail, and the calls that map.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU8, AtomicU32},
    },
};

use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::fcntl_dupfd_cloexec,
};

use super::{
    Access, File, HugePages, MapError, Mapping,
    area::{Area, Backing},
    check::{Checked, neighbour},
    huge_page_size, limits, page_size, space,
};
use crate::{fault::Guard, sys::mm};

/// Options for a mapping, and the calls that make it.
///
/// Without any option a file is mapped whole, shared, for reading and writing.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ipc_core::MapOptions;
///
/// let file = std::fs::File::open("data")?;
/// let mapping = MapOptions::new().read_only().offset(4096).len(100).map_file(&file)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options map nothing before map_file, map_anonymous or map_memfd is called"]
pub struct MapOptions {
    pub(super) len: Option<usize>,
    pub(super) offset: u64,
    pub(super) any_offset: bool,
    pub(super) access: Access,
    pub(super) shared: bool,
    populate: bool,
    lock: bool,
    pub(super) no_reserve: bool,
    huge: bool,
    guard_pages: bool,
    room: usize,
    pub(super) align: usize,
    pub(super) at: Option<usize>,
    keep_file: bool,
    pub(super) extend: bool,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MapOptions {
    /// Shared, for reading and writing, the whole of a file.
    pub const fn new() -> MapOptions {
        MapOptions {
            len: None,
            offset: 0,
            any_offset: false,
            access: Access::ReadWrite,
            shared: true,
            populate: false,
            lock: false,
            no_reserve: false,
            huge: false,
            guard_pages: false,
            room: 0,
            align: 0,
            at: None,
            keep_file: false,
            extend: false,
        }
    }

    /// Maps this many bytes; without it a file is mapped to its end.
    pub const fn len(mut self, bytes: usize) -> Self {
        self.len = Some(bytes);
        self
    }

    /// Begins at this byte of the file, which must be a multiple of the page size.
    pub const fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Allows for an offset that is not a multiple of the page size: maps from the page below and hides the difference.
    pub const fn any_offset(mut self) -> Self {
        self.any_offset = true;
        self
    }

    /// Maps for reading only.
    pub const fn read_only(mut self) -> Self {
        self.access = Access::Read;
        self
    }

    /// Maps for reading and executing.
    pub const fn executable(mut self) -> Self {
        self.access = Access::ReadExecute;
        self
    }

    /// Maps without any access; [`Mapping::protect`] can change that.
    pub const fn no_access(mut self) -> Self {
        self.access = Access::None;
        self
    }

    /// Shows changes to whoever maps the same file and to forked children, and writes them to the file. The default.
    pub const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Keeps changes to this process; a forked child gets a copy at the time of the fork (copy on write).
    pub const fn private(mut self) -> Self {
        self.shared = false;
        self
    }

    /// Brings all pages into memory now, rather than when they are first touched.
    pub const fn populate(mut self) -> Self {
        self.populate = true;
        self
    }

    /// Locks all pages in memory, as [`Mapping::lock`] does.
    pub const fn lock(mut self) -> Self {
        self.lock = true;
        self
    }

    /// Reserves no swap space, and for a memfd no memory: a huge range then costs only what is touched of it. What cannot
    /// be supplied by then ends the process where it is anonymous, and reads as cut short where it is a memfd.
    pub const fn no_reserve(mut self) -> Self {
        self.no_reserve = true;
        self
    }

    /// Uses huge pages if it can; [`Mapping::huge_pages`] tells what became of it.
    pub const fn huge_pages(mut self) -> Self {
        self.huge = true;
        self
    }

    /// Puts a page without access before and after, so that an overrun by other code faults at once.
    pub const fn guard_pages(mut self) -> Self {
        self.guard_pages = true;
        self
    }

    /// Keeps addresses free for the mapping to grow to this many bytes without moving.
    pub const fn room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// Begins at an address that is a multiple of this power of two.
    pub const fn align(mut self, bytes: usize) -> Self {
        self.align = bytes;
        self
    }

    /// Begins at this address, which must be on a page, and replaces nothing that lies there.
    pub const fn at(mut self, address: usize) -> Self {
        self.at = Some(address);
        self
    }

    /// Keeps a descriptor of the file, for growing, locking and `fsync`. A memfd is always kept.
    ///
    /// Mind that closing any descriptor of a file, and so dropping this mapping, gives up the process's old-style `fcntl`
    /// locks on that file.
    pub const fn keep_file(mut self) -> Self {
        self.keep_file = true;
        self
    }

    /// Makes the file as long as the mapping needs it, with every block of it allocated.
    pub const fn extend_file(mut self) -> Self {
        self.extend = true;
        self
    }

    /// Maps a file. The mapping outlives the descriptor.
    ///
    /// An empty file that is mapped whole gives a mapping of no bytes. A device needs a length.
    ///
    /// # Errors
    ///
    /// Refused before any mapping is tried: a file that cannot be mapped, one not open for what the mapping would do, an
    /// offset off the page, a range past the end of the file. Otherwise what the kernel says.
    pub fn map_file(&self, file: &impl AsFd) -> Result<Mapping, MapError> {
        let fd = file.as_fd();
        let Checked {
            name,
            len,
            skew,
            unit,
        } = self.check_file(fd)?;
        let descriptor = if self.keep_file {
            Some(fcntl_dupfd_cloexec(fd, 0).map_err(|error| space::os("fcntl", &name, error))?)
        } else {
            None
        };
        let file = Arc::new(File { name, descriptor });
        self.map(len, skew, unit, Some(&file), Some(fd))
    }

    /// Maps memory that belongs to no file and is zero at first: shared with forked children, or private.
    ///
    /// # Errors
    ///
    /// When there is no length, and what the kernel says, with the limit that it was.
    pub fn map_anonymous(&self) -> Result<Mapping, MapError> {
        self.map(self.stated_len()?, 0, page_size(), None, None)
    }

    /// Makes a file that lives in memory and has no path, and maps it. `name` shows in `/proc` and in messages.
    ///
    /// It is kept ([`Mapping::file`]), to be passed to another process; its memory is allocated at once unless
    /// [`no_reserve`](MapOptions::no_reserve) was asked for.
    ///
    /// # Errors
    ///
    /// When there is no length, [`MapError::NoSpace`], and what the kernel says.
    pub fn map_memfd(&self, name: &str) -> Result<Mapping, MapError> {
        let len = self.stated_len()?;
        let reason = match huge_page_size() {
            _ if !self.huge => None,
            Some(size) => match self.memfd_of(name, len, size, MemfdFlags::HUGETLB) {
                Ok(mut mapping) => {
                    mapping.huge = HugePages::Reserved(size);
                    return Ok(mapping);
                }
                Err(error) => Some(format!("{error}; see vm.nr_hugepages")),
            },
            None => Some("this machine has no huge pages".into()),
        };
        let mut mapping = self.memfd_of(name, len, page_size(), MemfdFlags::empty())?;
        if let Some(reason) = reason {
            mapping.huge = transparent(&mapping, reason);
        }
        Ok(mapping)
    }

    fn memfd_of(
        &self,
        name: &str,
        len: usize,
        unit: usize,
        flags: MemfdFlags,
    ) -> Result<Mapping, MapError> {
        let label = format!("memfd {name:?}");
        let fd = memfd_create(
            name,
            flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(|error| space::os("memfd_create", &label, error))?;
        let size = len
            .checked_next_multiple_of(unit)
            .ok_or(MapError::TooLong { len: len as u64 })?;
        // A file of ordinary pages is as long as was asked for, to the byte.
        let size = if unit == page_size() { len } else { size } as u64;
        if self.no_reserve {
            ftruncate(&fd, size).map_err(|error| space::os("ftruncate", &label, error))?;
        } else {
            space::reserve(&fd, size, &label)?;
        }
        let file = Arc::new(File {
            name: label,
            descriptor: Some(fd),
        });
        self.map(
            len,
            0,
            unit,
            Some(&file),
            file.descriptor.as_ref().map(AsFd::as_fd),
        )
    }

    /// The length, which only a file can do without; an offset has a meaning only there too.
    fn stated_len(&self) -> Result<usize, MapError> {
        if self.offset != 0 || self.extend {
            return Err(MapError::Options(
                ".offset() and .extend_file() are for map_file: other memory is new",
            ));
        }
        match self.len {
            None => Err(MapError::NoLength),
            Some(0) => Err(MapError::ZeroLength),
            Some(len) => Ok(len),
        }
    }

    /// Maps `len` bytes, which begin `skew` bytes into the first page, in pages of `unit` bytes.
    fn map(
        &self,
        len: usize,
        skew: usize,
        unit: usize,
        file: Option<&Arc<File>>,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Mapping, MapError> {
        self.check_place()?;
        let offset = self.offset - skew as u64;
        let too_long = MapError::TooLong { len: len as u64 };
        let Some(bytes) = len
            .checked_add(skew)
            .and_then(|len| len.checked_next_multiple_of(unit))
        else {
            return Err(too_long);
        };
        let backing = fd.map_or(Backing::Anonymous, |fd| Backing::File { fd, offset });
        let mut huge = HugePages::NotAsked;
        let (area, body, unit) = if len == 0 {
            (Area::empty(), 0..0, unit)
        } else if self.huge && file.is_none() {
            match self.reserved_huge(bytes) {
                Ok((area, size)) => {
                    huge = HugePages::Reserved(size);
                    let body = 0..area.len();
                    (area, body, size)
                }
                Err(reason) => {
                    huge = HugePages::Transparent(reason);
                    let (area, body) = self.lay(bytes, unit, backing)?;
                    (area, body, unit)
                }
            }
        } else {
            let (area, body) = self.lay(bytes, unit, backing)?;
            (area, body, unit)
        };
        let addresses = area.addresses(&body);
        // Anonymous memory of ordinary pages cannot be cut short: without memory the process is ended by other means.
        let guard = if file.is_some() && len > 0 || matches!(huge, HugePages::Reserved(_)) {
            Some(
                Guard::new(addresses, unit)
                    .map_err(|source| space::os("sigaction", "SIGBUS", source))?,
            )
        } else {
            None
        };
        let fence = if self.guard_pages && len > 0 { unit } else { 0 };
        let mut mapping = Mapping {
            first: body.start + skew,
            area,
            body,
            fence,
            len,
            access: self.access,
            shared: self.shared,
            file: file.cloned(),
            offset,
            unit,
            flags: self.flags(),
            guard,
            huge,
            unusual: AtomicU8::new(0),
            process: AtomicU32::new(0),
            sync_error: AtomicI32::new(0),
        };
        mapping.huge = match &mapping.huge {
            HugePages::Transparent(reason) => transparent(&mapping, reason.clone()),
            HugePages::NotAsked if self.huge && unit != page_size() => HugePages::Reserved(unit),
            HugePages::NotAsked if self.huge && len > 0 => {
                transparent(&mapping, "the file has ordinary pages".into())
            }
            settled => settled.clone(),
        };
        if self.lock {
            mapping.lock(..)?;
        }
        Ok(mapping)
    }

    /// Takes addresses and lays the mapping there. Gives the area, and where in it the pages are that were asked for.
    fn lay(
        &self,
        bytes: usize,
        unit: usize,
        backing: Backing<'_>,
    ) -> Result<(Area, Range<usize>), MapError> {
        let flags = self.flags_now();
        let fence = if self.guard_pages { unit } else { 0 };
        let failed = |source: io::Error| match self.at {
            Some(at)
                if source.raw_os_error() == Some(libc::EEXIST)
                    || source.kind() == io::ErrorKind::AlreadyExists =>
            {
                MapError::AddressTaken {
                    address: at,
                    len: bytes,
                    taken_by: neighbour(at - fence, bytes + 2 * fence),
                }
            }
            _ => limits::refused("mmap", bytes, source),
        };
        if fence == 0 && self.room <= bytes && self.align <= unit {
            let area = Area::map(bytes, self.at, self.access, flags, backing).map_err(failed)?;
            return Ok((area, 0..bytes));
        }
        let span = (|| {
            let room = self.room.max(bytes).checked_next_multiple_of(unit)?;
            room.checked_add(2 * fence)?
                .checked_add(self.align.max(unit) - page_size())
        })();
        let span = span.ok_or(MapError::TooLong {
            len: self.room.max(bytes) as u64,
        })?;
        let area =
            Area::reserve(span, self.at.map(|at| at.saturating_sub(fence))).map_err(failed)?;
        // The first address beyond the fence that has the alignment, and what lies before it given back.
        let start = area.start().addr().get();
        let first = (start + fence).next_multiple_of(self.align.max(unit));
        let (_below, mut area) = area.split_at(first - fence - start);
        let body = fence..fence + bytes;
        area.place(body.clone(), self.access, flags, backing)
            .map_err(failed)?;
        let end = body.end.max(fence + self.room.next_multiple_of(unit)) + fence;
        let (area, _above) = area.split_at(end);
        Ok((area, body))
    }

    /// Anonymous memory of huge pages that are set aside for it, or why there is none.
    fn reserved_huge(&self, bytes: usize) -> Result<(Area, usize), String> {
        let size = huge_page_size().ok_or("this machine has no huge pages")?;
        if self.guard_pages || self.room > 0 || self.align > size || self.at.is_some() {
            return Err(
                "guard pages, room, alignment and a fixed address need ordinary pages".into(),
            );
        }
        let bytes = bytes
            .checked_next_multiple_of(size)
            .ok_or("the length does not fit")?;
        let flags = self.flags_now() | mm::MapFlags::HUGETLB;
        match Area::map(bytes, None, self.access, flags, Backing::Anonymous) {
            Ok(area) => Ok((area, size)),
            Err(error) => Err(format!(
                "{} huge pages of {size} bytes were not to be had ({error}); see vm.nr_hugepages",
                bytes / size
            )),
        }
    }

    /// Whether they ask for nothing that only a mapping of its own can have.
    pub(super) fn suits_a_piece(&self) -> bool {
        let more = self.lock || self.huge || self.guard_pages || self.keep_file || self.any_offset;
        !more && self.room == 0 && self.align == 0 && self.at.is_none()
    }

    /// The flags for all pages of the mapping, whenever they come.
    pub(super) fn flags(&self) -> mm::MapFlags {
        let mut flags = if self.shared {
            mm::MapFlags::SHARED
        } else {
            mm::MapFlags::PRIVATE
        };
        if self.no_reserve {
            flags |= mm::MapFlags::NORESERVE;
        }
        flags
    }

    /// The flags for the pages that are mapped now.
    pub(super) fn flags_now(&self) -> mm::MapFlags {
        if self.populate {
            self.flags() | mm::MapFlags::POPULATE
        } else {
            self.flags()
        }
    }
}

/// Asks the kernel to use huge pages for a mapping as it sees fit; `reason`: why none are set aside.
fn transparent(mapping: &Mapping, reason: String) -> HugePages {
    match mapping
        .area
        .advise(mapping.body.clone(), mm::Advice::LinuxHugepage)
    {
        Ok(()) => HugePages::Transparent(reason),
        Err(error) => HugePages::Unavailable(format!(
            "{reason}; and the kernel offers no others: {error}"
        )),
    }
}
