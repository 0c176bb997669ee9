//! Memory that nobody else can change, and that is therefore given as slices.
//!
//! Two kinds of memory are so: private memory that belongs to no file, and a memfd that is sealed against writing and
//! shrinking. A private mapping of a file is not: it shows later writes to the file, and its pages go when the file is cut.
//!
//! # Safety
//!
//! A [`PrivateMapping`] is private, anonymous, readable and writable, and there for its whole length; its owner alone
//! reaches it, and no advice is taken by which the kernel would change its bytes while they are borrowed. A
//! [`FrozenMapping`] is readable, and either was such a one or lies within a memfd whose seals, which nobody can take off,
//! forbid writing and shrinking.
#![allow(unsafe_code)]

use std::{
    ops::{Deref, DerefMut, RangeBounds},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
    sync::atomic::Ordering::Relaxed,
};

use rustix::{
    fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat},
    io::fcntl_dupfd_cloexec,
};

use super::{
    Access, Advice, FREED, KEPT_FROM_CHILDREN, Kept, MapError, MapOptions, Mapping, Resize,
    area::Backing, check::name_of, space,
};
use crate::sys::mm;

/// Memory of this process alone, as a slice. A forked child gets a copy of its own.
///
/// ```
/// use ipc_core::MapOptions;
///
/// # fn main() -> Result<(), ipc_core::mapping::MapError> {
/// let mut memory = MapOptions::new().private().len(10_000).map_anonymous()?.into_private()?;
/// memory[9_999] = 1;
/// assert_eq!(memory.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PrivateMapping {
    mapping: Mapping,
}

impl Mapping {
    /// Gives the memory as slices, if it is private and belongs to no file.
    ///
    /// # Errors
    ///
    /// [`MapError::WrongKind`] if others could change it. The mapping is given back.
    pub fn into_private(self) -> Result<PrivateMapping, Box<Kept>> {
        // ORDERING: Relaxed; owning the mapping, we are alone with it.
        let unusual = self.unusual.load(Relaxed);
        let error = if self.shared || self.file.is_some() {
            "only private memory that belongs to no file is given as slices: others may change the rest at any moment"
        } else if self.access != Access::ReadWrite {
            "only memory that is readable and writable is given as slices: protect it so first"
        } else if unusual & FREED != 0 {
            "memory that was advised to be free may lose its bytes at any moment, and is not given as slices"
        } else if unusual & KEPT_FROM_CHILDREN != 0 {
            "memory that is kept from forked children would be a slice of nothing there"
        } else {
            return Ok(PrivateMapping { mapping: self });
        };
        Err(Box::new(Kept {
            mapping: self,
            error: MapError::WrongKind(error),
        }))
    }

    /// Makes the whole of a memfd unchangeable, for everybody and for ever, and gives it as a slice.
    ///
    /// # Errors
    ///
    /// When it is no memfd, is not mapped whole, or is mapped for writing by somebody else. The mapping is given back.
    pub fn seal(mut self) -> Result<FrozenMapping, Box<Kept>> {
        let descriptor = self.file().map(|fd| fcntl_dupfd_cloexec(fd, 0));
        let fd = match descriptor {
            Some(Ok(fd)) => fd,
            Some(Err(error)) => {
                let error = self.os("fcntl", error.into());
                return Err(Box::new(Kept {
                    mapping: self,
                    error,
                }));
            }
            None => {
                return Err(Box::new(Kept {
                    mapping: self,
                    error: MapError::NoFile,
                }));
            }
        };
        match self.replace_by_sealed(&fd) {
            Ok(()) => Ok(FrozenMapping {
                mapping: self,
                memfd: Some(fd),
            }),
            Err(error) => Err(Box::new(Kept {
                mapping: self,
                error,
            })),
        }
    }

    /// Seals the file, and maps it for reading in the place of the mapping for writing, which would forbid the seal.
    fn replace_by_sealed(&mut self, fd: &OwnedFd) -> Result<(), MapError> {
        let name = self.name();
        let size = fstat(fd)
            .map_err(|error| space::os("fstat", &name, error))?
            .st_size as u64;
        if self.offset != 0
            || self.body.is_empty()
            || self.body.len() as u64 != size.next_multiple_of(self.unit as u64)
        {
            return Err(MapError::WrongKind(
                "a memfd is sealed through a mapping of the whole of it",
            ));
        }
        let file = Backing::File {
            fd: fd.as_fd(),
            offset: 0,
        };
        let away = mm::MapFlags::PRIVATE | mm::MapFlags::NORESERVE;
        let os = |call, error: std::io::Error| space::os(call, &name, error);
        self.area
            .place(self.body.clone(), Access::None, away, Backing::Anonymous)
            .map_err(|error| os("mmap", error))?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let sealed = fcntl_add_seals(fd, seals);
        let (access, flags) = match sealed {
            Ok(()) => (Access::Read, mm::MapFlags::PRIVATE),
            Err(_) => (self.access, self.flags),
        };
        let placed = self.area.place(self.body.clone(), access, flags, file);
        if let Err(error) = placed {
            self.access = Access::None;
            return Err(os("mmap", error));
        }
        sealed.map_err(|error| match error {
            rustix::io::Errno::BUSY => MapError::WrongKind(
                "somebody else maps this memfd for writing, so it cannot be sealed",
            ),
            rustix::io::Errno::INVAL => MapError::WrongKind("only a memfd can be sealed"),
            error => os("fcntl", error.into()),
        })?;
        self.access = access;
        self.shared = false;
        self.flags = flags;
        Ok(())
    }
}

