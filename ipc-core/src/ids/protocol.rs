//! Drawing ids, generic over the seam.
//!
//! # Protocol
//!
//! ```text
//! next     ids below are drawn; one fetch-add draws
//! limit    ids below may be given out; raised only after the mark of that value is on disk
//! mark     two slots in the file (see [`mark`]): no id at or above its first value was ever given out; the second one
//!          counts the adoptions
//! lease    per participant row: next, end, and how many blocks its holders lost
//!
//! strict   n := next, next += 1;  wait until n < limit;  give n
//! leased   n < end of the own lease? next of the lease := n + 1;  give n
//!          else  n := next, next += BLOCK;  wait until n + BLOCK <= limit;  lease := n .. n + BLOCK
//! extend   under the lock: mark := max(mark, next) + step, synced;  then limit := mark
//! ```
//!
//! An id is recorded as given before it is: whoever is killed in between has taken one id with it. An id drawn at or
//! above the limit is not given before the limit has passed it, so after a power cut, drawing goes on at the mark, above
//! everything that was given.
//!
//! # Continuity
//!
//! After a power cut, `next` and the leases in the file are whatever the kernel happened to write back. So whoever
//! attaches first asks whether the memory has been continuous: either somebody attached holds his *presence byte*, or the
//! stored *instance* (of the boot and of the mount) is the present one, in which case what is in the page cache is what
//! was last stored, however those who stored it ended. Otherwise drawing resumes at the mark: leases are cleared,
//! `next := limit := mark`, and the instance is stored last. All of this happens under the lock, and nothing of it needs to be
//! on disk: another cut means another instance, and the same again.
//!
//! # When a participant dies
//!
//! Its lease stays in its row, and belongs to the next holder of the row, or to whoever runs out and finds the row free:
//! it first clears the range in the row and then puts it into its own, so that a kill in between loses ids and never
//! doubles them. A block drawn but not yet recorded is lost and counted. The lock is the kernel's.
//!
//! # Orderings
//!
//! `limit` is stored Release after the sync and loaded Acquire. `next` is only ever modified by fetch-add, or under the
//! lock before anybody is present. Lease words have one writer: the live holder of the row, or who holds its life byte.

mod lease;

pub use lease::Lease;

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::event::{Event, Wait, Waiters, wait_until};
use crate::mark::{self, Mark};
use crate::memory::{Area, LockByte, Memory, OutOfArea, Word32, Word64};
use crate::participant::ParticipantId;

/// Ids of one lease block: so many that the draw of one, some 160 ns where several processes contend for it, is lost in
/// what its ids cost.
pub const BLOCK: u64 = 4096;

/// Ids that the mark runs ahead at first; more while it is reached within a second.
pub const FIRST_STEP: u64 = 1 << 20;
const LAST_STEP: u64 = 1 << 32;

/// How many times longer a step is than the one before, at most.
const MOST_AT_ONCE: u64 = 16;

const SECOND: u64 = 1_000_000_000;

/// Ids of one epoch. An adopted copy draws from the next one.
pub const EPOCH: u64 = 1 << 48;

/// The most ids that are drawn in a row.
pub const MOST: u64 = 1 << 32;

/// Nothing is drawn from here on: so far from the end that the counter never comes around.
const LAST: u64 = 1 << 63;

mod field {
    pub(super) const NEXT: usize = 0;
    /// Read with every draw, written with every extension.
    pub(super) const LIMIT: usize = 128;
    pub(super) const INSTANCE: usize = 136;
    pub(super) const STEP: usize = 144;
    pub(super) const EXTENDED_AT: usize = 152;
    pub(super) const EXTENSIONS: usize = 160;
    pub(super) const CHANGED: usize = 168;
    pub(super) const FAILED: usize = 176;
    pub(super) const EXTENDED: usize = 180;
    pub(super) const MARK: usize = 256;
    pub(super) const LEASES: usize = 512;
}

/// Bytes of a lease row.
const LEASE: usize = 128;

/// In the third word of a lease row: a block is being drawn, and how many were lost.
const DRAWING: u64 = 1;
const ONE_LOST: u64 = 2;

/// How long to wait for somebody else to write the mark.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why no id was given.
#[derive(Debug)]
pub enum Refusal {
    /// The mark could not be written to disk, now or earlier.
    Failed(Option<io::Error>),
    /// Both slots of the mark are damaged.
    Damaged,
    /// The epoch has no more ids, or never had so many.
    Exhausted,
    /// Not extended by the deadline.
    TimedOut,
    /// The calling process is a forked child of the one that has the lease.
    Forked,
}

