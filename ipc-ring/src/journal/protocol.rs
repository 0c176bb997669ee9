//! The journal in its area of shared memory, whatever that is: the protocol of [`journal`](crate::journal), step by step.

pub mod chain;
mod disk;

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use ipc_core::event::{Event, Waiters};
use ipc_core::mark::Mark;
use ipc_core::memory::{Area, Memory, OutOfArea, Slots, Word32, Word64, Words};
use ipc_core::participant::ParticipantId;

use super::error::JournalError;
use super::record::{Checksum, Geometry, Phase, State, UNIT};
pub use disk::Recover;

/// Offsets in the object, drawn in `docs/layout.md`.
mod field {
    /// Written by appenders.
    pub(super) const TAIL: usize = 0;
    pub(super) const APPENDED: usize = 128;
    /// Read with every append and read, written when the journal is trimmed or synced.
    pub(super) const START: usize = 256;
    pub(super) const PREPARED: usize = 264;
    pub(super) const DURABLE: usize = 272;
    pub(super) const INSTANCE: usize = 280;
    pub(super) const SYNCS: usize = 288;
    pub(super) const FAILED: usize = 296;
    pub(super) const SYNCED: usize = 300;
    pub(super) const SALT: usize = 304;
    pub(super) const BOOT: usize = 312;
    pub(super) const ADOPTIONS: usize = 320;
    pub(super) const DOUBT: usize = 328;
    pub(super) const MARK: usize = 384;
    pub(super) const ARENA: usize = 1024;
}

/// The journal in its area of shared memory, whatever that is.
#[derive(Clone, Debug)]
pub struct Log<M> {
    area: Area<M>,
    tail: Word64<M>,
    start: Word64<M>,
    prepared: Word64<M>,
    durable: Word64<M>,
    instance: Word64<M>,
    boot: Word64<M>,
    adoptions: Word64<M>,
    syncs: Word64<M>,
    /// That of the mark.
    salt: Word64<M>,
    doubt: Word32<M>,
    failed: Word32<M>,
    appended: Event<M>,
    synced: Event<M>,
    mark: Mark<M>,
    /// The first word of every unit, and the second one, which is a header in the first unit of a record.
    words: Words<M>,
    checks: Words<M>,
    units: Slots<M>,
    geometry: Geometry,
    rows: u16,
    /// The number of the object among the lock bytes.
    lock: u64,
    persistent: bool,
}

/// A place that is ours and not yet a record.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    position: u64,
    state: State,
}

/// What a place holds for those who walk over it.
enum Step {
    /// A record, a skipped place, or one in somebody's hands; the next one is at this position.
    Taken(State, u64),
    /// Nothing yet.
    Free,
    /// What was there a lap before and is not free yet: the journal is full up to here.
    Limit,
    /// It was trimmed meanwhile, or is rubbish.
    Gone,
}

