//! What is refused before a system call would fail, or worse, succeed.

use std::{
    fs,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, fstatfs};

use super::{Access, MapError, MapOptions, page_size, space};

/// What a file turned out to be, and how much of it is to be mapped.
pub(super) struct Checked {
    /// Its path, or what stands for it in messages.
    pub(super) name: String,
    /// How many bytes are to be mapped.
    pub(super) len: usize,
    /// How far into its page the first of them lies.
    pub(super) skew: usize,
    /// The size of the file's pages in memory.
    pub(super) unit: usize,
}

/// The magic number of hugetlbfs, whose pages have a size of their own.
const HUGETLBFS: u64 = 0x9584_58F6;

impl MapOptions {
    /// Checks that a file can be mapped as the options say, and lets it grow if they say so.
    pub(super) fn check_file(&self, fd: BorrowedFd<'_>) -> Result<Checked, MapError> {
        let name = name_of(fd);
        let flags = fcntl_getfl(fd).map_err(|error| space::os("fcntl", &name, error))?;
        let mode = flags & OFlags::RWMODE;
        if flags.contains(OFlags::PATH) {
            return Err(MapError::NotMappable {
                file: name,
                what: "open for its path only (O_PATH)",
            });
        }
        if mode == OFlags::WRONLY {
            return Err(MapError::WriteOnly { file: name });
        }
        if mode == OFlags::RDONLY
            && (self.extend || self.shared && self.access == Access::ReadWrite)
        {
            return Err(MapError::ReadOnlyFile { file: name });
        }
        let stat = fstat(fd).map_err(|error| space::os("fstat", &name, error))?;
        let not_mappable = |what| {
            Err(MapError::NotMappable {
                file: name.clone(),
                what,
            })
        };
        let regular = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => true,
            FileType::CharacterDevice | FileType::BlockDevice => false,
            FileType::Directory => return not_mappable("a directory"),
            FileType::Fifo => return not_mappable("a pipe"),
            FileType::Socket => return not_mappable("a socket"),
            _ => return not_mappable("neither a regular file nor a device"),
        };
        let page = page_size() as u64;
        let skew = self.offset % page;
        if skew != 0 && !self.any_offset {
            return Err(MapError::OffsetOffPage {
                offset: self.offset,
                page,
                below: self.offset - skew,
            });
        }
        let mut size = stat.st_size as u64;
        let len = match self.len {
            Some(0) => return Err(MapError::ZeroLength),
            Some(len) => len as u64,
            None if regular => size
                .checked_sub(self.offset)
                .ok_or_else(|| MapError::PastEnd {
                    file: name.clone(),
                    size,
                    offset: self.offset,
                    len: 0,
                })?,
            None => return Err(MapError::NoLength),
        };
        let end = self
            .offset
            .checked_add(len)
            .ok_or(MapError::TooLong { len })?;
        if self.extend && regular {
            space::reserve(&fd, end, &name)?;
            size = size.max(end);
        }
        let unit = fstatfs(fd)
            .ok()
            .filter(|fs| fs.f_type as u64 == HUGETLBFS)
            .map_or(page, |fs| fs.f_bsize as u64);
        if regular && end > size.checked_next_multiple_of(unit).unwrap_or(u64::MAX) {
            return Err(MapError::PastEnd {
                file: name,
                size,
                offset: self.offset,
                len,
            });
        }
        let len = usize::try_from(len).map_err(|_| MapError::TooLong { len })?;
        Ok(Checked {
            name,
            len,
            skew: skew as usize,
            unit: unit as usize,
        })
    }

    /// Whether address and alignment are such as a mapping can have.
    pub(super) fn check_place(&self) -> Result<(), MapError> {
        let page = page_size();
        if let Some(at) = self.at {
            if at % page != 0 {
                return Err(MapError::OffPage {
                    what: "address",
                    value: at,
                    page,
                });
            }
            if self.align > page {
                return Err(MapError::Options(
                    ".at() and .align() contradict each other: leave one away",
                ));
            }
        }
        if self.align != 0 {
            let why = if !self.align.is_power_of_two() {
                "it is not a power of two"
            } else if self.align % size_of::<usize>() != 0 {
                "it is not a multiple of the size of a pointer"
            } else {
                return Ok(());
            };
            return Err(MapError::BadAlign {
                align: self.align,
                why,
            });
        }
        Ok(())
    }
}

/// The name of an open file, for messages.
pub(super) fn name_of(fd: BorrowedFd<'_>) -> String {
    match fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        Ok(path) => path.display().to_string(),
        Err(_) => format!("file descriptor {}", fd.as_raw_fd()),
    }
}

/// The first line of `/proc/self/maps` that shares addresses with a range.
pub(super) fn neighbour(start: usize, len: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let overlaps = |line: &&str| {
        let (from, to) = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'))
            .unwrap_or_default();
        let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
        number(from) < start.saturating_add(len) && start < number(to)
    };
    maps.lines().find(overlaps).map_or_else(
        || "something".into(),
        |line| line.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}
