//! What the journal does with the disk: bring records there, give up space, and find out what is left after a power cut.
//!
//! # When the disk fails
//!
//! A failed msync leaves pages that are clean and not on disk: the next one succeeds, and writes nothing. Whoever gets the
//! error fails the journal for all, but may be killed before that. So whoever syncs first says that it is in *doubt* whether
//! what memory holds is on disk, and takes that back when it knows. Who finds a doubt under the lock stores a word of
//! every line in its range again, and so makes all its pages dirty, before it syncs. Nothing but the range of the doubt can
//! be concerned: `durable`, where the next sync begins, only moves behind a sync that has succeeded, and `restart` syncs all
//! there is. The kernel may also have dropped a page that it could not write, and have read it again as it was; so the
//! records in a range of doubt count only if their checksums are right. The [mark](ipc_core::mark) does the same for itself.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;
use std::time::Duration;

use ipc_core::event::{Wait, wait_until};
use ipc_core::mark;
use ipc_core::memory::{LockByte, Memory};
use ipc_core::participant::ParticipantId;

use super::{Log, Step, field};
use crate::journal::PATIENCE;
use crate::journal::error::JournalError;
use crate::journal::record::{Checksum, Geometry, Phase, State, UNIT};

/// How many parts a journal has: at least one must be free for a trim to have any effect.
const PARTS: u64 = 8;

/// What to do about a participant whose claim holds us up: find out whether it has died, and if so, recover it.
pub type Recover<'r> = &'r dyn Fn(ParticipantId);

impl<M: Memory> Log<M> {
    /// Makes sure that the arena holds what is whole, and that this participant's presence vouches for the continuity of the
    /// memory for as long as it is attached. `salt` is a number that nobody knows yet, for a journal that was never used;
    /// `adoptions` counts how often the file was adopted as the successor of another one, of which it may be a torn copy.
    ///
    /// # Errors
    ///
    /// If the marks are damaged, what was to be written could not be, or the kernel locks no byte of the file.
    pub fn attach(&self, me: ParticipantId, salt: u64, adoptions: u64) -> Result<(), JournalError> {
        if !self.persistent {
            return Ok(());
        }
        self.locked(None, || {
            let memory = self.memory();
            if memory.is_locked(self.presence_byte(me.get())) {
                return Ok(());
            }
            if !self.is_continuous() || self.adoptions.load(Relaxed) != adoptions {
                self.restart(salt, adoptions)?;
            }
            // While the lock is held: who comes next finds us present.
            if memory.try_lock(self.presence_byte(me.get())) {
                return Ok(());
            }
            // Our own trouble: the journal is well, and so are the others.
            Err(JournalError::Failed(Some(std::io::Error::other(
                "the kernel refuses to lock a byte of the file",
            ))))
        })
    }

    /// Whether somebody has attached already since the file system was mounted; always, if nothing is to survive.
    pub fn is_of_this_run(&self) -> bool {
        let instance = self.memory().instance();
        // ORDERING: Acquire pairs with the Release in `restart`: the words before it are those of this run.
        let same = instance != 0 && self.instance.load(Acquire) == instance;
        same || !self.persistent
    }

    /// Whether the memory is what was last stored, and not what the disk happened to keep.
    pub(super) fn is_continuous(&self) -> bool {
        let memory = self.memory();
        self.is_of_this_run()
            || (1..=self.rows).any(|row| memory.is_locked(self.presence_byte(row)))
    }

