//! Counters that any process may add to, each in cache lines of its own.
//!
//! One counter numbers things: each [`next`](Counter::next) is given to one caller. Several make statistics that do not
//! disturb each other. Nothing is claimed, so a death leaves nothing behind but a number that nobody uses.

use std::ops::Index;
use std::sync::atomic::Ordering::Relaxed;

use super::{Attach, VERSION, misfit, spec_of};
use crate::Mapped;
use crate::memory::{Area, Memory, OutOfArea, Word64};
use crate::participant::ParticipantId;
use crate::segment::{Entry, Kind, OBJECT_ALIGN, Object, ObjectSpec, SegmentError};

/// How objects of this kind are told from others. There is nothing to clear up.
pub(super) const KIND: Kind = Kind {
    tag: *b"sequence",
    version: VERSION,
    recover,
};

fn recover(_: &Area<Mapped>, _: &Entry, _: ParticipantId) -> Result<(), OutOfArea> {
    Ok(())
}

/// The most counters in one object.
const MOST: u32 = 1 << 20;

/// Counters, all zero at first. Works in a forked child as well.
///
/// ```
/// use ipc_core::segment::Place;
/// use ipc_core::sync::{Attach, Sequence};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let counters = Sequence::create(Place::Anonymous, 2)?;
/// assert_eq!((counters[0].next(), counters[0].next()), (0, 1));
/// counters[1].add(10);
/// assert_eq!(counters.iter().map(|counter| counter.get()).sum::<u64>(), 12);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Sequence {
    object: Object,
    counters: Vec<Counter<Mapped>>,
}

impl Attach for Sequence {
    /// How many counters there are: 1 to 2^20.
    type Parameters = u32;

    fn spec(counters: u32) -> Result<ObjectSpec, SegmentError> {
        if !(1..=MOST).contains(&counters) {
            return Err(SegmentError::Object(format!(
                "a sequence has 1 to {MOST} counters, not {counters}"
            )));
        }
        let len = OBJECT_ALIGN * counters as usize;
        Ok(spec_of(KIND, len, String::new(), [counters.into(), 0]))
    }

    fn attach(object: Object) -> Result<Self, SegmentError> {
        object.expect(KIND.tag, VERSION, "")?;
        let count = object.entry().parameters[0].min(MOST.into()) as usize;
        let counter = |index| Counter::new(object.area(), index * OBJECT_ALIGN);
        let counters = (0..count).map(counter).collect::<Result<_, _>>();
        let counters = counters.map_err(misfit(object.entry()))?;
        Ok(Self { object, counters })
    }

    fn object(&self) -> &Object {
        &self.object
    }
}

impl Sequence {
    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// All counters.
    pub fn iter(&self) -> std::slice::Iter<'_, Counter<Mapped>> {
        self.counters.iter()
    }
}

impl Index<usize> for Sequence {
    type Output = Counter<Mapped>;

    /// # Panics
    ///
    /// If there is no such counter.
    fn index(&self, index: usize) -> &Counter<Mapped> {
        &self.counters[index]
    }
}

/// One counter. Orders nothing but itself.
#[derive(Clone, Debug)]
pub struct Counter<M> {
    word: Word64<M>,
}

impl<M: Memory> Counter<M> {
    /// The counter whose word is at `at`.
    ///
    /// # Errors
    ///
    /// If `at` is no multiple of 8, or the word does not lie in the area.
    pub fn new(area: &Area<M>, at: usize) -> Result<Self, OutOfArea> {
        Ok(Self {
            word: area.word64(at)?,
        })
    }

    /// The next number, which nobody else is given: 0, 1, 2 and so on, and from 0 again after 2^64.
    #[inline]
    pub fn next(&self) -> u64 {
        self.add(1)
    }

    /// Adds, and tells what the counter was before: that many numbers from there on are the caller's.
    #[inline]
    pub fn add(&self, count: u64) -> u64 {
        self.word.add(count, Relaxed)
    }

    /// What the counter is.
    #[inline]
    pub fn get(&self) -> u64 {
        self.word.load(Relaxed)
    }

    /// Raises the counter to `least` if it is below.
    pub fn raise(&self, least: u64) {
        let mut found = self.word.load(Relaxed);
        while found < least {
            match self.word.exchange(found, least, Relaxed) {
                Ok(_) => return,
                Err(other) => found = other,
            }
        }
    }
}
