//! The one word of the header page that changes: what has happened to the segment for good.
//!
//! Bits are only ever set. What they say is also learnt otherwise by whoever needs it most: a failed sync by the process
//! that called it, the loss of the name by asking for the number of names. So a hostile peer that clears or sets them, or
//! changes the word for ever, gains nothing that it could not have by other means.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::fs::fstat;

use crate::mapping::{Mapping, Sync};
use crate::memory::{Area, Memory, OutOfArea, Word32};
use crate::segment::header::{field, state};
use crate::segment::{Parts, SegmentError};

/// How often setting a bit is tried while peers change the word.
const TRIES: usize = 64;

#[derive(Debug)]
pub(crate) struct State<M> {
    word: Word32<M>,
    sync_failed: AtomicBool,
}

impl<M: Memory> State<M> {
    /// The state of the segment that `memory` is the whole of.
    pub(crate) fn new(memory: &M) -> Result<Self, OutOfArea> {
        let word = Area::new(memory.clone(), field::STATE, 4)?.word32(0)?;
        Ok(Self {
            word,
            sync_failed: AtomicBool::new(false),
        })
    }

    /// What has happened, the worst first.
    pub(crate) fn check(&self, mapping: &Mapping, parts: &Parts) -> Result<(), SegmentError> {
        // ORDERING: Acquire pairs with the Release in `set`.
        let word = self.word.load(Acquire);
        if mapping.is_cut_short() {
            return Err(SegmentError::CutShort);
        }
        if word & state::SYNC_FAILED != 0 || self.sync_failed.load(Relaxed) {
            return Err(SegmentError::SyncFailed { error: None });
        }
        // The mark may be missing: whoever took the name away died before, or could not write.
        let nameless =
            || parts.path.is_some() && fstat(&parts.file).is_ok_and(|file| file.st_nlink == 0);
        if word & state::RETIRED != 0 || nameless() {
            return Err(SegmentError::Replaced);
        }
        Ok(())
    }

    /// Writes a range back and waits.
    pub(crate) fn sync(
        &self,
        mapping: &Mapping,
        at: usize,
        len: usize,
    ) -> Result<(), SegmentError> {
        // ORDERING: Acquire pairs with the Release in `set`.
        if self.sync_failed.load(Relaxed) || self.word.load(Acquire) & state::SYNC_FAILED != 0 {
            return Err(SegmentError::SyncFailed { error: None });
        }
        let synced = mapping.sync(at..at + len, Sync::Wait);
        if mapping.is_cut_short() {
            return Err(SegmentError::CutShort);
        }
        synced.map_err(|error| {
            self.sync_failed.store(true, Relaxed);
            self.set(state::SYNC_FAILED);
            SegmentError::SyncFailed { error: Some(error) }
        })
    }

    fn set(&self, bit: u32) {
        let mut word = self.word.load(Relaxed);
        for _ in 0..TRIES {
            if word & bit != 0 {
                return;
            }
            // ORDERING: Release pairs with the Acquire in `check` and `sync`: who sees the bit sees what led to it.
            match self.word.exchange(word, word | bit, Release) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }
}
