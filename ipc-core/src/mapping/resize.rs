//! Changing the length or the place of a mapping, and cutting it in two.
//!
//! All of this takes the mapping by value: whoever holds a reference to it keeps it where it is.

use std::{
    ops::Range,
    os::fd::AsFd,
    sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering::Relaxed},
};

use rustix::fs::fstat;

use super::{
    Access, Kept, MapError, Mapping, PIECES, Reservation,
    area::{Area, Backing},
    check::neighbour,
    limits, space,
};
use crate::{fault::Guard, sys::mm};

/// Whether a mapping that changes its length may change its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// It stays where it is; growing fails if the addresses behind it are not free. [`room`](super::MapOptions::room) keeps
    /// them free.
    InPlace,
    /// It may move. Offsets stay what they were; addresses do not.
    MayMove,
}

impl Mapping {
    /// Cuts the mapping in two, at an offset that is on a page of the mapping.
    ///
    /// Each part is a mapping of its own, to be protected, kept or dropped. So a part is unmapped from the front, from the
    /// back or from the middle, and what was unmapped cannot be named any more.
    ///
    /// # Errors
    ///
    /// When the offset is not on a page, or outside. The mapping is given back.
    pub fn split_at(mut self, at: usize) -> Result<(Mapping, Mapping), Box<Kept>> {
        if at > self.len {
            let error = self.out_of_bounds(at, 0);
            return Err(self.kept(error));
        }
        let cut = self.first + at;
        if cut % self.unit != 0 {
            let error = MapError::OffPage {
                what: "offset",
                value: at,
                page: self.unit,
            };
            return Err(self.kept(error));
        }
        let guard = self.guard.take();
        let (front, back) = std::mem::replace(&mut self.area, Area::empty()).split_at(cut);
        let part = |area: Area, body: Range<usize>, fence, first, len, offset| Mapping {
            guard: guard
                .as_ref()
                .map(|guard| guard.part(area.addresses(&body))),
            area,
            body,
            fence,
            first,
            len,
            unit: self.unit,
            flags: self.flags,
            access: self.access,
            shared: self.shared,
            file: self.file.clone(),
            offset,
            huge: self.huge.clone(),
            // ORDERING: Relaxed (all); owning the mapping, we are alone with it.
            unusual: AtomicU8::new(self.unusual.load(Relaxed)),
            process: AtomicU32::new(self.process.load(Relaxed)),
            sync_error: AtomicI32::new(self.sync_error.load(Relaxed)),
        };
        let beyond = self.offset + (cut - self.body.start) as u64;
        Ok((
            part(front, self.body.start..cut, 0, self.first, at, self.offset),
            part(
                back,
                0..self.body.end - cut,
                self.fence,
                0,
                self.len - at,
                beyond,
            ),
        ))
    }

    /// Changes the length. What stays of the contents is kept; what is new is zero, or the file's.
    ///
    /// A mapping of a file that must grow for it needs its descriptor ([`keep_file`](super::MapOptions::keep_file), or a
    /// memfd); every block is allocated. Shrinking leaves the file as it is. Locks and advice hold for the new part only
    /// where the mapping has no [`room`](super::MapOptions::room).
    ///
    /// # Errors
    ///
    /// When there is no place, no memory, or no space on the file system; for shared anonymous memory, whose size the
    /// kernel fixes when it is made. The mapping is given back as it was.
    pub fn resize(mut self, len: usize, how: Resize) -> Result<Mapping, Box<Kept>> {
        let cut_short = self.is_cut_short();
        let paused = self.guard.take().map(Guard::pause);
        let changed = self.change_length(len, how, cut_short);
        self.guard = paused.map(|guard| guard.resume(self.area.addresses(&self.body)));
        match changed {
            Ok(()) => Ok(self),
            Err(error) => Err(self.kept(error)),
        }
    }

    /// Moves the mapping to the beginning of a reserved range, whose rest becomes room to grow.
    ///
    /// # Errors
    ///
    /// When the range is too short, or holds something. The mapping is given back; the reservation is not.
    pub fn move_into(mut self, reservation: Reservation) -> Result<Mapping, Box<Kept>> {
        let bytes = self.body.len();
        let Some(mut area) = reservation.into_free_area(bytes) else {
            let error =
                MapError::Options("the reserved range is shorter than the mapping, or is in use");
            return Err(self.kept(error));
        };
        let paused = self.guard.take().map(Guard::pause);
        let moved = self.move_body(&mut area, 0, bytes);
        if moved.is_ok() {
            self.fence = 0;
            self.settle(area, 0..bytes);
        }
        self.guard = paused.map(|guard| guard.resume(self.area.addresses(&self.body)));
        match moved {
            Ok(()) => Ok(self),
            Err(error) => Err(self.kept(error)),
        }
    }

    fn kept(self, error: MapError) -> Box<Kept> {
        Box::new(Kept {
            mapping: self,
            error,
        })
    }

