//! Two words that survive a power cut together: two checksummed slots on disk, of which one is always whole.
//!
//! What a durable object promises hangs on such a mark: [`ids`](crate::ids) keep in it up to where they may have been given,
//! the journal of `ipc-ring` where it begins.
//!
//! # Protocol
//!
//! A record is `sequence, two values, checksum`, four words of one cache line; all zeros is the record of an empty
//! file, with sequence 0. The newer of the whole records counts. A new one gets the next sequence and goes to the slot of
//! the older one (`sequence mod 2`), so that the newer one is not touched; it counts once it is on disk.
//!
//! Whoever writes one first says that it is in doubt whether the newest one is on disk, and takes that back when it knows. It
//! may be killed in between, or before it tells anybody that the disk has failed, after which the kernel takes the page
//! for clean. So whoever finds a doubt stores the record that counts again, and syncs it, before it relies on it or
//! touches the other one.
//!
//! # After a power cut
//!
//! The line that was being written holds any mixture of old and new words: then its checksum is wrong, and the other slot,
//! which had been synced before, counts. If no record is whole, the file was damaged by something else, and nothing is
//! promised from it any more.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::memory::{Area, Memory, OutOfArea, Word64};

/// Bytes between the two slots: each has a pair of cache lines of its own.
const SLOT: usize = 128;

/// Where the doubt is, in a line of its own.
const DOUBT: usize = 64;

/// Bytes that a mark takes.
pub const SIZE: usize = 2 * SLOT;

const WORDS: usize = 4;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Counts the records; the higher one is newer. Zero if there was none yet.
    pub sequence: u64,
    /// What the mark is for.
    pub values: [u64; 2],
}

impl Record {
    /// The one to be written after this one.
    #[must_use]
    pub fn next(self, values: [u64; 2]) -> Self {
        let sequence = self.sequence.wrapping_add(1);
        Self { sequence, values }
    }
}

/// The two slots.
#[derive(Clone, Debug)]
pub struct Mark<M> {
    area: Area<M>,
    slots: [[Word64<M>; WORDS]; 2],
    /// Not zero: the newest record may not be on disk.
    doubt: Word64<M>,
}

impl<M: Memory> Mark<M> {
    /// The slots at an offset of `area`.
    ///
    /// # Errors
    ///
    /// If they lie outside of it.
    pub fn new(area: &Area<M>, at: usize) -> Result<Self, OutOfArea> {
        let area = area.part(at, SIZE)?;
        let slot = |at: usize| {
            Ok([
                area.word64(at)?,
                area.word64(at + 8)?,
                area.word64(at + 16)?,
                area.word64(at + 24)?,
            ])
        };
        let slots = [slot(0)?, slot(SLOT)?];
        let doubt = area.word64(DOUBT)?;
        Ok(Self { area, slots, doubt })
    }

    /// The record that counts; none if neither is whole.
    pub fn read(&self) -> Option<Record> {
        let records = self
            .slots
            .each_ref()
            .map(|slot| slot.each_ref().map(|word| word.load(Relaxed)));
        let whole = records.into_iter().filter_map(checked);
        whole.max_by_key(|record| record.sequence)
    }

    /// Replaces the older record and waits until it is on disk. One at a time: the caller holds a lock.
    ///
    /// # Errors
    ///
    /// Those of the disk. Nobody knows what it holds then.
    pub fn write(&self, record: Record) -> io::Result<()> {
        self.settle()?;
        self.put(record)
    }

    /// Waits until the record that counts is on disk, if whoever wrote it has not. Under the caller's lock, too.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn settle(&self) -> io::Result<()> {
        if self.doubt.load(Relaxed) == 0 {
            return Ok(());
        }
        match self.read() {
            Some(record) if record.sequence != 0 => self.put(record),
            _ => Ok(()),
        }
    }

    fn put(&self, record: Record) -> io::Result<()> {
        let slot = (record.sequence % 2) as usize;
        let [first, second] = record.values;
        let words = [record.sequence, first, second, checksum(record)];
        self.doubt.store(1, Relaxed);
        for (word, value) in self.slots[slot].iter().zip(words) {
            // ORDERING: Release: whoever is killed here has stored the doubt. Readers hold the lock, and the sync below orders
            // the stores for the disk.
            word.store(value, Release);
        }
        self.area.sync(slot * SLOT, WORDS * 8)?;
        self.doubt.store(0, Relaxed);
        Ok(())
    }
}

fn checked([sequence, first, second, found]: [u64; WORDS]) -> Option<Record> {
    let record = Record {
        sequence,
        values: [first, second],
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
    let (sequence, [first, second]) = (record.sequence, record.values);
    crc([sequence, first, second]) << 32 | crc([!second, !first, !sequence])
}
