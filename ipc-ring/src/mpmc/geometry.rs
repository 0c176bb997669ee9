//! Positions, laps and the word of a slot: all the arithmetic of the ring, and nothing else.
//!
//! ```text
//! position    0 1 2 3 4 5 6 7 8 ...      ever growing, wraps at 2^64
//! slot        0 1 2 3 0 1 2 3 0          position mod slots
//! lap         0 0 0 0 1 1 1 1 2          position / slots, of which the word keeps up to 47 bits
//!
//! word        lap:47 | mark:1 | phase:2 | owner:14
//! ```
//!
//! The mark of a message says that it has been taken before and has come back; that of a free slot, that the position before
//! it in this slot was skipped.
//!
//! A slot and a lap are a position, so a word says which message its slot is for. Laps are compared by their wrapping
//! difference: they may be mistaken only by whoever has slept through 2^46 of them. With more than 2^17 slots a position
//! has fewer than 47 bits of lap, and the word keeps only those, so that both wrap together.

use ipc_core::participant::ParticipantId;

const OWNER: u64 = (1 << 14) - 1;
const PHASE_SHIFT: u32 = 14;
const PHASE: u64 = 3 << PHASE_SHIFT;
const MARK: u64 = 1 << 16;
const LAP_SHIFT: u32 = 17;
const LAP_BITS: u32 = 47;

/// What is going on in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Free for the message of its position.
    Free,
    /// In the hands of a producer.
    Writing,
    /// Holds a message that nobody has taken.
    Full,
    /// In the hands of a consumer.
    Reading,
}

/// The word of a slot. Zero is "free for the first lap".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u64);

impl State {
    /// What is going on.
    #[inline]
    pub fn phase(self) -> Phase {
        match (self.0 & PHASE) >> PHASE_SHIFT {
            0 => Phase::Free,
            1 => Phase::Writing,
            2 => Phase::Full,
            _ => Phase::Reading,
        }
    }

    /// In whose hands it is. Nobody, unless somebody writes or reads.
    #[inline]
    pub fn owner(self) -> Option<ParticipantId> {
        ParticipantId::new(self.0 & OWNER)
    }

    /// Whether the message had been taken before, and was put back by its taker or by whoever recovered it.
    #[inline]
    pub fn is_again(self) -> bool {
        self.0 & MARK != 0
    }

    /// Whether the slot is free, and a lap before nothing was published in it.
    #[inline]
    pub fn is_skipped(self) -> bool {
        self.phase() == Phase::Free && self.0 & MARK != 0
    }

    /// The same message taken by a consumer.
    #[inline]
    pub fn taken_by(self, me: ParticipantId) -> Self {
        Self(self.0 & !(PHASE | OWNER) | phase_bits(Phase::Reading) | u64::from(me.get()))
    }

    /// The same message, to be taken once more.
    #[inline]
    pub fn put_back(self) -> Self {
        Self(self.0 & !(PHASE | OWNER) | phase_bits(Phase::Full) | MARK)
    }
}

const fn phase_bits(phase: Phase) -> u64 {
    (phase as u64) << PHASE_SHIFT
}

/// How positions fall on a power of two of slots.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    shift: u32,
    lap_bits: u32,
}

impl Geometry {
    /// That of so many slots, if they are a power of two.
    pub fn new(slots: usize) -> Option<Self> {
        let shift = slots.is_power_of_two().then(|| slots.trailing_zeros())?;
        Some(Self {
            shift,
            lap_bits: LAP_BITS.min(u64::BITS - shift),
        })
    }

    /// How many slots there are.
    #[inline]
    pub fn slots(self) -> u64 {
        1 << self.shift
    }

    #[inline]
    fn lap(self, position: u64) -> u64 {
        // Shifted out at the top instead of masked: one operation less.
        let unused = u64::BITS - self.lap_bits;
        position >> self.shift << unused >> unused
    }

    #[inline]
    fn state(self, position: u64, phase: Phase) -> State {
        State(self.lap(position) << LAP_SHIFT | phase_bits(phase))
    }

    /// Free for the message of this position.
    #[inline]
    pub fn free(self, position: u64) -> State {
        self.state(position, Phase::Free)
    }

    /// The message of this position, being written.
    #[inline]
    pub fn writing(self, position: u64, me: ParticipantId) -> State {
        State(self.state(position, Phase::Writing).0 | u64::from(me.get()))
    }

    /// The message of this position, published.
    #[inline]
    pub fn full(self, position: u64) -> State {
        self.state(position, Phase::Full)
    }

    /// The message of this position, being read.
    #[cfg(test)]
    fn reading(self, position: u64, me: ParticipantId) -> State {
        self.full(position).taken_by(me)
    }

    /// The slot of `state` made free for the next lap.
    #[inline]
    pub fn next_lap(self, state: State) -> State {
        let lap = (state.0 >> LAP_SHIFT).wrapping_add(1);
        let unused = u64::BITS - self.lap_bits;
        State(lap << unused >> unused << LAP_SHIFT)
    }

    /// The slot of `state` made free for the next lap, with a mark that nothing was published in this one.
    #[inline]
    pub fn skipped(self, state: State) -> State {
        State(self.next_lap(state).0 | MARK)
    }

    /// Whether the slot is free for the message of this position.
    #[inline]
    pub fn is_free(self, state: State, position: u64) -> bool {
        state.0 & !MARK == self.free(position).0
    }

    /// Whether the slot holds the message of this position, and nobody has taken it.
    #[inline]
    pub fn is_full(self, state: State, position: u64) -> bool {
        state.0 & !MARK == self.full(position).0
    }

