//! Equal slots, of which a position is masked to one, and a word in each of them.
//!
//! # Safety
//!
//! The one invariant of this file: `at` was checked, when the view was made, to lie inside the memory with all slots, each
//! `stride` bytes behind the one before it, and the word in each to be a multiple of 8. Every position is masked to a slot.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::{Area, Memory, OutOfArea};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes whose lines are fetched at a time: more than that would have to wait for one another.
const FETCHED: usize = 1024;

/// Bytes of a run that are copied at a time, once their lines have been asked for.
const CHUNK: usize = 4096;

impl<M: Memory> Area<M> {
    /// `count` slots of `stride` bytes at `at`. `count` must be a power of two; slots are aligned to 8 where `stride`
    /// is a multiple of 8.
    ///
    /// # Errors
    ///
    /// If `count` is no power of two, `stride` or `at` does not keep to the alignment, or the slots do not all lie in the area.
    pub fn slots(&self, at: usize, stride: usize, count: usize) -> Result<Slots<M>, OutOfArea> {
        let align = if stride % 8 == 0 { 8 } else { 1 };
        let refusal = OutOfArea {
            at,
            len: usize::MAX,
            align,
            area: self.len,
        };
        if !count.is_power_of_two() || stride == 0 {
            return Err(refusal);
        }
        let len = stride.checked_mul(count).ok_or(refusal)?;
        let at = self.check(at, len, align)?;
        Ok(Slots {
            memory: self.memory.clone(),
            at,
            stride,
            len: stride,
            mask: count - 1,
        })
    }
}

/// A power of two of equal slots. A position is masked to a slot, so that no position can leave them.
#[derive(Clone, Debug)]
pub struct Slots<M> {
    memory: M,
    at: usize,
    stride: usize,
    /// Bytes of each slot that belong to the view, from `at` on.
    len: usize,
    mask: usize,
}

impl<M: Memory> Slots<M> {
    /// How many slots there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.mask + 1
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes of each slot that belong to this view: all, or those of a [part](Self::part).
    #[inline]
    pub fn width(&self) -> usize {
        self.len
    }

    /// The same part of every slot: `len` bytes at `at`.
    ///
    /// # Errors
    ///
    /// If the part does not lie in a slot.
    pub fn part(&self, at: usize, len: usize) -> Result<Self, OutOfArea> {
        let at = self.check(at, len, 1)?;
        Ok(Self {
            memory: self.memory.clone(),
            at,
            len,
            ..*self
        })
    }

    /// The 64-bit word at `at` of every slot.
    ///
    /// # Errors
    ///
    /// If `at` or the stride is no multiple of 8, or the word does not lie in a slot.
    pub fn words(&self, at: usize) -> Result<Words<M>, OutOfArea> {
        let at = self.check(at, 8, 8)?;
        Ok(Words {
            memory: self.memory.clone(),
            at,
            stride: self.stride,
            mask: self.mask,
        })
    }

    /// The place in the memory of an extent of the first slot, if it lies there in each.
    fn check(&self, at: usize, len: usize, align: usize) -> Result<usize, OutOfArea> {
        let refusal = OutOfArea {
            at,
            len,
            align,
            area: self.len,
        };
        let end = at.checked_add(len).ok_or(refusal)?;
        let place = self.at + at;
        if end > self.len || place % align != 0 || self.stride % align != 0 {
            return Err(refusal);
        }
        Ok(place)
    }

    /// The memory.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Fetches the lines of the slot of `position` for a write to come, of a large one the first. A hint: it changes nothing.
    ///
    /// Stores become visible in order, so each waits for its line in a queue that has room for a few messages: without a hint,
    /// that many lines are on their way at a time.
    #[inline]
    pub fn expect_write(&self, position: u64) {
        self.lines(self.place(position), self.len.min(FETCHED), M::expect_write);
    }

    /// The same for a read to come: only a few messages go through the processor at a time, and each waits for its lines.
    #[inline]
    pub fn expect_read(&self, position: u64) {
        self.lines(self.place(position), self.len.min(FETCHED), M::expect_read);
    }

    #[inline]
    fn lines(&self, at: usize, len: usize, fetch: impl Fn(&M, usize)) {
        for line in (at..at + len).step_by(LINE) {
            fetch(&self.memory, line);
        }
    }

    /// Copies the slot of `position` out.
    ///
    /// # Panics
    ///
    /// If `into` is longer than a slot.
    #[inline(always)]
    pub fn read(&self, position: u64, into: &mut [u8]) {
        let at = self.place_in(position, 0, into.len());
        // SAFETY: as in `read_at`.
        unsafe { self.memory.read_typed(at, into) }
    }

    /// Copies bytes at `offset` in the slot of `position` out.
    ///
    /// # Panics
    ///
    /// If they do not all lie in the slot.
    #[inline(always)]
    pub fn read_at(&self, position: u64, offset: usize, into: &mut [u8]) {
        let at = self.place_in(position, offset, into.len());
        // SAFETY: the slot was checked when the view was made, and `place_in` found the bytes to lie in it.
        unsafe { self.memory.read(at, into) }
    }

