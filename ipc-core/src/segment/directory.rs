//! The directory of a segment: which objects it holds, of what kind and layout, and where.
//!
//! It is fixed when the segment is created. A segment knows nothing of what a kind means: that is an eight-byte tag.

use std::collections::BTreeSet;

use crate::Mapped;
use crate::memory::{Area, OutOfArea};
use crate::participant::{ParticipantId, ROW};
use crate::segment::SegmentError;
use crate::segment::header::{HEADER_PAGE, Header, MAX_SCHEMA, get32, get64};

/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 128;

/// The longest name of an object, in bytes.
pub const MAX_NAME: usize = 63;

/// Objects start at multiples of this: two cache lines, which processors fetch together.
pub const OBJECT_ALIGN: usize = 128;

/// The most objects in a segment.
pub(crate) const MAX_OBJECTS: usize = 65_536;

mod field {
    pub(super) const NAME: usize = 0;
    pub(super) const KIND: usize = 64;
    pub(super) const VERSION: usize = 72;
    pub(super) const OFFSET: usize = 80;
    pub(super) const LEN: usize = 88;
    pub(super) const FINGERPRINT: usize = 96;
    pub(super) const SCHEMA_OFFSET: usize = 104;
    pub(super) const SCHEMA_LEN: usize = 108;
    pub(super) const PARAMETERS: usize = 112;
}

/// What an object shall be, before it has a place.
#[derive(Clone, Debug)]
pub struct ObjectSpec {
    /// What kind of object: a tag such as `*b"spsc\0\0\0\0"`.
    pub kind: [u8; 8],
    /// The version of the kind's layout.
    pub version: u32,
    /// Bytes it needs, all zero at first.
    pub len: usize,
    /// The layout of its elements as text; empty where it has none.
    pub schema: String,
    /// Two numbers that belong to the kind: of a ring, the capacity and the size of a slot.
    pub parameters: [u64; 2],
}

/// An object in a segment, as its directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, unique in the segment.
    pub name: String,
    /// What kind of object.
    pub kind: [u8; 8],
    /// The version of the kind's layout.
    pub version: u32,
    /// Where it begins.
    pub offset: u64,
    /// Bytes it takes.
    pub len: u64,
    /// Fingerprint of the schema text.
    pub fingerprint: u64,
    /// The layout of its elements as text.
    pub schema: String,
    /// Two numbers that belong to the kind.
    pub parameters: [u64; 2],
}

/// How a kind of object clears up after the dead.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The tag in the directory.
    pub tag: [u8; 8],
    /// The version of its layout that this is for. Objects of another one are left to others.
    pub version: u32,
    /// Undoes or completes every claim in the object that names the participant. Idempotent; may be cut short anywhere
    /// by the death of the caller.
    pub recover: fn(&Area<Mapped>, &Entry, ParticipantId) -> Result<(), OutOfArea>,
}

/// The tag as text, for messages.
pub(crate) fn tag_text(tag: &[u8; 8]) -> String {
    tag.iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| byte.escape_ascii().to_string())
        .collect()
}

/// Where all parts of a segment lie, and its directory and schema text as bytes.
pub(crate) struct Plan {
    pub(crate) directory_offset: u64,
    pub(crate) schema_offset: u64,
    pub(crate) participants_offset: u64,
    pub(crate) schema_len: u32,
    pub(crate) total_len: u64,
    /// Directory, then schema text.
    pub(crate) contents: Vec<u8>,
}