    /// How many laps the slot of `position`, in this state, is ahead of that position; negative where it is behind.
    #[inline]
    pub fn laps_ahead(self, state: State, position: u64) -> i64 {
        let difference = (state.0 >> LAP_SHIFT).wrapping_sub(self.lap(position));
        let unused = u64::BITS - self.lap_bits;
        (difference << unused) as i64 >> unused
    }

    /// The position behind `position` by so many laps and one.
    #[inline]
    pub fn behind(self, position: u64, laps: i64) -> u64 {
        position
            .wrapping_add((laps as u64) << self.shift)
            .wrapping_add(1)
    }

    /// Messages between two positions that may contradict each other.
    pub fn distance(self, head: u64, tail: u64) -> u64 {
        let distance = tail.wrapping_sub(head);
        if (distance as i64) < 0 {
            0
        } else {
            distance.min(self.slots())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 6] = [1, 2, 4, 8, 1 << 17, 1 << 20];

    fn me(number: u64) -> ParticipantId {
        ParticipantId::new(number).unwrap()
    }

    /// Positions around every place where something wraps: the lap in the word, 2^32, and the position itself.
    fn positions(geometry: Geometry) -> impl Iterator<Item = u64> {
        let slots = geometry.slots();
        let lap_wrap = slots.wrapping_shl(geometry.lap_bits);
        [0, 1 << 32, lap_wrap, 1 << 63]
            .into_iter()
            .flat_map(move |at: u64| {
                let near = (slots * 3).min(64);
                (0..2 * near).map(move |i| at.wrapping_sub(near).wrapping_add(i))
            })
    }

    #[test]
    fn a_word_says_what_was_put_into_it() {
        // Catches fields that overlap, and an owner or flag that survives a change of phase.
        for slots in SIZES {
            let geometry = Geometry::new(slots).unwrap();
            for position in positions(geometry) {
                for owner in [1, 2, 8191, 16_382] {
                    let owner = me(owner);
                    let states = [
                        (geometry.free(position), Phase::Free, None, false),
                        (
                            geometry.writing(position, owner),
                            Phase::Writing,
                            Some(owner),
                            false,
                        ),
                        (geometry.full(position), Phase::Full, None, false),
                        (
                            geometry.reading(position, owner),
                            Phase::Reading,
                            Some(owner),
                            false,
                        ),
                        (
                            geometry.reading(position, owner).put_back(),
                            Phase::Full,
                            None,
                            true,
                        ),
                        (
                            geometry.full(position).put_back().taken_by(owner),
                            Phase::Reading,
                            Some(owner),
                            true,
                        ),
                    ];
                    for (state, phase, owner, again) in states {
                        assert_eq!(
                            (state.phase(), state.owner(), state.is_again()),
                            (phase, owner, again)
                        );
                        assert_eq!(geometry.laps_ahead(state, position), 0);
                        let next = geometry.next_lap(state);
                        let after = position.wrapping_add(slots as u64);
                        assert_eq!(next, geometry.free(after));
                        let skipped = geometry.skipped(state);
                        assert!(geometry.is_free(next, after) && !next.is_skipped());
                        assert!(geometry.is_free(skipped, after) && skipped.is_skipped());
                        assert!(!geometry.is_free(next, position) && !state.is_skipped());
                        assert_eq!(geometry.next_lap(skipped), geometry.next_lap(next));
                    }
                }
            }
        }
    }

    #[test]
    fn laps_are_told_apart_on_both_sides_of_every_wrap() {
        // Catches a lap that wraps at another place than the position does, and a difference that loses its sign.
        for slots in SIZES {
            let geometry = Geometry::new(slots).unwrap();
            for position in positions(geometry) {
                for laps in -5_i64..=5 {
                    let other = position.wrapping_add((laps as u64).wrapping_mul(slots as u64));
                    assert_eq!(
                        geometry.laps_ahead(geometry.full(other), position),
                        laps,
                        "{slots} slots, {position}"
                    );
                    assert_eq!(geometry.behind(position, laps), other.wrapping_add(1));
                }
            }
        }
    }

    #[test]
    fn tiny_rings_behave_like_a_counter() {
        // Catches arithmetic that holds only from some capacity on: every state of a ring of 1 to 8 slots for some laps,
        // against plain division.
        for slots in [1_u64, 2, 4, 8] {
            let geometry = Geometry::new(slots as usize).unwrap();
            for position in 0..8 * slots {
                for other in (position % slots..8 * slots).step_by(slots as usize) {
                    let laps = (other / slots) as i64 - (position / slots) as i64;
                    for state in [
                        geometry.free(other),
                        geometry.writing(other, me(3)),
                        geometry.full(other),
                    ] {
                        assert_eq!(geometry.laps_ahead(state, position), laps);
                    }
                }
            }
        }
    }

    #[test]
    fn a_zero_word_is_free_for_the_first_lap() {
        // Catches an encoding under which a fresh segment would need a constructor.
        for slots in SIZES {
            let geometry = Geometry::new(slots).unwrap();
            assert_eq!(geometry.free(slots as u64 - 1), State(0));
        }
        assert!(Geometry::new(0).is_none() && Geometry::new(3).is_none());
    }

    #[test]
    fn a_distance_is_never_more_than_the_ring() {
        // Catches a length computed from contradicting hints that is larger than the ring, or negative.
        let geometry = Geometry::new(4).unwrap();
        for (head, tail, distance) in [
            (0, 3, 3),
            (u64::MAX, 2, 3),
            (5, 4, 0),
            (0, 900, 4),
            (1 << 63, 0, 0),
        ] {
            assert_eq!(geometry.distance(head, tail), distance);
        }
    }
}