/// The counter in its area.
#[derive(Clone, Debug)]
pub struct Counter<M> {
    area: Area<M>,
    next: Word64<M>,
    limit: Word64<M>,
    instance: Word64<M>,
    step: Word64<M>,
    extended_at: Word64<M>,
    extensions: Word64<M>,
    changed: Word64<M>,
    failed: Word32<M>,
    extended: Event<M>,
    mark: Mark<M>,
    leases: Vec<Row<M>>,
    /// The number of the object among the lock bytes.
    lock: u64,
    durable: bool,
}

/// A lease row: `next` and `end` bound the ids that are leased and not given; `lost` is `blocks << 1 | drawing`.
#[derive(Clone, Debug)]
struct Row<M> {
    next: Word64<M>,
    end: Word64<M>,
    lost: Word64<M>,
}

impl<M: Memory> Counter<M> {
    /// The counter in `area` with a lease row for each of `rows` participants. `lock` is the first of its numbers among the
    /// lock bytes: one for the lock, then one each for the presence and the lease of every row.
    ///
    /// # Errors
    ///
    /// If the area is too short for so many rows.
    pub fn new(area: &Area<M>, rows: u16, lock: u64, durable: bool) -> Result<Self, OutOfArea> {
        let row = |index: usize| {
            let at = field::LEASES + index * LEASE;
            Ok(Row {
                next: area.word64(at)?,
                end: area.word64(at + 8)?,
                lost: area.word64(at + 16)?,
            })
        };
        Ok(Self {
            next: area.word64(field::NEXT)?,
            limit: area.word64(field::LIMIT)?,
            instance: area.word64(field::INSTANCE)?,
            step: area.word64(field::STEP)?,
            extended_at: area.word64(field::EXTENDED_AT)?,
            extensions: area.word64(field::EXTENSIONS)?,
            changed: area.word64(field::CHANGED)?,
            failed: area.word32(field::FAILED)?,
            extended: Event::new(area, field::EXTENDED, Waiters::Many)?,
            mark: Mark::new(area, field::MARK)?,
            leases: (0..rows.into()).map(row).collect::<Result<_, _>>()?,
            area: area.clone(),
            lock,
            durable,
        })
    }

    /// Bytes that a counter with so many lease rows takes.
    pub fn size(rows: u16) -> usize {
        field::LEASES + usize::from(rows) * LEASE
    }

    fn memory(&self) -> &M {
        self.area.memory()
    }

    fn lock_byte(&self) -> LockByte {
        LockByte::Object(self.lock)
    }

    fn presence_byte(&self, row: u16) -> LockByte {
        LockByte::Object(self.lock + u64::from(row))
    }

    /// Makes sure that drawing goes on above everything that was given, and that this participant's presence vouches for
    /// the continuity of the memory for as long as it is attached. `adoptions` counts how often the file was adopted as the
    /// successor of another one: each time a new epoch begins.
    ///
    /// # Errors
    ///
    /// [`Refusal::Damaged`] if no slot of the mark is whole, [`Refusal::Failed`] if the mark could not be written or
    /// the kernel locks no byte of the file, [`Refusal::Exhausted`] if the last epoch has begun.
    pub fn attach(&self, me: ParticipantId, adoptions: u64) -> Result<(), Refusal> {
        if !self.durable {
            return Ok(());
        }
        self.locked(None, |counter| counter.resume(me, adoptions))
    }

    /// Whether somebody has attached already since the file system was mounted; always, if nothing is to survive.
    pub fn is_of_this_run(&self) -> bool {
        let instance = self.memory().instance();
        // ORDERING: Acquire pairs with the Release in `restart`: the words before it are those of this run.
        !self.durable || (instance != 0 && self.instance.load(Acquire) == instance)
    }

    /// What [`attach`](Self::attach) does under the lock.
    fn resume(&self, me: ParticipantId, adoptions: u64) -> Result<(), Refusal> {
        let memory = self.memory();
        if memory.is_locked(self.presence_byte(me.get())) {
            return Ok(());
        }
        let mut record = self.checked_mark()?;
        let instance = memory.instance();
        let present =
            || (1..=self.leases.len() as u16).any(|row| memory.is_locked(self.presence_byte(row)));
        let [value, adopted] = record.values;
        if adopted < adoptions {
            // Somebody else may draw from the original: an epoch of our own, on disk before the first id of it.
            let epoch = (value / EPOCH).saturating_add(adoptions - adopted);
            let value = epoch.checked_mul(EPOCH).ok_or(Refusal::Exhausted)?;
            record = record.next([value, adoptions]);
            // The copy brought the original's instance along: were we killed behind the mark, our successor would find an
            // adopted file of this run, and go on where the original goes on.
            self.instance.store(0, Relaxed);
            self.mark.write(record).map_err(|error| self.fail(error))?;
            self.restart(value, instance);
        } else if !self.is_of_this_run() && !present() {
            self.restart(value, instance);
        }
        // While the lock is held: who comes next finds us present.
        if memory.try_lock(self.presence_byte(me.get())) {
            Ok(())
        } else {
            Err(Refusal::Failed(Some(io::Error::other(
                "the kernel refuses to lock a byte of the file",
            ))))
        }
    }

