//! Mappings that are put together: pieces of files, in any order and several times over, on one range of addresses.

use std::{
    ops::Range,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU8, AtomicU32},
    },
};

use super::{
    Access, File, HugePages, MapError, MapOptions, Mapping, PIECES,
    area::{Area, Backing},
    limits, page_size, space,
};
use crate::{fault::Guard, sys::mm};

/// A range of addresses without memory behind them, on which pieces are placed.
///
/// The same pages placed twice in a row make a mirrored mapping, in which a record that runs over the end reads in one
/// piece:
///
/// ```
/// use ipc_core::{MapOptions, mapping::{Reservation, page_size}};
///
/// # fn main() -> Result<(), ipc_core::mapping::MapError> {
/// let page = page_size();
/// let ring = MapOptions::new().len(page).map_memfd("ring")?;
/// let file = ring.file().expect("a memfd is kept");
/// let mut twice = Reservation::new(2 * page)?;
/// twice.place_file(0, &MapOptions::new(), &file)?;
/// twice.place_file(page, &MapOptions::new(), &file)?;
/// let mirror = twice.into_mapping()?;
/// mirror.write_at(page - 2, b"seam")?;
/// assert_eq!(mirror.to_vec(0..2)?, b"am");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reservation {
    area: Area,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    access: Access,
    shared: bool,
    file: Option<String>,
}

impl Reservation {
    /// Reserves `len` bytes of addresses, rounded up to whole pages, wherever the kernel likes.
    ///
    /// # Errors
    ///
    /// When the addresses are not to be had.
    pub fn new(len: usize) -> Result<Reservation, MapError> {
        Reservation::reserve(len, None)
    }

    /// Reserves `len` bytes of addresses from `address` on, where nothing may lie yet.
    ///
    /// # Errors
    ///
    /// When the address is not on a page, or something lies there.
    pub fn at(address: usize, len: usize) -> Result<Reservation, MapError> {
        let page = page_size();
        if address % page != 0 {
            return Err(MapError::OffPage {
                what: "address",
                value: address,
                page,
            });
        }
        Reservation::reserve(len, Some(address))
    }