    fn change_length(&mut self, len: usize, how: Resize, cut_short: bool) -> Result<(), MapError> {
        if len == 0 {
            return Err(MapError::ZeroLength);
        }
        let skew = self.first - self.body.start;
        let too_long = || MapError::TooLong { len: len as u64 };
        let bytes = len
            .checked_add(skew)
            .and_then(|len| len.checked_next_multiple_of(self.unit));
        let bytes = bytes.ok_or_else(too_long)?;
        let before = self.body.len();
        if bytes > before {
            // ORDERING: Relaxed; owning the mapping, we are alone with it.
            if self.unusual.load(Relaxed) & PIECES != 0 {
                return Err(MapError::WrongKind(
                    "a mapping that was put together of pieces does not grow",
                ));
            }
            if self.file.is_none() && self.shared {
                return Err(MapError::WrongKind(
                    "shared anonymous memory does not grow: the kernel fixes its size when it is made; use map_memfd",
                ));
            }
            if cut_short {
                return Err(self.cut_short());
            }
            if before == 0 {
                return Err(MapError::WrongKind(
                    "a mapping of an empty file does not grow: map it with .extend_file()",
                ));
            }
        }
        if bytes > before || len > self.len {
            self.extend_file(skew, len)?;
        }
        if bytes < before {
            self.give_back(bytes)?;
        } else if bytes > before {
            self.grow(bytes, how)?;
        }
        self.len = len;
        Ok(())
    }

    /// Makes the file long enough for `len` bytes from the first on.
    fn extend_file(&self, skew: usize, len: usize) -> Result<(), MapError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let descriptor = self.file().ok_or(MapError::NoFile)?;
        let end = (self.offset + skew as u64).checked_add(len as u64);
        let end = end.ok_or(MapError::TooLong { len: len as u64 })?;
        let size = fstat(descriptor)
            .map_err(|error| space::os("fstat", &file.name, error))?
            .st_size as u64;
        if size < end {
            space::reserve(&descriptor, end, &file.name)
        } else {
            Ok(())
        }
    }

    /// Unmaps all but the first `bytes` of the body; addresses that belong to the mapping stay its own.
    fn give_back(&mut self, bytes: usize) -> Result<(), MapError> {
        let unused = self.body.start + bytes..self.body.end;
        let fenced = self.area.len() > self.body.end;
        if fenced {
            let flags = mm::MapFlags::PRIVATE | mm::MapFlags::NORESERVE;
            let len = unused.len();
            self.area
                .place(unused.clone(), Access::None, flags, Backing::Anonymous)
                .map_err(|source| limits::refused("mmap", len, source))?;
        }
        let area = std::mem::replace(&mut self.area, Area::empty());
        let body = self.body.start..unused.start;
        let area = if fenced {
            area
        } else {
            area.split_at(unused.start).0
        };
        self.settle(area, body);
        Ok(())
    }

    fn grow(&mut self, bytes: usize, how: Resize) -> Result<(), MapError> {
        let room = self.area.len() - self.fence - self.body.end;
        let more = self.body.end..self.body.start + bytes;
        if more.len() <= room {
            let offset = self.offset + self.body.len() as u64;
            let descriptor = self.file.as_ref().and_then(|file| file.descriptor.as_ref());
            let backing = descriptor.map_or(Backing::Anonymous, |fd| Backing::File {
                fd: fd.as_fd(),
                offset,
            });
            self.area
                .place(more.clone(), self.access, self.flags, backing)
                .map_err(|source| limits::refused("mmap", more.len(), source))?;
            let area = std::mem::replace(&mut self.area, Area::empty());
            self.settle(area, self.body.start..more.end);
            return Ok(());
        }
        if self.area.len() == self.body.len() {
            let area = std::mem::replace(&mut self.area, Area::empty());
            let end = area.addresses(&self.body).end;
            return match area.resize(bytes, how == Resize::MayMove) {
                Ok(area) => {
                    self.settle(area, 0..bytes);
                    Ok(())
                }
                Err((area, source)) => {
                    self.area = area;
                    Err(match how {
                        Resize::InPlace if source.raw_os_error() == Some(libc::ENOMEM) => {
                            MapError::AddressTaken {
                                address: end,
                                len: more.len(),
                                taken_by: neighbour(end, more.len()),
                            }
                        }
                        _ => limits::refused("mremap", bytes, source),
                    })
                }
            };
        }
        if how == Resize::InPlace {
            let address = self.area.addresses(&self.body).end;
            let taken_by = "its own guard page, with less room before it,".into();
            return Err(MapError::AddressTaken {
                address,
                len: more.len(),
                taken_by,
            });
        }
        // Guard pages move with the mapping.
        let (lead, fence) = (self.body.start, self.fence);
        let span = bytes
            .checked_add(lead + fence)
            .ok_or(MapError::TooLong { len: bytes as u64 })?;
        let mut area =
            Area::reserve(span, None).map_err(|source| limits::refused("mmap", span, source))?;
        self.move_body(&mut area, lead, bytes)?;
        self.settle(area, lead..lead + bytes);
        Ok(())
    }

    /// Moves the pages to `at` in another area, as `bytes`.
    fn move_body(&mut self, to: &mut Area, at: usize, bytes: usize) -> Result<(), MapError> {
        let area = std::mem::replace(&mut self.area, Area::empty());
        let (before, rest) = area.split_at(self.body.start);
        let (body, after) = rest.split_at(self.body.len());
        match to.take_over(at, body, bytes) {
            Ok(()) => Ok(()),
            Err((body, source)) => {
                self.area = before.join(body).join(after);
                Err(limits::refused("mremap", bytes, source))
            }
        }
    }

    /// Takes a new place into use.
    fn settle(&mut self, area: Area, body: Range<usize>) {
        let skew = self.first - self.body.start;
        self.len = self.len.min(body.len().saturating_sub(skew));
        self.first = body.start + skew;
        self.body = body;
        self.area = area;
    }
}
