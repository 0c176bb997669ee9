//! Where a record lies in its arena.
//!
//! A record is a header of 8 bytes and a payload without a seam. It begins at a multiple of 8; so does the next one.
//!
//! ```text
//! start       start + 8     payload          payload + len   end
//! | skip, len | skip bytes  | len bytes      | 0 to 7 bytes  |
//! ```
//!
//! The header is one word: `skip << 32 | len`. The skip is zero for most records. Where the payload would cross the end
//! of the arena, the skip reaches to that end, and the payload begins at index 0. So a record takes at most twice its
//! length, and one of half the arena fits wherever the positions are. A large payload is moved to a multiple of 64, where
//! copies are fastest. The consumer relies on none of this but on what it checks in [`Place::read`].

use ipc_core::memory::{Arena, Memory};

use crate::side::Refusal;

/// Bytes of a header, and what every record begins at a multiple of.
const UNIT: u64 = 8;

/// From this length on a payload is worth a skip to a multiple of [`LINE`].
const LARGE: usize = 1024;

/// Bytes of a cache line.
const LINE: u64 = 64;

/// The longest payload in an arena of `capacity` bytes.
pub(crate) fn max_len(capacity: usize) -> usize {
    capacity / 2
}

/// A record's place, in positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the header.
    pub(crate) start: u64,
    /// Of the first byte of the payload.
    pub(crate) payload: u64,
    /// Bytes of the payload. They lie in the arena without a seam.
    pub(crate) len: usize,
}

impl Place {
    /// The position at which the record begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a record of `len` bytes goes that begins at `start`.
    #[inline]
    pub(crate) fn new<M: Memory>(arena: &Arena<M>, start: u64, len: usize) -> Self {
        let body = start.wrapping_add(UNIT);
        let before_seam = arena.before_seam(body);
        let payload = if len > before_seam {
            body.wrapping_add(before_seam as u64)
        } else if len >= LARGE {
            let line = body.wrapping_add(body.wrapping_neg() % LINE);
            if len <= arena.before_seam(line) {
                line
            } else {
                body
            }
        } else {
            body
        };
        Self {
            start,
            payload,
            len,
        }
    }

    /// The record that begins at `start`, of which `published` bytes are there. Everything that the header says is
    /// checked: a record lies within what is published, and its payload has no seam.
    #[inline]
    pub(crate) fn read<M: Memory>(
        arena: &Arena<M>,
        start: u64,
        published: u64,
    ) -> Result<Self, Refusal> {
        // Copied once: a peer may change it at any time.
        let header = arena.load(start);
        let (skip, len) = (header >> 32, header & u64::from(u32::MAX));
        let record = Self {
            start,
            payload: start.wrapping_add(UNIT + skip),
            len: len as usize,
        };
        let sound = skip % UNIT == 0
            && record.extent() <= published
            && record.len <= arena.before_seam(record.payload);
        if sound {
            Ok(record)
        } else {
            Err(Refusal::Corrupt)
        }
    }

    /// The word that tells a reader where the payload is.
    #[inline]
    pub(crate) fn header(&self) -> u64 {
        let skip = self.payload.wrapping_sub(self.start) - UNIT;
        skip << 32 | self.len as u64
    }

    /// Copies bytes into the payload, from byte `at` on. They must lie within it.
    #[inline]
    pub(crate) fn write<M: Memory>(&self, arena: &Arena<M>, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at);
        arena.write(self.payload.wrapping_add(at as u64), bytes);
    }

    /// Copies bytes out of the payload, from byte `at` on. They must lie within it.
    #[inline]
    pub(crate) fn read_at<M: Memory>(&self, arena: &Arena<M>, at: usize, into: &mut [u8]) {
        assert!(at <= self.len && into.len() <= self.len - at);
        arena.read(self.payload.wrapping_add(at as u64), into);
    }

    /// Bytes of the whole record.
    #[inline]
    fn extent(&self) -> u64 {
        self.payload.wrapping_sub(self.start) + (self.len as u64).next_multiple_of(UNIT)
    }

    /// Where the next record begins.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.start.wrapping_add(self.extent())
    }
}

/// Whether a record can begin there.
pub(crate) fn is_start(position: u64) -> bool {
    position % UNIT == 0
}
