//! What every open segment is made of, whether it is written to or only looked at.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::memory::{Area, Memory};
use crate::participant::{Arrivals, Participants, ROW};
use crate::segment::header::field;
use crate::segment::state::State;
use crate::segment::{Entry, Header, SegmentError};

/// Checked memory, and what is known of it.
#[derive(Debug)]
pub(super) struct Whole<M> {
    pub(super) memory: M,
    pub(super) parts: Parts,
    pub(super) participants: Participants<M>,
    pub(super) arrivals: Arrivals<M>,
    pub(super) state: State<M>,
}

impl<M: Memory> Whole<M> {
    pub(super) fn new(memory: M, parts: Parts) -> Result<Self, SegmentError> {
        let damaged = |_| SegmentError::damaged("its participant table lies outside the segment");
        let at = parts.header.participants_offset as usize;
        let len = parts.header.participants as usize * ROW;
        let table = Area::new(memory.clone(), at, len).map_err(damaged)?;
        let arrivals =
            Area::new(memory.clone(), field::ARRIVALS, 4).and_then(|area| area.word32(0));
        Ok(Self {
            arrivals: Arrivals::new(arrivals.map_err(damaged)?),
            participants: Participants::new(table).map_err(damaged)?,
            state: State::new(&memory).map_err(damaged)?,
            memory,
            parts,
        })
    }

    /// The object of that name: what the directory says of it, and its memory.
    pub(super) fn object(&self, name: &str) -> Result<(Entry, Area<M>), SegmentError> {
        let entries = &self.parts.entries;
        let entry = entries.iter().find(|entry| entry.name == name);
        let Some(entry) = entry else {
            return Err(SegmentError::NoObject {
                name: name.to_owned(),
                names: entries.iter().map(|entry| entry.name.clone()).collect(),
            });
        };
        Ok((entry.clone(), self.area(entry)?))
    }

    /// The memory of an object.
    pub(super) fn area(&self, entry: &Entry) -> Result<Area<M>, SegmentError> {
        let (at, len) = (entry.offset as usize, entry.len as usize);
        Area::new(self.memory.clone(), at, len)
            .map_err(|_| SegmentError::damaged("an object lies outside the segment"))
    }
}

/// What is known of an open segment beside its memory.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Of the memory, or, where that has no descriptor, of the file of lock bytes.
    pub(crate) file: OwnedFd,
    pub(crate) path: Option<PathBuf>,
    pub(crate) header: Header,
    pub(crate) entries: Vec<Entry>,
    /// What the user should know, and could do without.
    pub(crate) warnings: Vec<String>,
}
