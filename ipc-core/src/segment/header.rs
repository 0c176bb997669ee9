//! The header page of a segment: what it is, who made it, and where its parts lie.
//!
//! The bytes below [`HEADER_LEN`], the directory and the schema text are written before the segment has a name and never
//! change afterwards; one CRC-32 (zlib's) covers them all. They are read into private memory once, checked, and used
//! from there. Drawn byte by byte in `docs/layout.md`.

use crate::memory::Identity;
use crate::segment::SegmentError;

/// The first eight bytes: `ipc-seg` and a one on a little-endian machine.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ipc-seg\x01");

/// The version of everything drawn in `docs/layout.md`.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the immutable part of the header page.
pub const HEADER_LEN: usize = 256;

/// Bytes of the header page, whatever the page size of the machine.
pub const HEADER_PAGE: usize = 4096;

/// Offsets in the header page.
pub(crate) mod field {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const FORMAT_VERSION: usize = 8;
    pub(crate) const HEADER_LEN: usize = 12;
    pub(crate) const CRC: usize = 16;
    pub(crate) const PAGE_SIZE: usize = 20;
    pub(crate) const POINTER_WIDTH: usize = 24;
    pub(crate) const COMPATIBLE: usize = 32;
    pub(crate) const READ_ONLY_COMPATIBLE: usize = 40;
    pub(crate) const INCOMPATIBLE: usize = 48;
    pub(crate) const TOTAL_LEN: usize = 56;
    pub(crate) const UUID: usize = 64;
    pub(crate) const INODE: usize = 80;
    pub(crate) const BIRTH: usize = 88;
    pub(crate) const CREATOR_PID: usize = 96;
    pub(crate) const CREATOR_START: usize = 104;
    pub(crate) const CREATOR_BOOT: usize = 112;
    pub(crate) const DIRECTORY_OFFSET: usize = 120;
    pub(crate) const SCHEMA_OFFSET: usize = 128;
    pub(crate) const PARTICIPANTS_OFFSET: usize = 136;
    pub(crate) const OBJECTS: usize = 144;
    pub(crate) const SCHEMA_LEN: usize = 148;
    pub(crate) const PARTICIPANTS: usize = 152;
}

/// The immutable header, in private memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Features that a reader may ignore.
    pub compatible: u64,
    /// Features that forbid writing to whoever does not know them.
    pub read_only_compatible: u64,
    /// Features that forbid opening to whoever does not know them.
    pub incompatible: u64,
    /// Length of the segment in bytes.
    pub total_len: u64,
    /// Random, and new for each segment.
    pub uuid: [u8; 16],
    /// Inode of the file; 0 where there is none.
    pub inode: u64,
    /// Birth time of the file in nanoseconds since 1970; 0 where the file system does not keep one.
    pub birth: u64,
    /// Who made the segment.
    pub creator: Identity,
    /// Where the directory of objects begins.
    pub directory_offset: u64,
    /// Where the schema text begins.
    pub schema_offset: u64,
    /// Where the participant table begins.
    pub participants_offset: u64,
    /// Entries in the directory.
    pub objects: u32,
    /// Bytes of schema text.
    pub schema_len: u32,
    /// Rows of the participant table.
    pub participants: u32,
}

impl Header {
    /// The header as bytes, with the checksum over them and `rest`: the directory, then the schema text.
    pub(crate) fn encode(&self, rest: &[u8]) -> [u8; HEADER_LEN] {
        let mut page = [0; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::MAGIC, &MAGIC.to_ne_bytes());
        put(field::FORMAT_VERSION, &FORMAT_VERSION.to_ne_bytes());
        put(field::HEADER_LEN, &(HEADER_LEN as u32).to_ne_bytes());
        put(field::PAGE_SIZE, &page_size().to_ne_bytes());
        put(field::POINTER_WIDTH, &usize::BITS.to_ne_bytes());
        put(field::COMPATIBLE, &self.compatible.to_ne_bytes());
        put(
            field::READ_ONLY_COMPATIBLE,
            &self.read_only_compatible.to_ne_bytes(),
        );
        put(field::INCOMPATIBLE, &self.incompatible.to_ne_bytes());
        put(field::TOTAL_LEN, &self.total_len.to_ne_bytes());
        put(field::UUID, &self.uuid);
        put(field::INODE, &self.inode.to_ne_bytes());
        put(field::BIRTH, &self.birth.to_ne_bytes());
        put(field::CREATOR_PID, &self.creator.pid.to_ne_bytes());
        put(field::CREATOR_START, &self.creator.start.to_ne_bytes());
        put(field::CREATOR_BOOT, &self.creator.boot.to_ne_bytes());
        put(
            field::DIRECTORY_OFFSET,
            &self.directory_offset.to_ne_bytes(),
        );
        put(field::SCHEMA_OFFSET, &self.schema_offset.to_ne_bytes());
        put(
            field::PARTICIPANTS_OFFSET,
            &self.participants_offset.to_ne_bytes(),
        );
        put(field::OBJECTS, &self.objects.to_ne_bytes());
        put(field::SCHEMA_LEN, &self.schema_len.to_ne_bytes());
        put(field::PARTICIPANTS, &self.participants.to_ne_bytes());
        let crc = checksum(&page, rest);
        page[field::CRC..][..4].copy_from_slice(&crc.to_ne_bytes());
        page
    }

