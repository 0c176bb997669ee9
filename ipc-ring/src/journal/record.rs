//! Records: how they lie in the arena, and how whole ones are told from everything else.
//!
//! ```text
//! unit        word: 64 | 56 bytes
//! record      word: 64 | length: 32 | checksum: 32 | 48 bytes of payload; in every further unit  its word | 56 bytes of payload
//! word        lap: 24 | units: 24 | phase: 2 | owner: 14      of which zero is "free for lap 0"
//! ```
//!
//! A position is a count of bytes since the journal was made, a multiple of 64. A unit is 64 bytes. A record has no seam:
//! what is left before the end of the arena becomes a skip record.
//!
//! The word of a unit is never payload: inside of a record it stays "free" for the lap, which nobody takes for a place, since
//! places are found by going from record to record. So a claim that comes a lap late cannot succeed inside of another's
//! record, whatever that holds, and no payload is ever read as a word.
//!
//! The checksum is the CRC-32 of the file's salt, the position, the published word, the length and the payload. Of two
//! records at one place in the arena, only the one of the right position is whole.

use std::ops::Range;

use ipc_core::participant::ParticipantId;

/// Records begin at multiples of this, and take one or more.
pub(super) const UNIT: u64 = 64;

/// Bytes of a unit's word, and as many of a record's length and checksum.
const WORD: u64 = 8;

/// Where in a record's first unit its payload begins, and where it goes on in the others.
const FIRST: usize = 2 * WORD as usize;
const NEXT: usize = WORD as usize;

const OWNER: u64 = (1 << 14) - 1;
const PHASE_SHIFT: u32 = 14;
const UNITS_SHIFT: u32 = 16;
/// How many bits the units have, and the lap.
const BITS: u32 = 24;
const LAP_SHIFT: u32 = UNITS_SHIFT + BITS;
const MASK: u64 = (1 << BITS) - 1;

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing yet in this lap.
    Free,
    /// A record in the hands of its appender.
    Writing,
    /// A record.
    Full,
    /// Nothing: the rest before the seam, or what a dead appender had claimed.
    Skip,
}

/// The word of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub u64);

impl State {
    pub(super) fn phase(self) -> Phase {
        match self.0 >> PHASE_SHIFT & 3 {
            0 => Phase::Free,
            1 => Phase::Writing,
            2 => Phase::Full,
            _ => Phase::Skip,
        }
    }

    /// In whose hands it is.
    pub(super) fn owner(self) -> Option<ParticipantId> {
        ParticipantId::new(self.0 & OWNER)
    }

    /// Bytes of the whole record.
    pub(super) fn extent(self) -> u64 {
        (self.0 >> UNITS_SHIFT & MASK) * UNIT
    }

    /// The same place, in that phase and nobody's.
    pub(super) fn into_phase(self, phase: Phase) -> Self {
        let rest = self.0 & !(OWNER | 3 << PHASE_SHIFT);
        Self(rest | (phase as u64) << PHASE_SHIFT)
    }
}

/// Positions, laps, and the bytes of an arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    capacity: u64,
}

impl Geometry {
    /// That of an arena of so many bytes, a power of two.
    pub(super) fn new(capacity: u64) -> Option<Self> {
        (capacity.is_power_of_two() && capacity >= 4 * UNIT).then_some(Self { capacity })
    }

    pub(super) fn capacity(self) -> u64 {
        self.capacity
    }

    /// The longest payload: its record takes half the arena.
    pub(super) fn max_len(self) -> u64 {
        (self.capacity / 2 / UNIT).min(MASK) * (UNIT - WORD) - WORD
    }

    /// Bytes of a record with such a payload.
    pub(super) fn extent(len: u64) -> u64 {
        (WORD + len).div_ceil(UNIT - WORD) * UNIT
    }

    /// A payload in pieces: for each the unit that it lies in, counted from the record's first one, where it begins there, and
    /// which of the payload's bytes it holds.
    pub(super) fn pieces(len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
        let (first, next) = (UNIT as usize - FIRST, UNIT as usize - NEXT);
        let rest = (first..len).step_by(next).zip(1..);
        let rest = rest.map(move |(at, unit)| (unit, NEXT, at..len.min(at + next)));
        std::iter::once((0, FIRST, 0..len.min(first))).chain(rest)
    }

