//! The header page of a segment: what it is, who made it, and where its parts lie.
//!
//! The bytes below [`HEADER_LEN`], the directory and the schema text are written before the segment has a name and never
//! change afterwards. One CRC-32 (zlib's) covers the header, a second one the directory and the schema text. They are read
//! into private memory once, checked in the order of [`Header::decode`], and used from there. Behind them the page holds
//! two words that do change: [`state`], and a count of those who have joined. Everything is drawn byte by byte in `docs/layout.md`.

use crate::memory::Identity;
use crate::participant::{MAX_PARTICIPANTS, ROW};
use crate::segment::SegmentError;
use crate::segment::directory::{ENTRY_LEN, MAX_OBJECTS, OBJECT_ALIGN};

/// The first eight bytes: `ipc-seg` and a one on a little-endian machine.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ipc-seg\x01");

/// The version of everything drawn in `docs/layout.md`. Programs of different versions cannot share a segment.
pub const FORMAT_VERSION: u16 = 1;

/// The minor version: grows with each feature bit, and is for people to read. Programs go by the bits.
pub const FORMAT_MINOR: u16 = 0;

/// Bytes of the immutable part of the header page.
pub const HEADER_LEN: usize = 256;

/// Bytes of the header page, whatever the page size of the machine.
pub const HEADER_PAGE: usize = 4096;

/// The most bytes of schema text in a segment. What a header says is believed up to here, and so allocated.
pub(crate) const MAX_SCHEMA: u32 = 16 << 20;

/// Feature bits that this program knows. There are none so far.
mod known {
    pub(super) const READ_ONLY_COMPATIBLE: u64 = 0;
    pub(super) const INCOMPATIBLE: u64 = 0;
}

/// Offsets in the header page.
pub(crate) mod field {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const FORMAT_VERSION: usize = 8;
    pub(crate) const FORMAT_MINOR: usize = 10;
    pub(crate) const HEADER_LEN: usize = 12;
    pub(crate) const HEADER_CRC: usize = 16;
    pub(crate) const CONTENTS_CRC: usize = 20;
    pub(crate) const PAGE_SIZE: usize = 24;
    pub(crate) const POINTER_WIDTH: usize = 28;
    pub(crate) const COMPATIBLE: usize = 32;
    pub(crate) const READ_ONLY_COMPATIBLE: usize = 40;
    pub(crate) const INCOMPATIBLE: usize = 48;
    pub(crate) const TOTAL_LEN: usize = 56;
    pub(crate) const UUID: usize = 64;
    pub(crate) const INODE: usize = 80;
    pub(crate) const BIRTH: usize = 88;
    pub(crate) const FILE_SYSTEM: usize = 96;
    pub(crate) const CREATOR_PID: usize = 112;
    pub(crate) const ADOPTIONS: usize = 116;
    pub(crate) const CREATOR_START: usize = 120;
    pub(crate) const CREATOR_PID_NAMESPACE: usize = 128;
    pub(crate) const CREATOR_TIME_NAMESPACE: usize = 136;
    pub(crate) const CREATOR_BOOT: usize = 144;
    pub(crate) const DIRECTORY_OFFSET: usize = 152;
    pub(crate) const SCHEMA_OFFSET: usize = 160;
    pub(crate) const PARTICIPANTS_OFFSET: usize = 168;
    pub(crate) const OBJECTS: usize = 176;
    pub(crate) const SCHEMA_LEN: usize = 180;
    pub(crate) const PARTICIPANTS: usize = 184;
    /// The words of the page that change.
    pub(crate) const STATE: usize = 256;
    pub(crate) const ARRIVALS: usize = 260;
}

/// Bits of the state word.
pub(crate) mod state {
    /// The name has been taken away or given to another segment.
    pub(crate) const RETIRED: u32 = 1 << 0;
    /// A `sync` failed: what is on the disk is not what was promised.
    pub(crate) const SYNC_FAILED: u32 = 1 << 1;
}

/// What the caller means to do with a segment: features it does not know may still let it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// What a file was when the segment was made in it, so that a copy of it is noticed. Zeros where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Inode of the file.
    pub inode: u64,
    /// Birth time of the file in nanoseconds since 1970.
    pub birth: u64,
    /// UUID of the file system.
    pub file_system: [u8; 16],
}

