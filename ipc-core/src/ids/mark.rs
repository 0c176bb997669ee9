//! The high-water mark of a durable counter: two checksummed slots, of which one is always whole.
//!
//! # Protocol
//!
//! A record is `sequence, value, adoptions, checksum`, four words of one cache line; all zeros is the record of an empty
//! file, with sequence 0. The newer of the valid records counts. A new one gets the next sequence and goes to the slot of
//! the older one (`sequence mod 2`), so that the newer one is not touched; it counts for those who draw ids only once it
//! is on disk.
//!
//! # After a power cut
//!
//! The line that was being written holds any mixture of old and new words: then its checksum is wrong, and the other slot,
//! which had been synced before, counts. If no record is valid, the file was damaged by something else, and nothing is
//! drawn from it any more.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::memory::{Area, Memory, OutOfArea, Word64};

/// Bytes between the two slots: each has a pair of cache lines of its own.
pub(super) const SLOT: usize = 128;

const WORDS: usize = 4;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts the records; the higher one is newer.
    pub sequence: u64,
    /// No id of this or a higher number has been given out.
    pub value: u64,
    /// How often the file had been adopted as the successor of another one.
    pub adoptions: u64,
}

/// The two slots.
#[derive(Clone, Debug)]
pub(super) struct Mark<M> {
    area: Area<M>,
    slots: [[Word64<M>; WORDS]; 2],
}

/// Neither slot holds a whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl<M: Memory> Mark<M> {
    /// The slots at the start of `area`.
    pub(super) fn new(area: Area<M>) -> Result<Self, OutOfArea> {
        let slot = |at: usize| {
            Ok([
                area.word64(at)?,
                area.word64(at + 8)?,
                area.word64(at + 16)?,
                area.word64(at + 24)?,
            ])
        };
        let slots = [slot(0)?, slot(SLOT)?];
        Ok(Self { area, slots })
    }

    /// The record that counts.
    pub(super) fn read(&self) -> Result<Record, Damaged> {
        let records = self
            .slots
            .each_ref()
            .map(|slot| slot.each_ref().map(|word| word.load(Relaxed)));
        let newest = records
            .into_iter()
            .filter_map(checked)
            .max_by_key(|record| record.sequence);
        newest.ok_or(Damaged)
    }

    /// Replaces the older record and waits until it is on disk. One at a time: the caller holds the lock.
    pub(super) fn write(&self, record: Record) -> io::Result<()> {
        let Record {
            sequence,
            value,
            adoptions,
        } = record;
        let slot = (sequence % 2) as usize;
        let words = [
            sequence,
            value,
            adoptions,
            checksum(sequence, value, adoptions),
        ];
        for (word, value) in self.slots[slot].iter().zip(words) {
            // ORDERING: Relaxed: readers hold the lock, and the sync below orders the stores for the disk.
            word.store(value, Relaxed);
        }
        self.area.sync(slot * SLOT, WORDS * 8)
    }
}

fn checked([sequence, value, adoptions, found]: [u64; WORDS]) -> Option<Record> {
    let empty = [sequence, value, adoptions, found] == [0; WORDS];
    let whole = empty || (sequence != 0 && checksum(sequence, value, adoptions) == found);
    whole.then_some(Record {
        sequence,
        value,
        adoptions,
    })
}

/// The CRC-32 of the words, twice: once plain and once of their complements, so that the word has 64 bits of check.
fn checksum(sequence: u64, value: u64, adoptions: u64) -> u64 {
    let crc = |words: [u64; 3]| {
        let mut crc = crc32fast::Hasher::new();
        words
            .iter()
            .for_each(|word| crc.update(&word.to_ne_bytes()));
        u64::from(crc.finalize())
    };
    crc([sequence, value, adoptions]) << 32 | crc([!adoptions, !value, !sequence])
}