    /// Keeps the whole records from the mark on, and clears everything behind. Under the lock. A kill or another power cut in
    /// the middle of it means that it is done again, with the same outcome.
    fn restart(&self, salt: u64, adoptions: u64) -> Result<(), JournalError> {
        // Whoever wrote it may have been killed before it was on disk.
        self.mark.settle().map_err(|error| self.fail(error))?;
        let mut mark = self.checked_mark()?;
        if mark.sequence == 0 {
            mark = mark.next([0, salt]);
            self.mark.write(mark).map_err(|error| self.fail(error))?;
        }
        let [start, salt] = mark.values;
        self.salt.store(salt, Relaxed);
        let limit = start.wrapping_add(self.geometry.capacity());
        let mut end = self.walk(start, limit, |_, _| false);
        let memory = self.memory();
        let same_boot = memory.boot() != 0 && self.boot.load(Relaxed) == memory.boot();
        if same_boot && self.adoptions.load(Relaxed) == adoptions {
            end = self.end_in_memory(end, limit);
        }
        // Also what is whole behind the first gap: it must not turn up again behind what is appended now.
        self.prepare(end, limit);
        // On disk before anything is appended, for the same reason.
        self.sync_arena(0..self.geometry.capacity())
            .map_err(|error| self.fail(error))?;
        self.tail.store(end, Relaxed);
        self.start.store(start, Relaxed);
        self.prepared.store(start, Relaxed);
        self.durable.store(end, Relaxed);
        self.boot.store(memory.boot(), Relaxed);
        self.adoptions.store(adoptions, Relaxed);
        self.failed.store(0, Relaxed);
        // ORDERING: Release pairs with the Acquire in `is_of_this_run`: who finds this instance finds the words above.
        self.instance.store(memory.instance(), Release);
        Ok(())
    }

    /// Where the records end if the machine has run on since somebody was attached, and only the mount is another one: that of
    /// another mount namespace, say, or the file system was unmounted meanwhile. Then memory is most likely what was last
    /// stored, and what the dead had claimed becomes skipped places, as it does where they are found by those who live. `end`
    /// is where the whole records end.
    ///
    /// But where a file system has given itself up and is mounted anew, memory is what the disk happened to keep, as after a
    /// power cut. The places say which it is: in continuous memory all that are claimed are there, and whatever lies behind
    /// the last one is free.
    fn end_in_memory(&self, end: u64, limit: u64) -> u64 {
        let last = self.walk(end, limit, |_, _| true);
        // Where a trim was cut short, no more than this was made free.
        let prepared = self.prepared.load(Relaxed);
        let free = limit.min(prepared.wrapping_add(self.geometry.capacity()));
        let mut rest = (last..free).step_by(UNIT as usize);
        let free = rest.all(|at| self.words.load(at / UNIT, Relaxed) == self.geometry.free(at).0);
        if !free || self.tail.load(Relaxed) > last {
            return end;
        }
        self.walk(end, limit, |position, claimed| {
            self.skip(position, claimed);
            true
        })
    }

    /// Where a walk over whole records from `position` on ends. `claim` is asked whether to walk over the places that are
    /// still in somebody's hands.
    fn walk(&self, position: u64, limit: u64, claim: impl Fn(u64, State) -> bool) -> u64 {
        let checksum = self.checksum();
        let mut position = position;
        while position < limit {
            if let Some(end) = self.whole_record(checksum, position, limit) {
                position = end;
                continue;
            }
            let state = State(self.words.load(position / UNIT, Acquire));
            let claimed = state.phase() == Phase::Writing
                && state.owner().is_some()
                && self.geometry.laps_ahead(state, position) == 0;
            let extent = self.geometry.checked_extent(state, position);
            match extent.filter(|_| claimed) {
                Some(extent) if extent <= limit - position && claim(position, state) => {
                    position += extent;
                }
                _ => break,
            }
        }
        position
    }

    fn checked_mark(&self) -> Result<mark::Record, JournalError> {
        let possible = |mark: &mark::Record| {
            let [start, _] = mark.values;
            start % UNIT == 0 && start < 1 << 62
        };
        self.mark
            .read()
            .filter(possible)
            .ok_or(JournalError::Damaged)
    }