/// The immutable header, in private memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The minor version of whoever wrote it.
    pub minor: u16,
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
    /// The file it was made in.
    pub origin: Origin,
    /// How often a copy of the segment was adopted in its line of ancestors.
    pub adoptions: u32,
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
    /// CRC-32 of the directory and the schema text.
    pub(crate) contents_crc: u32,
}

impl Header {
    /// The header as bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        self.encode_over([0; HEADER_LEN])
    }

    /// The header as bytes; those that no field takes are kept.
    pub(crate) fn encode_over(&self, mut page: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::MAGIC, &MAGIC.to_ne_bytes());
        put(field::FORMAT_VERSION, &FORMAT_VERSION.to_ne_bytes());
        put(field::FORMAT_MINOR, &self.minor.to_ne_bytes());
        put(field::HEADER_LEN, &(HEADER_LEN as u32).to_ne_bytes());
        put(field::CONTENTS_CRC, &self.contents_crc.to_ne_bytes());
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
        put(field::INODE, &self.origin.inode.to_ne_bytes());
        put(field::BIRTH, &self.origin.birth.to_ne_bytes());
        put(field::FILE_SYSTEM, &self.origin.file_system);
        put(field::CREATOR_PID, &self.creator.pid.to_ne_bytes());
        put(field::ADOPTIONS, &self.adoptions.to_ne_bytes());
        put(field::CREATOR_START, &self.creator.start.to_ne_bytes());
        put(
            field::CREATOR_PID_NAMESPACE,
            &self.creator.pid_namespace.to_ne_bytes(),
        );
        put(
            field::CREATOR_TIME_NAMESPACE,
            &self.creator.time_namespace.to_ne_bytes(),
        );
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
        let crc = header_crc(&page);
        page[field::HEADER_CRC..][..4].copy_from_slice(&crc.to_ne_bytes());
        page
    }

    /// Reads a header from a private copy of the first bytes of a segment of `file_len` bytes. The checks come in this
    /// order, so that each kind of damage has its own error: magic and byte order, version, features, length of the
    /// header, its checksum; then the machine, the size of the file, and the places of the parts.
    ///
    /// When this returns, every part that the header names lies within the segment, in the order of the drawing. What
    /// the directory and the schema text say is not checked yet.
    pub(crate) fn decode(
        page: &[u8; HEADER_LEN],
        file_len: u64,
        access: Access,
    ) -> Result<Self, SegmentError> {
        match get64(page, field::MAGIC) {
            MAGIC => {}
            swapped if swapped == MAGIC.swap_bytes() => return Err(SegmentError::OtherByteOrder),
            found => return Err(SegmentError::NoSegment { found }),
        }
        let version = get16(page, field::FORMAT_VERSION);
        if version != FORMAT_VERSION {
            return Err(SegmentError::OtherVersion {
                found: version.into(),
                expected: FORMAT_VERSION.into(),
            });
        }
        let header = Self::fields(page);
        let features = header.incompatible & !known::INCOMPATIBLE;
        if features != 0 {
            return Err(SegmentError::UnknownFeatures { features });
        }
        let features = header.read_only_compatible & !known::READ_ONLY_COMPATIBLE;
        if features != 0 && access == Access::ReadWrite {
            return Err(SegmentError::ReadOnlyFeatures { features });
        }
        let header_len = get32(page, field::HEADER_LEN);
        if header_len as usize != HEADER_LEN {
            return Err(SegmentError::HeaderLength { found: header_len });
        }
        let (found, expected) = (get32(page, field::HEADER_CRC), header_crc(page));
        if found != expected {
            return Err(SegmentError::Checksum {
                what: "header",
                found,
                expected,
            });
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
        if header.total_len != file_len {
            return Err(SegmentError::WrongSize {
                found: file_len,
                expected: header.total_len,
            });
        }
        header.check_parts()?;
        Ok(header)
    }

    /// The fields as they stand.
    fn fields(page: &[u8; HEADER_LEN]) -> Self {
        Self {
            minor: get16(page, field::FORMAT_MINOR),
            compatible: get64(page, field::COMPATIBLE),
            read_only_compatible: get64(page, field::READ_ONLY_COMPATIBLE),
            incompatible: get64(page, field::INCOMPATIBLE),
            total_len: get64(page, field::TOTAL_LEN),
            uuid: get_bytes(page, field::UUID),
            origin: Origin {
                inode: get64(page, field::INODE),
                birth: get64(page, field::BIRTH),
                file_system: get_bytes(page, field::FILE_SYSTEM),
            },
            adoptions: get32(page, field::ADOPTIONS),
            creator: Identity {
                pid: get32(page, field::CREATOR_PID),
                start: get64(page, field::CREATOR_START),
                pid_namespace: get64(page, field::CREATOR_PID_NAMESPACE),
                time_namespace: get64(page, field::CREATOR_TIME_NAMESPACE),
                boot: get64(page, field::CREATOR_BOOT),
            },
            directory_offset: get64(page, field::DIRECTORY_OFFSET),
            schema_offset: get64(page, field::SCHEMA_OFFSET),
            participants_offset: get64(page, field::PARTICIPANTS_OFFSET),
            objects: get32(page, field::OBJECTS),
            schema_len: get32(page, field::SCHEMA_LEN),
            participants: get32(page, field::PARTICIPANTS),
            contents_crc: get32(page, field::CONTENTS_CRC),
        }
    }

    /// Directory, schema text and participant table follow each other and the header page, and end within the segment.
    fn check_parts(&self) -> Result<(), SegmentError> {
        let damaged = |what: &str| {
            Err(SegmentError::damaged(format!(
                "its header is not one that we write: {what}"
            )))
        };
        if self.objects as usize > MAX_OBJECTS {
            return damaged("too many objects");
        }
        if !(1..=u32::from(MAX_PARTICIPANTS)).contains(&self.participants) {
            return damaged("too many participants, or none");
        }
        if self.schema_len > MAX_SCHEMA {
            return damaged("too much schema text");
        }
        let directory_end = HEADER_PAGE as u64 + u64::from(self.objects) * ENTRY_LEN as u64;
        if self.directory_offset != HEADER_PAGE as u64 || self.schema_offset != directory_end {
            return damaged(
                "the directory is not behind the header, or the schema text not behind the directory",
            );
        }
        // Both sums are far below 2^64: the counts are bounded above.
        let table =
            (directory_end + u64::from(self.schema_len)).next_multiple_of(OBJECT_ALIGN as u64);
        if self.participants_offset != table {
            return damaged("the participant table is not behind the schema text");
        }
        if self.objects_offset() > self.total_len || usize::try_from(self.total_len).is_err() {
            return damaged("the participant table does not end within the segment");
        }
        Ok(())
    }

    /// Where the participant table ends, and objects may begin.
    pub(crate) fn objects_offset(&self) -> u64 {
        self.participants_offset
            .saturating_add(u64::from(self.participants) * ROW as u64)
    }

    /// Checks the directory and the schema text, read as one.
    pub(crate) fn verify_contents(&self, contents: &[u8]) -> Result<(), SegmentError> {
        let (found, expected) = (self.contents_crc, contents_crc(contents));
        if found != expected {
            return Err(SegmentError::Checksum {
                what: "directory",
                found,
                expected,
            });
        }
        Ok(())
    }
}

/// CRC-32 of the header with its checksum word zero.
fn header_crc(page: &[u8; HEADER_LEN]) -> u32 {
    let mut zeroed = *page;
    zeroed[field::HEADER_CRC..][..4].fill(0);
    crc32fast::hash(&zeroed)
}

/// CRC-32 of the directory and the schema text.
pub(crate) fn contents_crc(contents: &[u8]) -> u32 {
    crc32fast::hash(contents)
}

fn page_size() -> u32 {
    rustix::param::page_size() as u32
}

fn get_bytes<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap_or([0; N])
}

/// The word at `at`, which must lie in `bytes`.
pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(get_bytes(bytes, at))
}

/// The word at `at`, which must lie in `bytes`.
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(get_bytes(bytes, at))
}

/// The word at `at`, which must lie in `bytes`.
pub(crate) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(get_bytes(bytes, at))
}