impl PrivateMapping {
    /// The mapping again, with its copies and all that can be done with it.
    pub fn into_mapping(self) -> Mapping {
        self.mapping
    }

    /// Changes the length, as [`Mapping::resize`]; what is new is zero.
    ///
    /// # Errors
    ///
    /// When there is no place or no memory. The memory is then given up.
    pub fn resize(self, len: usize, how: Resize) -> Result<PrivateMapping, MapError> {
        Ok(PrivateMapping {
            mapping: self.mapping.resize(len, how)?,
        })
    }

    /// Takes away the right to write.
    ///
    /// # Errors
    ///
    /// What the kernel says. The memory is then given up.
    pub fn freeze(mut self) -> Result<FrozenMapping, MapError> {
        self.mapping.protect(Access::Read)?;
        Ok(FrozenMapping {
            mapping: self.mapping,
            memfd: None,
        })
    }

    /// Advises the kernel about a range, as [`Mapping::advise`].
    ///
    /// # Errors
    ///
    /// [`MapError::WrongKind`] for advice by which a slice would change or vanish later; else what the kernel says.
    pub fn advise(
        &mut self,
        range: impl RangeBounds<usize>,
        advice: Advice,
    ) -> Result<(), MapError> {
        if matches!(advice, Advice::Free | Advice::DontFork) {
            return Err(MapError::WrongKind(
                "this advice lets bytes change or vanish under a slice: use a Mapping",
            ));
        }
        self.mapping.advise(range, advice)
    }

    /// Locks a range in memory, as [`Mapping::lock`].
    ///
    /// # Errors
    ///
    /// [`MapError::LockLimit`] over the limit.
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<(), MapError> {
        self.mapping.lock(range)
    }
}

impl Deref for PrivateMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: (1) the whole length is mapped and readable, and lives as long as the borrow; (2) only `deref_mut`
        // writes, and it borrows mutably; (3) a mapping is shorter than `isize::MAX`.
        unsafe { slice::from_raw_parts(self.mapping.as_ptr().as_ptr(), self.mapping.len()) }
    }
}

impl DerefMut for PrivateMapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; it is writable too, and the mutable borrow is the only one.
        unsafe { slice::from_raw_parts_mut(self.mapping.as_ptr().as_ptr(), self.mapping.len()) }
    }
}

/// Memory that cannot change any more, as a slice.
#[derive(Debug)]
pub struct FrozenMapping {
    mapping: Mapping,
    memfd: Option<OwnedFd>,
}

impl FrozenMapping {
    /// The sealed memfd, to be passed to another process, which maps it with [`MapOptions::map_sealed`].
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.memfd.as_ref().map(OwnedFd::as_fd)
    }
}

impl Deref for FrozenMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: (1) the whole length is mapped and readable, and lives as long as the borrow: the file cannot shrink;
        // (2) nobody can write; (3) a mapping is shorter than `isize::MAX`.
        unsafe { slice::from_raw_parts(self.mapping.as_ptr().as_ptr(), self.mapping.len()) }
    }
}

impl MapOptions {
    /// Maps a memfd that is sealed against writing and shrinking, and gives it as a slice.
    ///
    /// # Errors
    ///
    /// [`MapError::WrongKind`] if a seal is missing; else as [`map_file`](MapOptions::map_file).
    pub fn map_sealed(&self, file: &impl AsFd) -> Result<FrozenMapping, MapError> {
        let fd = file.as_fd();
        let seals = fcntl_get_seals(fd).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) {
            return Err(MapError::WrongKind(
                "the file is not sealed against writing and shrinking, so it is no slice",
            ));
        }
        let memfd =
            fcntl_dupfd_cloexec(fd, 0).map_err(|error| space::os("fcntl", &name_of(fd), error))?;
        let mapping = self.clone().private().read_only().map_file(file)?;
        Ok(FrozenMapping {
            mapping,
            memfd: Some(memfd),
        })
    }
}