    /// Where the record at `position` ends, if there is a whole one before `limit`.
    fn whole_record(&self, checksum: Checksum, position: u64, limit: u64) -> Option<u64> {
        let unit = position / UNIT;
        let state = State(self.words.load(unit, Acquire));
        if position >= limit || self.geometry.laps_ahead(state, position) != 0 {
            return None;
        }
        let extent = self.geometry.checked_extent(state, position)?;
        let header = self.checks.load(unit, Relaxed);
        let len = header as u32;
        let end = position.checked_add(extent).filter(|end| *end <= limit)?;
        let fits = match state.phase() {
            Phase::Full => Geometry::extent(len.into()) == extent,
            Phase::Skip => len == 0,
            Phase::Free | Phase::Writing => false,
        };
        if !fits || state != state.into_phase(state.phase()) {
            return None;
        }
        let mut crc = checksum.begin(position, state, len);
        let mut piece = [0; UNIT as usize];
        for (at, offset, part) in Geometry::pieces(len as usize) {
            let piece = &mut piece[..part.len()];
            self.units.read_at(unit.wrapping_add(at), offset, piece);
            crc.update(piece);
        }
        (u64::from(crc.finalize()) == header >> 32).then_some(end)
    }

    /// Makes every unit between two positions free for its lap.
    fn prepare(&self, from: u64, to: u64) {
        let mut position = from;
        while position < to {
            let free = self.geometry.free(position).0;
            // Pages that need no change stay clean.
            if self.words.load(position / UNIT, Relaxed) != free {
                self.words.store(position / UNIT, free, Relaxed);
            }
            position += UNIT;
        }
    }

    /// Returns when everything before `up_to` is on disk: one sync for all who wait at a time. Waits for appenders of what
    /// lies before, for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`JournalError::Beyond`] if nobody appends there, [`JournalError::Failed`] if the disk has failed, now or earlier,
    /// [`JournalError::TimedOut`] if an appender took longer than
    /// `patience`.
    pub fn sync(
        &self,
        up_to: u64,
        patience: Duration,
        recover: Recover<'_>,
    ) -> Result<(), JournalError> {
        let memory = self.memory();
        let deadline = memory.now().saturating_add(patience);
        let holder = Cell::new(None);
        // ORDERING: Acquire pairs with the Release in `sync_locked`.
        let covered = || self.durable.load(Acquire) >= up_to;
        let whole = || {
            self.intact()?;
            if covered() {
                return Ok(Some(()));
            }
            holder.set(None);
            let from = self.durable.load(Acquire);
            let (end, held) = match self.whole_until(from, up_to) {
                // Synced and trimmed while we walked.
                Err(_) if self.durable.load(Acquire) != from => return Ok(None),
                other => other?,
            };
            holder.set(held);
            match held {
                None if end < up_to => Err(JournalError::Beyond { end }),
                None => Ok(Some(())),
                Some(_) => Ok(None),
            }
        };
        let ask = || {
            holder.get().into_iter().for_each(recover);
            Ok(())
        };
        let waited = wait_until(&self.appended, Wait::default(), Some(deadline), whole, ask)?;
        waited.got.ok_or(JournalError::TimedOut)?;
        self.locked(Some((up_to, deadline)), || self.sync_locked())
    }

    /// Brings everything that is whole to disk. Under the lock.
    fn sync_locked(&self) -> Result<(), JournalError> {
        let from = self.durable.load(Acquire);
        let (end, _) = self.whole_until(from, u64::MAX)?;
        if self.doubt.load(Relaxed) != 0 && self.walk(from, end, |_, _| false) != end {
            return Err(self.fail(std::io::Error::other(
                "what could not be written earlier is no longer in memory",
            )));
        }
        self.sync_arena(from..end)
            .map_err(|error| self.fail(error))?;
        self.syncs.add(1, Relaxed);
        self.raise(end);
        // ORDERING: Release pairs with the Acquire in `sync`: it is on disk.
        self.durable.store(end, Release);
        Ok(())
    }

    /// Brings positions to disk, which are no more than the arena has. Under the lock; nobody else may change what lies there.
    fn sync_arena(&self, positions: Range<u64>) -> std::io::Result<()> {
        if self.doubt.load(Relaxed) != 0 {
            for position in positions.clone().step_by(UNIT as usize) {
                let word = self.words.load(position / UNIT, Relaxed);
                self.words.store(position / UNIT, word, Relaxed);
            }
        }
        self.doubt.store(1, Relaxed);
        let len = positions.end.wrapping_sub(positions.start);
        let head = len.min(self.geometry.before_seam(positions.start));
        let at = self.geometry.index(positions.start) as usize;
        self.area.sync(field::ARENA + at, head as usize)?;
        if len > head {
            self.area.sync(field::ARENA, (len - head) as usize)?;
        }
        self.doubt.store(0, Relaxed);
        Ok(())
    }