    /// Where in the arena a position lies.
    pub(super) fn index(self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    /// Bytes from a position to the end of the arena.
    pub(super) fn before_seam(self, position: u64) -> u64 {
        self.capacity - self.index(position)
    }

    fn lap(self, position: u64) -> u64 {
        (position / self.capacity) & MASK
    }

    /// The word of a position where nothing is yet.
    pub(super) fn free(self, position: u64) -> State {
        State(self.lap(position) << LAP_SHIFT)
    }

    /// The word of a record of that extent in the hands of `me`.
    pub(super) fn writing(self, position: u64, extent: u64, me: ParticipantId) -> State {
        let units = (extent / UNIT) << UNITS_SHIFT;
        let phase = (Phase::Writing as u64) << PHASE_SHIFT;
        State(self.free(position).0 | units | phase | u64::from(me.get()))
    }

    /// How many laps a word is ahead of a position; negative where it is behind.
    pub(super) fn laps_ahead(self, state: State, position: u64) -> i64 {
        let difference = (state.0 >> LAP_SHIFT).wrapping_sub(self.lap(position));
        let unused = u64::BITS - BITS;
        (difference << unused) as i64 >> unused
    }

    /// The extent that a word claims, if a record of it can lie at this position.
    pub(super) fn checked_extent(self, state: State, position: u64) -> Option<u64> {
        let extent = state.extent();
        (extent >= UNIT && extent <= self.before_seam(position)).then_some(extent)
    }
}

/// Computes checksums of one journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum {
    pub(super) salt: u64,
}

impl Checksum {
    /// Begins that of a record whose published word is `state`; the payload follows.
    pub(super) fn begin(self, position: u64, state: State, len: u32) -> crc32fast::Hasher {
        let mut crc = crc32fast::Hasher::new();
        for word in [self.salt, position, state.0] {
            crc.update(&word.to_ne_bytes());
        }
        crc.update(&len.to_ne_bytes());
        crc
    }

    /// The second word of a record: its length and its checksum.
    pub(super) fn header(self, position: u64, state: State, payload: &[u8]) -> u64 {
        let len = payload.len() as u32;
        let mut crc = self.begin(position, state, len);
        crc.update(payload);
        u64::from(crc.finalize()) << 32 | u64::from(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_put_into_it() {
        // Catches fields that overlap, and an owner that survives its record.
        let geometry = Geometry::new(1 << 12).unwrap();
        for position in [0, 64, 4032, 4096, 1 << 36, (1 << 36) - 64, u64::MAX - 4095] {
            for extent in [64, 128, Geometry::extent(geometry.max_len())] {
                for owner in [1, 16_382] {
                    let owner = ParticipantId::new(owner).unwrap();
                    let writing = geometry.writing(position, extent, owner);
                    assert_eq!(writing.phase(), Phase::Writing);
                    assert_eq!((writing.owner(), writing.extent()), (Some(owner), extent));
                    assert_eq!(geometry.laps_ahead(writing, position), 0);
                    assert_eq!(geometry.laps_ahead(writing, position.wrapping_sub(4096)), 1);
                    for phase in [Phase::Full, Phase::Skip] {
                        let done = writing.into_phase(phase);
                        assert_eq!(
                            (done.phase(), done.owner(), done.extent()),
                            (phase, None, extent)
                        );
                    }
                }
            }
        }
        assert_eq!(geometry.free(0), State(0));
    }
    #[test]
    fn payload_lies_beside_the_words_and_nowhere_else() {
        // Catches a piece that reaches into a word, one that is left out, and an extent that is too short or too long.
        for len in 0..600 {
            let (mut end, mut units) = (0, 0);
            for (unit, offset, part) in Geometry::pieces(len) {
                assert_eq!((unit, part.start), (units, end));
                assert!(offset >= if unit == 0 { 16 } else { 8 });
                assert!(offset + part.len() <= UNIT as usize);
                assert!(unit == 0 || !part.is_empty());
                (end, units) = (part.end, units + 1);
            }
            assert_eq!((end, units * UNIT), (len, Geometry::extent(len as u64)));
        }
        let geometry = Geometry::new(1 << 12).unwrap();
        assert_eq!(Geometry::extent(geometry.max_len()), 1 << 11);
        assert!(Geometry::extent(geometry.max_len() + 1) > 1 << 11);
    }
}
