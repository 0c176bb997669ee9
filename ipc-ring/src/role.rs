//! A role that one handle at a time can have, such as the only producer of a ring.
//!
//! # Protocol
//!
//! One word: `claims << 16 | end << 14 | holder`. `holder` is a participant number, zero for nobody; `end` tells how the
//! last holder ended. A claim is one compare-exchange that names its owner, so a dead one's can be found by anybody.
//!
//! ```text
//! claim     (n, _, nobody) -> (n + 1, 0, me)
//! give up   (n, 0, me)     -> (n, LEFT, nobody)
//! recover   (n, 0, dead)   -> (n, DIED, nobody)
//! ```
//!
//! # Orderings
//!
//! All three release and claim acquires: a new holder sees all that the old one did, and what recovery did after its
//! death.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use ipc_core::memory::{Area, Memory, OutOfArea, Word64};
use ipc_core::participant::ParticipantId;

const HOLDER: u64 = (1 << 14) - 1;
const LEFT: u64 = 1 << 14;
const DIED: u64 = 2 << 14;
const ONE_CLAIM: u64 = 1 << 16;

/// Who has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody ever had it.
    Never,
    /// This participant, when last seen.
    Present(ParticipantId),
    /// Nobody; the last holder gave it up.
    Left,
    /// Nobody; the last holder died.
    Died,
}

/// The word of a role.
#[derive(Clone, Debug)]
pub struct Role<M> {
    word: Word64<M>,
}

impl<M: Memory> Role<M> {
    /// The role whose word is at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 8, or the word does not lie in the area.
    pub fn new(area: &Area<M>, at: usize) -> Result<Self, OutOfArea> {
        Ok(Self {
            word: area.word64(at)?,
        })
    }

    /// Takes the role if nobody has it; otherwise tells who does.
    ///
    /// # Errors
    ///
    /// Who has it. It may have died: recover it, and try again.
    pub fn claim(&self, me: ParticipantId) -> Result<(), ParticipantId> {
        let mut word = self.word.load(Acquire);
        loop {
            if let Some(holder) = ParticipantId::new(word & HOLDER) {
                return Err(holder);
            }
            let claimed = (word & !(ONE_CLAIM - 1)).wrapping_add(ONE_CLAIM) | u64::from(me.get());
            match self.word.exchange(word, claimed, AcqRel) {
                Ok(_) => return Ok(()),
                Err(found) => word = found,
            }
        }
    }

    /// Gives the role up, if `me` has it.
    pub fn give_up(&self, me: ParticipantId) {
        self.end(me, LEFT);
    }

    /// Takes the role from a participant that is proven dead. Idempotent.
    pub fn recover(&self, dead: ParticipantId) {
        self.end(dead, DIED);
    }

    fn end(&self, holder: ParticipantId, how: u64) {
        let word = self.word.load(Acquire);
        if word & HOLDER == u64::from(holder.get()) {
            // Nobody else changes a held word, but the holder's own handle and whoever recovers it: losing is fine.
            let _ = self
                .word
                .exchange(word, word & !(ONE_CLAIM - 1) | how, Release);
        }
    }

    /// Who has the role.
    pub fn holder(&self) -> Holder {
        let word = self.word.load(Acquire);
        match ParticipantId::new(word & HOLDER) {
            Some(holder) => Holder::Present(holder),
            None if word & DIED != 0 => Holder::Died,
            None if word & LEFT != 0 => Holder::Left,
            None => Holder::Never,
        }
    }

    /// How often the role has been claimed.
    pub fn claims(&self) -> u64 {
        self.word.load(Acquire) / ONE_CLAIM
    }
}
