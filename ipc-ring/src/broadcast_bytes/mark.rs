//! A position that everybody can find together with the number of its record.
//!
//! ```text
//! position                    one store moves the mark
//! two notes of                position, number of the record there, start of the record before it
//! ```
//!
//! # Protocol
//!
//! To move it, its one writer fills in the note that the present position does not use, and then stores the position. So the
//! note of any position that a reader finds, or that a dead writer has left, is whole. A reader looks for the note that
//! names the position, and then at the position again: if it is the same, the note was not written meanwhile.
//!
//! The note carries no claim of its own, since there are no two writers who could both believe to be the one: the marks of the ring
//! are moved by who has the role of the producer, that of a row by who has the role of the row, and a role is claimed by one
//! compare-exchange and taken away only by proof of death. A writer that died half-way through a note has not moved the mark:
//! its successor finds the note of the position whole, and writes the other one over. The explorer demands at each store that its
//! process has the role.
//!
//! # Orderings
//!
//! The store of the position is Release and pairs with the Acquire load of a reader: it sees the note. A Release fence stands
//! before the stores of a note, an Acquire fence before the second load of the position: a reader that has seen a word
//! of a later note sees that the mark has moved.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_core::memory::{Area, Memory, OutOfArea, Word64};

use crate::side::Spot;

/// Bytes of a mark.
pub(super) const SIZE: usize = 56;

/// How often a reader tries while the mark moves under its eyes.
const TRIES: u32 = 256;

/// Where a mark stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) position: u64,
    /// Of the record that begins there.
    pub(super) number: u64,
    /// Where the record before it begins, if the writer says so.
    pub(super) before: u64,
}

impl Note {
    pub(super) fn spot(self) -> Spot {
        Spot {
            position: self.position,
            number: self.number,
        }
    }
}

/// A mark in shared memory. Zeros are the mark of position 0 and number 0.
#[derive(Clone, Debug)]
pub(super) struct Mark<M> {
    memory: M,
    position: Word64<M>,
    notes: [[Word64<M>; 3]; 2],
}

impl<M: Memory> Mark<M> {
    pub(super) fn new(area: &Area<M>, at: usize) -> Result<Self, OutOfArea> {
        let note = |at: usize| {
            Ok([
                area.word64(at)?,
                area.word64(at + 8)?,
                area.word64(at + 16)?,
            ])
        };
        Ok(Self {
            memory: area.memory().clone(),
            position: area.word64(at)?,
            notes: [note(at + 8)?, note(at + 32)?],
        })
    }

    /// The position alone.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `set`: what the mark stands behind is there.
        self.position.load(Acquire)
    }

    /// Position and number for whoever only looks: the number of a record nearby, if the mark moves too fast.
    pub(super) fn spot(&self) -> Spot {
        let numbers = self.notes.each_ref().map(|[_, number, _]| number);
        self.get().map_or_else(
            || Spot {
                position: self.position(),
                number: numbers[0].load(Relaxed).max(numbers[1].load(Relaxed)),
            },
            Note::spot,
        )
    }

    /// Whether the mark is further on than `position`.
    #[inline]
    pub(super) fn has_passed(&self, position: u64) -> bool {
        (self.position.load(Relaxed).wrapping_sub(position) as i64) > 0
    }

    /// The position with its note; `None` if it moves too fast, or somebody has written rubbish.
    pub(super) fn get(&self) -> Option<Note> {
        for _ in 0..TRIES {
            if let Some(note) = self.look() {
                return Some(note);
            }
            self.memory.pause();
        }
        None
    }

    fn look(&self) -> Option<Note> {
        let position = self.position();
        let note = self.note_of(position)?;
        // ORDERING: pairs with the fence in `set`: who has seen a word of a later note sees the position after this.
        self.memory.fence(Acquire);
        (self.position.load(Relaxed) == position).then_some(note)
    }

    fn note_of(&self, position: u64) -> Option<Note> {
        self.notes.iter().find_map(|[at, number, before]| {
            (at.load(Relaxed) == position).then(|| Note {
                position,
                number: number.load(Relaxed),
                before: before.load(Relaxed),
            })
        })
    }

    /// Moves the mark on from where it stands, `from`. Only its one writer does.
    #[inline]
    pub(super) fn set(&self, from: u64, note: Note) {
        if note.position == from {
            // It stands there. A second note of one position would, until it is whole, be found in the place of the first.
            return;
        }
        let spare = usize::from(self.notes[0][0].load(Relaxed) == from);
        let [at, number, before] = &self.notes[spare];
        // ORDERING: pairs with the fence in `look`.
        self.memory.fence(Release);
        at.store(note.position, Relaxed);
        number.store(note.number, Relaxed);
        before.store(note.before, Relaxed);
        // ORDERING: Release pairs with the Acquire in `position`: the note, and all that the mark stands behind, comes first.
        self.position.store(note.position, Release);
    }
}

#[cfg(test)]
mod tests {
    use ipc_core::Mapped;
    use ipc_core::segment::{ObjectSpec, Place, SegmentOptions};

    use super::*;

    #[test]
    fn a_mark_that_stays_is_not_touched() {
        // Catches a note that gets the present position before its number: whoever is killed in between leaves a mark whose
        // position is found with the number of another one.
        let spec = ObjectSpec {
            kind: *b"test\0\0\0\0",
            version: 1,
            len: SIZE,
            schema: String::new(),
            parameters: [0; 2],
        };
        let options = SegmentOptions::new().object("mark", spec);
        let segment = options.create(Place::Memfd("mark".into())).unwrap();
        let object = segment.object("mark").unwrap();
        let mark: Mark<Mapped> = Mark::new(object.area(), 0).unwrap();
        let note = |number: u64| Note {
            position: 16 * number,
            number,
            before: 0,
        };
        for number in 1..6 {
            mark.set(note(number - 1).position, note(number));
            let words = || {
                mark.notes
                    .each_ref()
                    .map(|note| note.each_ref().map(|word| word.load(Relaxed)))
            };
            let before = words();
            mark.set(note(number).position, note(number));
            assert_eq!((mark.get(), words()), (Some(note(number)), before));
        }
    }
}