    /// Draws on from `mark`, whatever the words say.
    fn restart(&self, mark: u64, instance: u64) {
        for row in &self.leases {
            row.end.store(0, Relaxed);
            row.next.store(0, Relaxed);
        }
        self.next.store(mark, Relaxed);
        self.limit.store(mark, Relaxed);
        // What could not be written was lost with the memory; the mark is what the disk has.
        self.failed.store(0, Relaxed);
        // ORDERING: Release pairs with the Acquire in `is_of_this_run`: who finds this instance finds the words above.
        self.instance.store(instance, Release);
    }

    /// Draws `count` ids in a row, at most [`MOST`]: they are the caller's once this returns.
    ///
    /// # Errors
    ///
    /// [`Refusal::Exhausted`] if the epoch has not so many, [`Refusal::Failed`] if the mark on disk could not be moved ahead,
    /// now or earlier. What was drawn for it is lost, and comes to nobody.
    pub fn draw_many(&self, count: u64) -> Result<u64, Refusal> {
        // Before they are drawn: large draws that fail must not bring the counter around.
        if count > MOST || self.next.load(Relaxed) >= LAST {
            return Err(Refusal::Exhausted);
        }
        self.draw(count)
    }

    /// As [`draw_many`](Self::draw_many), for few ids.
    #[inline]
    pub(super) fn draw(&self, count: u64) -> Result<u64, Refusal> {
        // ORDERING: AcqRel: leases and the limit that others stored before their draws are visible to ours.
        let first = self.next.add(count, AcqRel);
        if first >= LAST {
            return Err(Refusal::Exhausted);
        }
        let end = first + count;
        if self.durable {
            // ORDERING: Acquire pairs with the Release in `extend_locked`: the mark is on disk.
            let limit = self.limit.load(Acquire);
            // Early enough that nobody has to wait for the disk.
            if end > limit || limit - end < FIRST_STEP / 2 {
                self.extend(end, end > limit)?;
            }
        }
        Ok(first)
    }

    /// Raises the limit above `end`. Where that is not urgent, leaves it to whoever is at it.
    #[cold]
    fn extend(&self, end: u64, urgent: bool) -> Result<(), Refusal> {
        // ORDERING: Acquire pairs with the Release in `fail`, here and wherever it is asked.
        if self.failed.load(Acquire) != 0 {
            // What is below the old limit can still be given out.
            return if urgent {
                Err(Refusal::Failed(None))
            } else {
                Ok(())
            };
        }
        if !urgent {
            if self.memory().try_lock(self.lock_byte()) {
                // A failure is told to those whose ids are not covered.
                let _ = self.extend_locked(end);
                self.memory().unlock(self.lock_byte());
            }
            return Ok(());
        }
        self.locked(Some(end), |counter| counter.extend_locked(end))
    }

    fn extend_locked(&self, end: u64) -> Result<(), Refusal> {
        // Again: whoever had the lock before us may have failed, and a success after that would prove nothing.
        // ORDERING: as in `extend`.
        if self.failed.load(Acquire) != 0 {
            return Err(Refusal::Failed(None));
        }
        let record = self.checked_mark()?;
        let [mark, adopted] = record.values;
        let now = self.memory().now().as_nanos() as u64;
        let step = self.longer_step(now);
        let value = mark
            .max(end)
            .max(self.next.load(Relaxed))
            .saturating_add(step);
        // The epoch of the mark, below which everything was given: what was drawn may lie in the next one already.
        if value / EPOCH != mark / EPOCH {
            return Err(Refusal::Exhausted);
        }
        let record = record.next([value, adopted]);
        self.mark.write(record).map_err(|error| self.fail(error))?;
        // ORDERING: Release pairs with the Acquire in `draw`: the mark is on disk before an id below it is given.
        self.limit.store(value, Release);
        self.step.store(step, Relaxed);
        self.extended_at.store(now, Relaxed);
        self.extensions.add(1, Relaxed);
        self.extended.notify(u32::MAX);
        Ok(())
    }