impl<M: Memory> Log<M> {
    /// The journal in `area`. `rows` is how many participants the segment has, `lock` the first of the numbers among the lock
    /// bytes: one for the lock, then one for the presence of every participant. `persistent` if it is to survive a
    /// power cut.
    ///
    /// # Errors
    ///
    /// If the capacity cannot be, or the area is too short for it.
    pub fn new(
        area: &Area<M>,
        capacity: u64,
        rows: u16,
        lock: u64,
        persistent: bool,
    ) -> Result<Self, OutOfArea> {
        let misfit = OutOfArea {
            at: field::ARENA,
            len: capacity as usize,
            align: UNIT as usize,
            area: area.len(),
        };
        let geometry = Geometry::new(capacity).ok_or(misfit)?;
        let count = usize::try_from(capacity / UNIT).map_err(|_| misfit)?;
        let units = area.slots(field::ARENA, UNIT as usize, count)?;
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            start: area.word64(field::START)?,
            prepared: area.word64(field::PREPARED)?,
            durable: area.word64(field::DURABLE)?,
            instance: area.word64(field::INSTANCE)?,
            syncs: area.word64(field::SYNCS)?,
            salt: area.word64(field::SALT)?,
            boot: area.word64(field::BOOT)?,
            adoptions: area.word64(field::ADOPTIONS)?,
            doubt: area.word32(field::DOUBT)?,
            failed: area.word32(field::FAILED)?,
            appended: Event::new(area, field::APPENDED, Waiters::Many)?,
            synced: Event::new(area, field::SYNCED, Waiters::Many)?,
            mark: Mark::new(area, field::MARK)?,
            words: units.words(0)?,
            checks: units.words(8)?,
            units,
            area: area.clone(),
            geometry,
            rows,
            lock,
            persistent,
        })
    }

    /// Bytes that a journal takes, with a number among the lock bytes for every participant.
    pub fn size(capacity: u64, rows: u16) -> Option<usize> {
        let bytes = capacity.checked_add(field::ARENA as u64)?;
        usize::try_from(bytes.max((u64::from(rows) + 1) * 64)).ok()
    }

    /// Appends a record; gives where it lies. See [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    #[inline]
    pub fn append(&self, me: ParticipantId, payload: &[u8]) -> Result<Range<u64>, JournalError> {
        let place = self.begin(me, payload.len())?;
        Ok(self.finish(place, payload))
    }

    /// Claims the place of a record with a payload of `len` bytes, which [`finish`](Self::finish) makes a record.
    ///
    /// # Errors
    ///
    /// [`JournalError::TooLong`], [`JournalError::Full`], [`JournalError::Failed`] once a sync has failed, [`JournalError::Corrupt`].
    pub fn begin(&self, me: ParticipantId, len: usize) -> Result<Place, JournalError> {
        let max = self.geometry.max_len();
        if len as u64 > max {
            let max = max as usize;
            return Err(JournalError::TooLong { len, max });
        }
        if self.failed.load(Acquire) != 0 {
            return Err(JournalError::Failed(None));
        }
        let extent = Geometry::extent(len as u64);
        loop {
            let place = self.claim(me, extent)?;
            if place.state.extent() == extent {
                return Ok(place);
            }
            // The rest before the seam is too short for the record.
            self.skip(place.position, place.state);
        }
    }

    /// Claims a place of that extent, or of what is left before the seam if that is less.
    fn claim(&self, me: ParticipantId, extent: u64) -> Result<Place, JournalError> {
        // ORDERING: Acquire pairs with the Release in `raise`: the places before are claimed, and we see them so.
        let mut position = self.tail.load(Acquire);
        for _ in 0..self.patience() {
            match self.step(position) {
                Step::Taken(_, next) => position = next,
                Step::Limit => return Err(JournalError::Full),
                Step::Free => {
                    let extent = extent.min(self.geometry.before_seam(position));
                    if self.room(position) < extent as i64 {
                        return Err(JournalError::Full);
                    }
                    let free = self.geometry.free(position);
                    let state = self.geometry.writing(position, extent, me);
                    // Fails if the place is no longer free for this lap, however long ago we have looked: no payload lies there.
                    // ORDERING: Acquire: the trimmer's stores before it made the place free. Release: walkers that see it
                    // see the claims before it.
                    let word = position / UNIT;
                    if self.words.exchange(word, free.0, state.0, AcqRel).is_ok() {
                        self.raise(position.wrapping_add(extent));
                        return Ok(Place { position, state });
                    }
                }
                Step::Gone => {
                    let tail = self.tail.load(Acquire);
                    if tail <= position {
                        return Err(JournalError::Corrupt(position));
                    }
                    position = tail;
                }
            }
        }
        Err(JournalError::Corrupt(position))
    }

    /// Raises the tail, which never goes back: whoever walks from it walks over the places of the present laps.
    fn raise(&self, to: u64) {
        let mut tail = self.tail.load(Relaxed);
        while tail < to {
            // ORDERING: Release pairs with the Acquire in `claim`.
            match self.tail.exchange(tail, to, Release) {
                Ok(_) => return,
                Err(found) => tail = found,
            }
        }
    }

    /// Writes the record into its place and publishes it.
    ///
    /// # Panics
    ///
    /// If the payload takes fewer or more units than the place that was claimed for it.
    #[inline]
    pub fn finish(&self, place: Place, payload: &[u8]) -> Range<u64> {
        let Place { position, state } = place;
        let extent = state.extent();
        assert_eq!(Geometry::extent(payload.len() as u64), extent);
        let unit = position / UNIT;
        let full = state.into_phase(Phase::Full);
        let header = self.checksum().header(position, full, payload);
        self.checks.store(unit, header, Relaxed);
        for (at, offset, part) in Geometry::pieces(payload.len()) {
            let unit = unit.wrapping_add(at);
            self.units.write_at(unit, offset, &payload[part]);
        }
        // ORDERING: Release pairs with the Acquire in `step`: the record is whole for whoever sees the word.
        self.words.store(unit, full.0, Release);
        self.appended.notify(u32::MAX);
        position..position.wrapping_add(extent)
    }

    fn checksum(&self) -> Checksum {
        Checksum {
            salt: self.salt.load(Relaxed),
        }
    }

    /// Makes a claimed place one that is walked over.
    fn skip(&self, position: u64, claimed: State) {
        let unit = position / UNIT;
        let skip = claimed.into_phase(Phase::Skip);
        self.checks
            .store(unit, self.checksum().header(position, skip, &[]), Relaxed);
        // ORDERING: Release, as in `finish`. It cannot fail: nobody else may change a word that names the claimer.
        let _ = self.words.exchange(unit, claimed.0, skip.0, AcqRel);
        self.appended.notify(u32::MAX);
    }

    /// Resolves the claim of a participant that is proven dead: its place is skipped. Idempotent, and every step may be the
    /// last one. One caller at a time for each participant.
    pub fn recover(&self, dead: ParticipantId) {
        // What a power cut left is no claim of anybody: `restart` cuts it off. Skipping it would make what lies behind
        // it visible.
        if !self.is_continuous() {
            return;
        }
        let mut position = self.durable.load(Acquire);
        for _ in 0..self.patience() {
            match self.step(position) {
                Step::Taken(state, next) => {
                    if state.phase() == Phase::Writing && state.owner() == Some(dead) {
                        self.skip(position, state);
                    }
                    position = next;
                }
                Step::Free | Step::Limit => return,
                Step::Gone => {
                    let durable = self.durable.load(Acquire);
                    if durable <= position {
                        return;
                    }
                    position = durable;
                }
            }
        }
    }

    /// Bytes from a position to where places are not free yet for their lap: none or fewer if that lies behind it, more than
    /// the capacity if the position was trimmed.
    fn room(&self, position: u64) -> i64 {
        // ORDERING: Acquire pairs with the Release in `free_up_to`: the places before the limit are free for their lap.
        let prepared = self.prepared.load(Acquire);
        prepared
            .wrapping_add(self.geometry.capacity())
            .wrapping_sub(position) as i64
    }

    fn step(&self, position: u64) -> Step {
        // Before the word: a place is made free before the room is told.
        let room = self.room(position);
        // ORDERING: Acquire pairs with the Release in `finish` and of the claims.
        let state = State(self.words.load(position / UNIT, Acquire));
        match self.geometry.laps_ahead(state, position) {
            0 => {}
            ..0 if room <= 0 => return Step::Limit,
            _ => return Step::Gone,
        }
        if state.phase() == Phase::Free {
            return if state == self.geometry.free(position) {
                Step::Free
            } else {
                Step::Gone
            };
        }
        match self.geometry.checked_extent(state, position) {
            Some(extent) => Step::Taken(state, position.wrapping_add(extent)),
            None => Step::Gone,
        }
    }

    /// The first place from `from` on that is before `to` and not whole: its position, and who writes there.
    fn whole_until(
        &self,
        from: u64,
        to: u64,
    ) -> Result<(u64, Option<ParticipantId>), JournalError> {
        let mut position = from;
        for _ in 0..self.patience() {
            if position >= to {
                return Ok((position, None));
            }
            match self.step(position) {
                Step::Taken(state, next) => match (state.phase(), state.owner()) {
                    (Phase::Writing, Some(owner)) => return Ok((position, Some(owner))),
                    (Phase::Writing, None) => return Err(JournalError::Corrupt(position)),
                    _ => position = next,
                },
                Step::Free | Step::Limit => return Ok((position, None)),
                Step::Gone => return Err(JournalError::Corrupt(position)),
            }
        }
        Err(JournalError::Corrupt(position))
    }

    /// Everything before is on disk.
    pub fn durable(&self) -> u64 {
        self.durable.load(Acquire)
    }

    /// The oldest position that can be read.
    pub fn start(&self) -> u64 {
        self.start.load(Acquire)
    }

    /// Where the next record will begin, roughly, while others append.
    pub fn end(&self) -> u64 {
        let mut position = self.tail.load(Acquire);
        for _ in 0..self.patience() {
            match self.step(position) {
                Step::Taken(_, next) => position = next,
                Step::Free | Step::Limit | Step::Gone => break,
            }
        }
        position
    }

    /// How often something was written to disk.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }

    /// How many bytes the records can take, headers included.
    pub fn capacity(&self) -> u64 {
        self.geometry.capacity()
    }

    /// The event of those who wait for records, or for records that are on disk.
    pub(super) fn news(&self, durable_only: bool) -> &Event<M> {
        if durable_only {
            &self.synced
        } else {
            &self.appended
        }
    }

    /// Copies the next record at or behind `position` out, by loads alone, and gives where it lies; nothing if there is none.
    ///
    /// # Errors
    ///
    /// [`JournalError::Trimmed`] if it lies before the start, [`JournalError::Pending`] if the next one is being written,
    /// [`JournalError::Corrupt`].
    pub fn read(
        &self,
        position: u64,
        into: &mut Vec<u8>,
    ) -> Result<Option<Range<u64>>, JournalError> {
        let mut position = position;
        for _ in 0..self.patience() {
            let start = self.start();
            if position < start {
                return Err(JournalError::Trimmed { start });
            }
            let (state, next) = match self.step(position) {
                Step::Taken(state, next) => (state, next),
                Step::Free if self.is_inside(position) => {
                    return Err(JournalError::Corrupt(position));
                }
                Step::Free | Step::Limit => return Ok(None),
                Step::Gone => return Err(self.gone(position)),
            };
            match (state.phase(), state.owner()) {
                (Phase::Skip, _) => position = next,
                (Phase::Full, _) => {
                    return if self.copy(position, state, into) {
                        Ok(Some(position..next))
                    } else {
                        Err(self.gone(position))
                    };
                }
                (_, Some(owner)) => return Err(JournalError::Pending(owner)),
                (_, None) => return Err(JournalError::Corrupt(position)),
            }
        }
        Err(JournalError::Corrupt(position))
    }

    /// Whether a free word at a position is that of a unit inside of a record.
    fn is_inside(&self, position: u64) -> bool {
        // ORDERING: Acquire pairs with the Release in `raise`: of a place before the tail we see the claim.
        position < self.tail.load(Acquire) && matches!(self.step(position), Step::Free)
    }

    /// Whether the record was whole when it had been copied.
    fn copy(&self, position: u64, state: State, into: &mut Vec<u8>) -> bool {
        let unit = position / UNIT;
        let header = self.checks.load(unit, Relaxed);
        let len = header as u32;
        if Geometry::extent(len.into()) != state.extent() {
            return false;
        }
        into.resize(len as usize, 0);
        for (at, offset, part) in Geometry::pieces(into.len()) {
            let unit = unit.wrapping_add(at);
            self.units.read_at(unit, offset, &mut into[part]);
        }
        self.checksum().header(position, state, into) == header
    }

    /// Why there is no whole record at a position.
    #[cold]
    fn gone(&self, position: u64) -> JournalError {
        // ORDERING: pairs with the fence in `free_up_to`: if what we have read was stored by a trimmer, we see its start.
        fence(Acquire);
        let start = self.start();
        if position < start {
            JournalError::Trimmed { start }
        } else {
            JournalError::Corrupt(position)
        }
    }

    fn memory(&self) -> &M {
        self.area.memory()
    }

    /// Steps after which a walk gives up: a peer that writes rubbish must not keep us for ever.
    fn patience(&self) -> u64 {
        4 * (self.geometry.capacity() / UNIT) + 1024
    }
}