/// Lays out a segment of these objects, in pages of `page` bytes.
pub(crate) fn plan(
    objects: &[(String, ObjectSpec)],
    participants: u16,
    page: usize,
) -> Result<Plan, SegmentError> {
    let too_large = || SegmentError::TooLarge;
    if objects.len() > MAX_OBJECTS {
        return Err(SegmentError::Object(format!(
            "{} objects are more than {MAX_OBJECTS}",
            objects.len()
        )));
    }
    let directory_offset = HEADER_PAGE;
    let schema_offset = directory_offset + objects.len() * ENTRY_LEN;
    let schema: String = objects
        .iter()
        .map(|(_, spec)| spec.schema.as_str())
        .collect();
    if schema.len() > MAX_SCHEMA as usize {
        return Err(too_large());
    }
    let participants_offset =
        round_up(schema_offset + schema.len(), OBJECT_ALIGN).ok_or_else(too_large)?;
    let mut end = participants_offset + usize::from(participants) * ROW;
    let mut contents = Vec::with_capacity(objects.len() * ENTRY_LEN + schema.len());
    let (mut names, mut text) = (BTreeSet::new(), 0);
    for (name, spec) in objects {
        if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
            return Err(SegmentError::Object(format!(
                "an object's name has 1 to {MAX_NAME} bytes, not {name:?}"
            )));
        }
        if !names.insert(name) {
            return Err(SegmentError::Object(format!(
                "two objects are named {name:?}"
            )));
        }
        let offset = round_up(end, OBJECT_ALIGN).ok_or_else(too_large)?;
        end = offset.checked_add(spec.len).ok_or_else(too_large)?;
        let mut entry = [0; ENTRY_LEN];
        let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::NAME, name.as_bytes());
        put(field::KIND, &spec.kind);
        put(field::VERSION, &spec.version.to_ne_bytes());
        put(field::OFFSET, &(offset as u64).to_ne_bytes());
        put(field::LEN, &(spec.len as u64).to_ne_bytes());
        put(
            field::FINGERPRINT,
            &crate::layout::fingerprint(&spec.schema).to_ne_bytes(),
        );
        put(field::SCHEMA_OFFSET, &(text as u32).to_ne_bytes());
        put(field::SCHEMA_LEN, &(spec.schema.len() as u32).to_ne_bytes());
        put(field::PARAMETERS, &spec.parameters[0].to_ne_bytes());
        put(field::PARAMETERS + 8, &spec.parameters[1].to_ne_bytes());
        contents.extend_from_slice(&entry);
        text += spec.schema.len();
    }
    contents.extend_from_slice(schema.as_bytes());
    let total_len = round_up(end, page).ok_or_else(too_large)?;
    if i64::try_from(total_len).is_err() {
        return Err(too_large());
    }
    Ok(Plan {
        directory_offset: directory_offset as u64,
        schema_offset: schema_offset as u64,
        participants_offset: participants_offset as u64,
        schema_len: schema.len() as u32,
        total_len: total_len as u64,
        contents,
    })
}

/// Reads a directory from a private copy, whose checksum has been checked. A checksum keeps out accidents, not intent:
/// objects that overlap each other or what lies before them are refused, and so is text that is used twice, since a few
/// bytes could then stand for any amount.
pub(crate) fn decode(
    directory: &[u8],
    schema: &[u8],
    header: &Header,
) -> Result<Vec<Entry>, SegmentError> {
    let damaged = |what: &str| Err(SegmentError::damaged(format!("in its directory, {what}")));
    let mut entries = Vec::with_capacity(directory.len() / ENTRY_LEN);
    let (mut names, mut object_end, mut text_end) = (BTreeSet::new(), header.objects_offset(), 0);
    for entry in directory.chunks_exact(ENTRY_LEN) {
        let (offset, len) = (get64(entry, field::OFFSET), get64(entry, field::LEN));
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= header.total_len);
        let Some(end) = end else {
            return damaged("an object lies outside the segment");
        };
        if offset % OBJECT_ALIGN as u64 != 0 || offset < object_end {
            return damaged("an object overlaps the one before it, or is not aligned");
        }
        object_end = end;
        let (at, len) = (
            get32(entry, field::SCHEMA_OFFSET) as usize,
            get32(entry, field::SCHEMA_LEN) as usize,
        );
        let text = at
            .checked_add(len)
            .and_then(|end| schema.get(at..end))
            .map(std::str::from_utf8);
        let Some(Ok(text)) = text else {
            return damaged("a schema is outside the schema text, or not UTF-8");
        };
        if at < text_end {
            return damaged("two schemas overlap");
        }
        text_end = at + len;
        let entry = decode_entry(entry, text)?;
        if !names.insert(entry.name.clone()) {
            return damaged("two objects have the same name");
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn decode_entry(entry: &[u8], schema: &str) -> Result<Entry, SegmentError> {
    let damaged = |what: &str| SegmentError::damaged(format!("in its directory, {what}"));
    let name = &entry[field::NAME..field::KIND];
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .filter(|end| *end > 0);
    let name = end.and_then(|end| std::str::from_utf8(&name[..end]).ok());
    let name = name.ok_or_else(|| damaged("a name is empty, has no end, or is not UTF-8"))?;
    let fingerprint = get64(entry, field::FINGERPRINT);
    if fingerprint != crate::layout::fingerprint(schema) {
        return Err(damaged("a fingerprint is not that of its schema"));
    }
    let mut kind = [0; 8];
    kind.copy_from_slice(&entry[field::KIND..][..8]);
    Ok(Entry {
        name: name.to_owned(),
        kind,
        version: get32(entry, field::VERSION),
        offset: get64(entry, field::OFFSET),
        len: get64(entry, field::LEN),
        fingerprint,
        schema: schema.to_owned(),
        parameters: [
            get64(entry, field::PARAMETERS),
            get64(entry, field::PARAMETERS + 8),
        ],
    })
}

fn round_up(value: usize, to: usize) -> Option<usize> {
    value.checked_next_multiple_of(to)
}

impl Kind {
    /// That of an object with this tag and version among `kinds`.
    pub(crate) fn find(kinds: &[Self], tag: [u8; 8], version: u32) -> Option<Self> {
        let same = |kind: &&Self| (kind.tag, kind.version) == (tag, version);
        kinds.iter().find(same).copied()
    }
}