    /// About as many ids as are drawn in a second, going by when the mark was written last, so that no more than a call a
    /// second or so is spent on it.
    fn longer_step(&self, now: u64) -> u64 {
        let step = self.step.load(Relaxed).clamp(FIRST_STEP, LAST_STEP);
        let times = match self.extended_at.load(Relaxed) {
            0 => 1,
            last => (SECOND / now.wrapping_sub(last).max(1)).clamp(1, MOST_AT_ONCE),
        };
        (step * times).min(LAST_STEP)
    }

    fn checked_mark(&self) -> Result<mark::Record, Refusal> {
        self.mark.read().ok_or(Refusal::Damaged)
    }

    fn fail(&self, error: io::Error) -> Refusal {
        // ORDERING: Release pairs with the Acquire in `extend` and in `extend_locked`.
        self.failed.store(1, Release);
        self.extended.notify(u32::MAX);
        Refusal::Failed(Some(error))
    }

    /// Runs `work` under the lock, waiting for it; not at all if the limit has passed `covered` meanwhile.
    fn locked(
        &self,
        covered: Option<u64>,
        work: impl FnOnce(&Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let memory = self.memory();
        let attempt = || {
            // ORDERING: Acquire pairs with the Release in `extend_locked`.
            if covered.is_some_and(|end| self.limit.load(Acquire) >= end) {
                return Ok(Some(false));
            }
            if covered.is_some() && self.failed.load(Acquire) != 0 {
                return Err(Refusal::Failed(None));
            }
            Ok(memory.try_lock(self.lock_byte()).then_some(true))
        };
        let deadline = memory.now() + PATIENCE;
        let waited = wait_until(&self.extended, Wait::Block, Some(deadline), attempt, || {
            Ok(())
        })?;
        let Some(locked) = waited.got else {
            return Err(Refusal::TimedOut);
        };
        if !locked {
            return Ok(());
        }
        // Somebody may have been at it between the look at the limit and the lock.
        // ORDERING: Acquire pairs with the Release in `extend_locked`: the mark is on disk.
        let done = if covered.is_some_and(|end| self.limit.load(Acquire) >= end) {
            Ok(())
        } else {
            work(self)
        };
        memory.unlock(self.lock_byte());
        self.extended.notify(1);
        done
    }

    /// What is left in a row. What cannot have been drawn was not left by a lease.
    fn leftover(&self, row: &Row<M>) -> (u64, u64) {
        // ORDERING: Acquire pairs with the Release in `give` and in `record`, and of the counter with the AcqRel in `draw`.
        let (next, end) = (row.next.load(Acquire), row.end.load(Acquire));
        let drawn = self.next.load(Acquire);
        if next < end && end - next <= BLOCK && end <= drawn {
            (next, end)
        } else {
            (0, 0)
        }
    }

    /// What is known about the ids.
    pub fn statistics(&self) -> Statistics {
        let rows = self.leases.iter();
        // ORDERING: Acquire as where each word is used: what is told is no older than what led to it.
        Statistics {
            drawn: self.next.load(Acquire),
            limit: if self.durable {
                self.limit.load(Acquire)
            } else {
                u64::MAX
            },
            leased: rows
                .clone()
                .map(|row| self.leftover(row))
                .map(|(next, end)| end - next)
                .sum(),
            lost: rows
                .map(|row| row.lost.load(Relaxed))
                .map(|lost| lost.div_ceil(ONE_LOST).saturating_mul(BLOCK))
                .fold(0, u64::saturating_add),
            extensions: self.extensions.load(Relaxed),
            changed: self.changed.load(Relaxed),
            // ORDERING: as in `extend`.
            failed: self.failed.load(Acquire) != 0,
        }
    }

    /// Notes the time of a change, in nanoseconds since 1970. Best effort.
    pub fn touch(&self, time: u64) {
        self.changed.store(time, Relaxed);
    }
}

/// What is known about the ids of a counter; all of it may have changed by the time it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Ids drawn so far, leased blocks included; the highest id that can have been given.
    pub drawn: u64,
    /// Up to this number ids can be given out before the disk must be asked again.
    pub limit: u64,
    /// Ids in lease blocks that have not been given.
    pub leased: u64,
    /// Ids in blocks that were lost because a process died between drawing and recording them; at most that many.
    pub lost: u64,
    /// How often the mark was written to disk.
    pub extensions: u64,
    /// When somebody last noted a change, in nanoseconds since 1970; 0 if never.
    pub changed: u64,
    /// Whether writing the mark has failed, which is for good.
    pub failed: bool,
}