    fn reserve(len: usize, at: Option<usize>) -> Result<Reservation, MapError> {
        let bytes = len
            .checked_next_multiple_of(page_size())
            .ok_or(MapError::TooLong { len: len as u64 })?;
        if bytes == 0 {
            return Err(MapError::ZeroLength);
        }
        let area = Area::reserve(bytes, at).map_err(|source| match at {
            Some(address) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                MapError::AddressTaken {
                    address,
                    len: bytes,
                    taken_by: super::check::neighbour(address, bytes),
                }
            }
            _ => limits::refused("mmap", bytes, source),
        })?;
        Ok(Reservation {
            area,
            pieces: Vec::new(),
        })
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.area.len()
    }

    /// Never: a reservation has a page at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The address of the first byte.
    pub fn address(&self) -> usize {
        self.area.start().addr().get()
    }

    /// Maps a part of a file, as the options say, `at` bytes into the range.
    ///
    /// # Errors
    ///
    /// As [`MapOptions::map_file`]; when `at` is not on a page, or the place does not lie in the range or is taken.
    pub fn place_file(
        &mut self,
        at: usize,
        options: &MapOptions,
        file: &impl AsFd,
    ) -> Result<(), MapError> {
        let fd = file.as_fd();
        let checked = options.check_file(fd)?;
        if checked.skew != 0 || checked.unit != page_size() {
            return Err(MapError::Options(
                "a piece begins on a page of a file with ordinary pages",
            ));
        }
        let backing = Backing::File {
            fd,
            offset: options.offset,
        };
        self.place(at, checked.len, options, backing, Some(checked.name))
    }

    /// Maps new memory, as the options say, `at` bytes into the range.
    ///
    /// # Errors
    ///
    /// As [`MapOptions::map_anonymous`]; when `at` is not on a page, or the place does not lie in the range or is taken.
    pub fn place_anonymous(&mut self, at: usize, options: &MapOptions) -> Result<(), MapError> {
        let len = options.len.ok_or(MapError::NoLength)?;
        self.place(at, len, options, Backing::Anonymous, None)
    }

    fn place(
        &mut self,
        at: usize,
        len: usize,
        options: &MapOptions,
        backing: Backing<'_>,
        file: Option<String>,
    ) -> Result<(), MapError> {
        let page = page_size();
        if at % page != 0 {
            return Err(MapError::OffPage {
                what: "place",
                value: at,
                page,
            });
        }
        if len == 0 {
            return Err(MapError::ZeroLength);
        }
        if !options.suits_a_piece() {
            return Err(MapError::Options(
                "a piece is mapped by length, offset, access, sharing, populate, no_reserve and extend_file alone",
            ));
        }
        let end = len
            .checked_next_multiple_of(page)
            .and_then(|len| at.checked_add(len));
        let Some(end) = end.filter(|end| *end <= self.area.len()) else {
            return Err(MapError::OutOfBounds {
                offset: at,
                len,
                mapped: self.area.len(),
            });
        };
        let taken = |piece: &&Piece| piece.range.start < end && at < piece.range.end;
        if let Some(piece) = self.pieces.iter().find(taken) {
            let taken_by = format!(
                "a piece of {}",
                piece.file.as_deref().unwrap_or("anonymous memory")
            );
            return Err(MapError::AddressTaken {
                address: self.address() + at,
                len,
                taken_by,
            });
        }
        self.area
            .place(at..end, options.access, options.flags_now(), backing)
            .map_err(|source| limits::refused("mmap", len, source))?;
        self.pieces.push(Piece {
            range: at..end,
            access: options.access,
            shared: options.shared,
            file,
        });
        Ok(())
    }

    /// One mapping of all pieces. What is reserved behind the last of them stays without access.
    ///
    /// # Errors
    ///
    /// When there is a hole before or between the pieces, or they differ in access or in being shared.
    pub fn into_mapping(mut self) -> Result<Mapping, MapError> {
        self.pieces.sort_by_key(|piece| piece.range.start);
        let first = self.pieces.first().ok_or(MapError::NoLength)?;
        let (access, shared) = (first.access, first.shared);
        let mut len = 0;
        for piece in &self.pieces {
            if piece.range.start != len {
                return Err(MapError::Options(
                    "there is a hole before or between the pieces",
                ));
            }
            if piece.access != access || piece.shared != shared {
                return Err(MapError::Options(
                    "the pieces of one mapping have one access and are all shared or all private",
                ));
            }
            len = piece.range.end;
        }
        let mut names: Vec<&str> = self
            .pieces
            .iter()
            .filter_map(|piece| piece.file.as_deref())
            .collect();
        names.dedup();
        let names = names.join(" and ");
        let guard = if names.is_empty() {
            None
        } else {
            let addresses = self.area.addresses(&(0..len));
            Some(
                Guard::new(addresses, page_size())
                    .map_err(|source| space::os("sigaction", "SIGBUS", source))?,
            )
        };
        Ok(Mapping {
            area: self.area,
            body: 0..len,
            fence: 0,
            first: 0,
            len,
            unit: page_size(),
            flags: if shared {
                mm::MapFlags::SHARED
            } else {
                mm::MapFlags::PRIVATE
            },
            access,
            shared,
            file: guard.is_some().then(|| {
                Arc::new(File {
                    name: names,
                    descriptor: None,
                })
            }),
            offset: 0,
            guard,
            huge: HugePages::NotAsked,
            unusual: AtomicU8::new(PIECES),
            process: AtomicU32::new(0),
            sync_error: AtomicI32::new(0),
        })
    }

    /// The addresses, if nothing is placed there and they are enough.
    pub(super) fn into_free_area(self, bytes: usize) -> Option<Area> {
        (self.pieces.is_empty() && self.area.len() >= bytes).then_some(self.area)
    }
}
