//! Where the journal begins, on disk: two checksummed slots, of which one is always whole.
//!
//! A record is `sequence, start, salt, checksum`, four words of one cache line; all zeros is that of a journal that was never
//! used. The newer of the whole records counts. A new one goes to the slot of the older one (`sequence mod 2`), and counts
//! once it is on disk. The line that a power cut tears has a wrong checksum, and the other slot counts.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use ipc_core::memory::{Area, Memory, OutOfArea, Word64};

/// Bytes between the two slots: each has a pair of cache lines of its own.
pub(super) const SLOT: usize = 128;

const WORDS: usize = 4;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts the records; the higher one is newer. Zero in a journal that was never used.
    pub sequence: u64,
    /// Everything before this position was trimmed. A record begins there.
    pub start: u64,
    /// Goes into every checksum of the file.
    pub salt: u64,
}

/// The two slots.
#[derive(Clone, Debug)]
pub(super) struct Mark<M> {
    area: Area<M>,
    slots: [[Word64<M>; WORDS]; 2],
}

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

    /// The record that counts; none if neither is whole.
    pub(super) fn read(&self) -> Option<Record> {
        let records = self
            .slots
            .each_ref()
            .map(|slot| slot.each_ref().map(|word| word.load(Relaxed)));
        let whole = records.into_iter().filter_map(checked);
        whole.max_by_key(|record| record.sequence)
    }

    /// Replaces the older record and waits until it is on disk. One at a time: the caller holds the lock.
    pub(super) fn write(&self, record: Record) -> io::Result<()> {
        let slot = (record.sequence % 2) as usize;
        let words = [record.sequence, record.start, record.salt, checksum(record)];
        for (word, value) in self.slots[slot].iter().zip(words) {
            // ORDERING: Relaxed: readers hold the lock, and the sync below orders the stores for the disk.
            word.store(value, Relaxed);
        }
        self.area.sync(slot * SLOT, WORDS * 8)
    }
}

fn checked([sequence, start, salt, found]: [u64; WORDS]) -> Option<Record> {
    let record = Record {
        sequence,
        start,
        salt,
    };
    let empty = record == Record::default() && found == 0;
    (empty || (sequence != 0 && checksum(record) == found)).then_some(record)
}

/// The CRC-32 of the words, twice: once plain and once of their complements, so that the word has 64 bits of check.
fn checksum(record: Record) -> u64 {
    let crc = |words: [u64; 3]| {
        let mut crc = crc32fast::Hasher::new();
        words
            .iter()
            .for_each(|word| crc.update(&word.to_ne_bytes()));
        u64::from(crc.finalize())
    };
    let Record {
        sequence,
        start,
        salt,
    } = record;
    crc([sequence, start, salt]) << 32 | crc([!salt, !start, !sequence])
}