    /// Reads a header from a private copy of the first bytes of a file of `file_len` bytes. What it says is checked as
    /// far as the header alone allows; the checksum is [`verify`](Self::verify)'s, since it covers more.
    pub(crate) fn decode(page: &[u8; HEADER_LEN], file_len: u64) -> Result<Self, SegmentError> {
        match get64(page, field::MAGIC) {
            MAGIC => {}
            swapped if swapped == MAGIC.swap_bytes() => return Err(SegmentError::OtherByteOrder),
            found => return Err(SegmentError::NoSegment { found }),
        }
        let version = get32(page, field::FORMAT_VERSION);
        if version != FORMAT_VERSION {
            return Err(SegmentError::OtherVersion {
                found: version,
                expected: FORMAT_VERSION,
            });
        }
        let incompatible = get64(page, field::INCOMPATIBLE);
        if incompatible != 0 {
            return Err(SegmentError::UnknownFeatures {
                features: incompatible,
            });
        }
        let header_len = get32(page, field::HEADER_LEN);
        if header_len as usize != HEADER_LEN {
            return Err(SegmentError::damaged(format!(
                "the header says that it has {header_len} bytes instead of {HEADER_LEN}"
            )));
        }
        let header = Self {
            compatible: get64(page, field::COMPATIBLE),
            read_only_compatible: get64(page, field::READ_ONLY_COMPATIBLE),
            incompatible,
            total_len: get64(page, field::TOTAL_LEN),
            uuid: page[field::UUID..][..16].try_into().unwrap_or_default(),
            inode: get64(page, field::INODE),
            birth: get64(page, field::BIRTH),
            creator: Identity {
                pid: get32(page, field::CREATOR_PID),
                start: get64(page, field::CREATOR_START),
                boot: get64(page, field::CREATOR_BOOT),
                ..Identity::default()
            },
            directory_offset: get64(page, field::DIRECTORY_OFFSET),
            schema_offset: get64(page, field::SCHEMA_OFFSET),
            participants_offset: get64(page, field::PARTICIPANTS_OFFSET),
            objects: get32(page, field::OBJECTS),
            schema_len: get32(page, field::SCHEMA_LEN),
            participants: get32(page, field::PARTICIPANTS),
        };
        // Before anything is read or allocated at the word of this header, its parts must lie within the file.
        let within =
            |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= file_len);
        let directory_len = u64::from(header.objects) * super::directory::ENTRY_LEN as u64;
        if !within(header.directory_offset, directory_len)
            || !within(header.schema_offset, header.schema_len.into())
        {
            return Err(SegmentError::damaged(
                "the header checksum cannot be right: its parts lie outside the file",
            ));
        }
        Ok(header)
    }

    /// Checks the checksum over the header page and `rest`, then what depends on the machine and the file.
    pub(crate) fn verify(
        &self,
        page: &[u8; HEADER_LEN],
        rest: &[u8],
        file_len: u64,
    ) -> Result<(), SegmentError> {
        let mut zeroed = *page;
        zeroed[field::CRC..][..4].fill(0);
        let (found, expected) = (get32(page, field::CRC), checksum(&zeroed, rest));
        if found != expected {
            return Err(SegmentError::damaged(format!(
                "the header checksum is {found:#010x}, and that of its bytes {expected:#010x}"
            )));
        }
        let machine = [
            ("page size", get32(page, field::PAGE_SIZE), page_size()),
            (
                "pointer width",
                get32(page, field::POINTER_WIDTH),
                usize::BITS,
            ),
        ];
        for (what, found, expected) in machine {
            if found != expected {
                return Err(SegmentError::OtherMachine {
                    what,
                    found,
                    expected,
                });
            }
        }
        if self.total_len != file_len {
            return Err(SegmentError::WrongSize {
                found: file_len,
                expected: self.total_len,
            });
        }
        Ok(())
    }
}

/// CRC-32 of the header with its checksum word zero, then of the rest.
fn checksum(page: &[u8; HEADER_LEN], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(page);
    crc.update(rest);
    crc.finalize()
}

fn page_size() -> u32 {
    rustix::param::page_size() as u32
}

/// The word at `at`, which must lie in `bytes`.
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

/// The word at `at`, which must lie in `bytes`.
pub(crate) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
}
