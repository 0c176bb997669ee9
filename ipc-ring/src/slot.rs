//! Slots that hold a word and a message: what `mpmc` and `broadcast` are made of.
//!
//! A slot is a line, or several, so that a small message travels together with its word, and neighbours do not disturb each
//! other. The word comes first, and behind it the message.

use ipc_core::layout::Schema;
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Words};
use ipc_core::segment::Entry;

/// Where in a slot the word is.
const WORD: usize = 0;

/// Where in a slot a message lies, unless it is aligned to more.
const PAYLOAD: usize = 8;

/// What slots begin at a multiple of, unless a message is aligned to more.
const LINE: usize = 64;

/// Where in a slot a message of this alignment lies.
fn payload_offset(align: usize) -> usize {
    PAYLOAD.max(align)
}

/// Bytes from one slot to the next.
pub(crate) fn stride(size: usize, align: usize) -> Option<usize> {
    payload_offset(align)
        .checked_add(size)?
        .checked_next_multiple_of(LINE.max(align))
}

/// Whether a slot is a single line.
pub(crate) fn is_one_line(size: usize, align: usize) -> bool {
    stride(size, align) == Some(LINE)
}

/// Bytes of so many slots.
pub(crate) fn size(capacity: usize, size: usize, align: usize) -> Option<usize> {
    capacity.checked_mul(stride(size, align)?)
}

/// The size and the alignment of the messages that the directory describes, in slots `found` to be so far apart; where its
/// schema does not fit that, those that make as much of a slot as there is.
pub(crate) fn of_entry(entry: &Entry, found: u64) -> (usize, usize) {
    let schema = Schema::parse(&entry.schema).ok();
    schema
        .map(|schema| (schema.size() as usize, schema.align() as usize))
        .filter(|&(size, align)| stride(size, align).is_some_and(|stride| stride as u64 == found))
        .unwrap_or(((found as usize).saturating_sub(PAYLOAD), 1))
}

/// The words and the messages of `capacity` slots at `at`.
pub(crate) fn slots<M: Memory>(
    area: &Area<M>,
    at: usize,
    capacity: usize,
    (size, align): (usize, usize),
) -> Result<(Words<M>, Slots<M>), OutOfArea> {
    let slots = area.slots(at, stride(size, align).unwrap_or(usize::MAX), capacity)?;
    Ok((slots.words(WORD)?, slots.part(payload_offset(align), size)?))
}