    pub(super) fn fail(&self, error: std::io::Error) -> JournalError {
        self.failed.store(1, Release);
        JournalError::Failed(Some(error))
    }

    pub(super) fn intact(&self) -> Result<(), JournalError> {
        if self.failed.load(Acquire) == 0 {
            Ok(())
        } else {
            Err(JournalError::Failed(None))
        }
    }

    /// Gives up the records before `up_to`, which are brought to disk first, so that their space is used again. Happens by
    /// whole parts, an eighth of the journal each: does nothing before a part can be freed. Gives where the journal begins
    /// now.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn trim(
        &self,
        up_to: u64,
        patience: Duration,
        recover: Recover<'_>,
    ) -> Result<u64, JournalError> {
        self.sync(up_to, patience, recover)?;
        let deadline = self.memory().now().saturating_add(patience);
        self.locked(Some((u64::MAX, deadline)), || self.trim_locked(up_to))?;
        Ok(self.start())
    }

    fn trim_locked(&self, up_to: u64) -> Result<(), JournalError> {
        // Whoever was killed in the middle of this has left a mark that may not be on disk, and places that are not free yet.
        self.mark.settle().map_err(|error| self.fail(error))?;
        let mark = self.checked_mark()?;
        let [begin, salt] = mark.values;
        self.free_up_to(begin);
        let mut start = begin;
        for _ in 0..self.patience() {
            match self.step(start) {
                Step::Taken(_, next) if next <= up_to => start = next,
                _ => break,
            }
        }
        if start.wrapping_sub(begin) < self.geometry.capacity() / PARTS {
            return Ok(());
        }
        let record = mark.next([start, salt]);
        // On disk before the space is used again: after a power cut, records are looked for from there.
        self.mark.write(record).map_err(|error| self.fail(error))?;
        self.free_up_to(start);
        Ok(())
    }

    fn free_up_to(&self, start: u64) {
        let prepared = self.prepared.load(Acquire);
        let len = start.wrapping_sub(prepared);
        if len == 0 || len > self.geometry.capacity() {
            return;
        }
        // ORDERING: the fence pairs with that in `Cursor::read`: who has read a word or byte that is stored below sees this.
        self.start.store(start, Relaxed);
        fence(Release);
        let ahead = self.geometry.capacity();
        self.prepare(prepared.wrapping_add(ahead), start.wrapping_add(ahead));
        // ORDERING: Release pairs with the Acquire in `claim`: the places are free.
        self.prepared.store(start, Release);
    }

    /// Runs `work` under the lock, waiting for it; not at all if everything before the given position is durable meanwhile.
    fn locked(
        &self,
        covered: Option<(u64, Duration)>,
        work: impl FnOnce() -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let memory = self.memory();
        let lock = LockByte::Object(self.lock);
        let is_covered = || covered.is_some_and(|(up_to, _)| self.durable.load(Acquire) >= up_to);
        let attempt = || -> Result<Option<bool>, JournalError> {
            if covered.is_some() {
                self.intact()?;
            }
            if is_covered() {
                return Ok(Some(false));
            }
            Ok(memory.try_lock(lock).then_some(true))
        };
        let deadline = covered.map_or_else(
            || memory.now().saturating_add(PATIENCE),
            |(_, deadline)| deadline,
        );
        let waited = wait_until(
            &self.synced,
            Wait::Block,
            Some(deadline),
            attempt,
            || Ok(()),
        )?;
        if !waited.got.ok_or(JournalError::TimedOut)? {
            return Ok(());
        }
        // Somebody may have been at it between the look and the lock.
        let done = if is_covered() {
            Ok(())
        } else {
            covered
                .map_or(Ok(()), |_| self.intact())
                .and_then(|()| work())
        };
        memory.unlock(lock);
        self.synced.notify(u32::MAX);
        done
    }

    fn presence_byte(&self, row: u16) -> LockByte {
        LockByte::Object(self.lock + u64::from(row))
    }
}