    /// Copies into the slot of `position`.
    ///
    /// # Panics
    ///
    /// If `from` is longer than a slot.
    #[inline(always)]
    pub fn write(&self, position: u64, from: &[u8]) {
        let at = self.place_in(position, 0, from.len());
        // SAFETY: as in `write_at`.
        unsafe { self.memory.write_typed(at, from) }
    }

    /// Copies into the slot of `position`, at `offset`.
    ///
    /// # Panics
    ///
    /// If the bytes do not all lie in the slot.
    #[inline(always)]
    pub fn write_at(&self, position: u64, offset: usize, from: &[u8]) {
        let at = self.place_in(position, offset, from.len());
        // SAFETY: the slot was checked when the view was made, and `place_in` found the bytes to lie in it.
        unsafe { self.memory.write(at, from) }
    }

    /// The place in the memory of `len` bytes at `offset` in the slot of `position`.
    ///
    /// # Panics
    ///
    /// If they do not all lie in the slot.
    #[inline(always)]
    pub(crate) fn place_in(&self, position: u64, offset: usize, len: usize) -> usize {
        assert!(offset <= self.len && len <= self.len - offset);
        self.place(position) + offset
    }

    /// Copies the run of slots that starts at `position` out; the run goes on at slot 0 behind the last one.
    ///
    /// # Panics
    ///
    /// If the run is longer than all slots together, or this is a [part](Self::part) of the slots.
    #[inline]
    pub fn read_run(&self, position: u64, into: &mut [u8]) {
        let first = self.run_to_seam(position, into.len());
        let (head, tail) = into.split_at_mut(first);
        let at = self.place(position);
        for (at, into) in [(at, head), (self.at, tail)] {
            for (step, into) in into.chunks_mut(CHUNK).enumerate() {
                let at = at + step * CHUNK;
                self.lines(at, into.len(), M::expect_read);
                // SAFETY: `first` bytes are left between the slot and the end of the slots, and the rest is no longer than
                // all slots together.
                unsafe { self.memory.read(at, into) };
            }
        }
    }

    /// Copies into the run of slots that starts at `position`; the run goes on at slot 0 behind the last one.
    ///
    /// # Panics
    ///
    /// If the run is longer than all slots together, or this is a [part](Self::part) of the slots.
    #[inline]
    pub fn write_run(&self, position: u64, from: &[u8]) {
        let first = self.run_to_seam(position, from.len());
        let (head, tail) = from.split_at(first);
        let at = self.place(position);
        for (at, from) in [(at, head), (self.at, tail)] {
            for (step, from) in from.chunks(CHUNK).enumerate() {
                let at = at + step * CHUNK;
                self.lines(at, from.len(), M::expect_write);
                // SAFETY: as in `read_run`.
                unsafe { self.memory.write(at, from) };
            }
        }
    }

    /// Bytes of a run of `len` that lie before the seam.
    #[inline]
    fn run_to_seam(&self, position: u64, len: usize) -> usize {
        assert!(len <= self.count() * self.stride && self.len == self.stride);
        let before = (self.count() - self.index(position)) * self.stride;
        len.min(before)
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        position as usize & self.mask
    }

    #[inline]
    fn place(&self, position: u64) -> usize {
        self.at + self.index(position) * self.stride
    }
}

/// A 64-bit word at the same place in each of a power of two of slots.
#[derive(Clone, Debug)]
pub struct Words<M> {
    memory: M,
    at: usize,
    stride: usize,
    mask: usize,
}

impl<M: Memory> Words<M> {
    /// Fetches the line of the word of the slot of `position` for a write to come. A hint: it changes nothing.
    #[inline]
    pub fn expect_write(&self, position: u64) {
        self.memory.expect_write(self.place(position));
    }

    /// Loads the word of the slot of `position`.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn load(&self, position: u64, order: Ordering) -> u64 {
        // SAFETY: checked when the view was made; the position is masked to a slot.
        unsafe { self.memory.load64(self.place(position), order) }
    }

    /// Stores to the word of the slot of `position`.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn store(&self, position: u64, value: u64, order: Ordering) {
        // SAFETY: as in `load`.
        unsafe { self.memory.store64(self.place(position), value, order) }
    }

    /// Replaces `old` by `new`; on failure gives what was there. A failure orders nothing.
    ///
    /// # Errors
    ///
    /// What was there, if it was not `old`: nothing was stored then.
    #[inline]
    #[cfg_attr(loom, track_caller)]
    pub fn exchange(&self, position: u64, old: u64, new: u64, order: Ordering) -> Result<u64, u64> {
        // SAFETY: as in `load`.
        unsafe {
            self.memory
                .exchange64(self.place(position), old, new, order)
        }
    }

    #[inline]
    fn place(&self, position: u64) -> usize {
        self.at + (position as usize & self.mask) * self.stride
    }
}
