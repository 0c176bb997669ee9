//! Participants: who is attached, who has died, and clearing up after the dead.
//!
//! A process that claims anything in a segment first joins it: it takes a row of the participant table, whose life the
//! kernel guards. The number of the row, 1 to 16,382, is what claims are marked with.
//!
//! # Protocol
//!
//! A row's state word is `generation << 1 | USED`; zero is a free row. Two lock bytes belong to it: the *life byte*, held
//! by the participant from before USED is set until after it is cleared, and the *recovery byte*, held by whoever
//! clears up after it.
//!
//! ```text
//! join     J1  lock the life byte; refused -> next row
//!          J2  state is USED -> a dead one's row: unlock, recover it, try again
//!          J3  write the identity
//!          J4  state := generation + 1, USED
//! leave    L1  state := generation, free          (all claims have been given back before)
//!          L2  unlock the life byte
//! dead     D1  state is USED
//!          D2  the life byte is free, or the recorded process is proven gone
//!          D3  state is still as in D1             (else it has left meanwhile)
//! recover  R1  lock the recovery byte; refused -> somebody is at it
//!          R2  dead? else unlock and return
//!          R3  resolve every claim that names the row
//!          R4  state := generation, free
//!          R5  unlock the recovery byte
//! ```
//!
//! USED implies that the life byte was locked before, so a free byte behind USED means that the kernel freed it: the
//! holder is dead, and none of its threads will store again. The second proof in D2 is for a holder whose forked child
//! keeps the byte locked (the child of a program that forks without `pthread_atfork` handlers): the recorded process has
//! exited although its byte has not been freed. A stopped process holds its byte and has not exited: it lives.
//!
//! The recovery byte is a second one because the life byte may be held by such a child. It is locked through a file
//! description of its own, opened in R1 and closed in R5, so that no child that was there before can hold it for a dead
//! recoverer; where a process has no descriptor left it is not, and one that is cloned without handlers by another thread
//! just then keeps the byte until it ends: the row stays taken so long, and nothing else does. Every step of R3 is idempotent,
//! and a recoverer that dies leaves USED behind and the byte free: the next one starts over. A row becomes free only
//! when nothing names it any more, so a newcomer never inherits another's claims.
//!
//! # Orderings
//!
//! J4, L1 and R4 are Release and pair with the Acquire of the state in J2 and D1: whoever sees USED sees the identity, and
//! whoever takes a free row sees all claims resolved. A Release fence before J3 pairs with an Acquire fence before D3: an identity
//! that is of two holders, half and half, is never believed. What the dead one wrote reaches the recoverer through the kernel,
//! which frees the byte after the last instruction of the last thread.

mod arrivals;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

pub use arrivals::Arrivals;

use crate::memory::{Area, Identity, LockByte, Memory, OutOfArea, Word64};

/// Bytes of a row of the table: two cache lines, so that rows do not disturb each other.
pub const ROW: usize = 128;

/// The most rows a table can have: claims have 14 bits for the number of one.
pub const MAX_PARTICIPANTS: u16 = 16_382;

const USED: u64 = 1;
const ONE_GENERATION: u64 = 2;

/// Offsets in a row, drawn in `docs/layout.md`.
mod field {
    pub(super) const STATE: usize = 0;
    pub(super) const PID: usize = 8;
    pub(super) const START: usize = 16;
    pub(super) const PID_NAMESPACE: usize = 24;
    pub(super) const TIME_NAMESPACE: usize = 32;
    pub(super) const BOOT: usize = 40;
}

/// The number of an attached process in a segment. Never zero: zero in a claim means nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantId(u16);

impl ParticipantId {
    /// The participant of that number, as read from a claim. `None` for nobody and for numbers that cannot be.
    pub fn new(number: u64) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (1..=MAX_PARTICIPANTS)
            .contains(&number)
            .then_some(Self(number))
    }

    /// The number, from 1 on.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "participant {}", self.0)
    }
}

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nobody has the row.
    Free,
    /// Attached and running, or stopped: a stopped process may go on at any time.
    Alive(Identity),
    /// Died without leaving, and nobody has cleared up yet.
    Dead(Identity),
}

/// All rows are taken by processes that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {rows} places for attached processes are taken by processes that live; end one of them, or create the \
     segment anew with room for more participants"
)]
pub struct TableFull {
    /// How many there are.
    pub rows: u16,
}

/// The table of participants.
#[derive(Clone, Debug)]
pub struct Participants<M> {
    area: Area<M>,
    rows: Vec<Row<M>>,
}

#[derive(Clone, Debug)]
struct Row<M> {
    state: Word64<M>,
    identity: [Word64<M>; 5],
}

impl<M: Memory> Participants<M> {
    /// The table in `area`, one row for each [`ROW`] bytes.
    ///
    /// # Errors
    ///
    /// If the area is not aligned to 8.
    pub fn new(area: Area<M>) -> Result<Self, OutOfArea> {
        let count = (area.len() / ROW).min(MAX_PARTICIPANTS.into());
        let row = |index: usize| {
            let word = |field| area.word64(index * ROW + field);
            Ok(Row {
                state: word(field::STATE)?,
                identity: [
                    word(field::PID)?,
                    word(field::START)?,
                    word(field::PID_NAMESPACE)?,
                    word(field::TIME_NAMESPACE)?,
                    word(field::BOOT)?,
                ],
            })
        };
        let rows = (0..count).map(row).collect::<Result<_, _>>()?;
        Ok(Self { area, rows })
    }

    /// How many rows there are.
    pub fn capacity(&self) -> u16 {
        self.rows.len() as u16
    }

    /// The numbers of all rows.
    pub fn ids(&self) -> impl Iterator<Item = ParticipantId> + use<M> {
        (1..=self.capacity()).map(ParticipantId)
    }

    /// Takes a free row; where there is none, clears up after dead participants by `resolve` (see
    /// [`recover`](Self::recover)) until one is free.
    ///
    /// # Errors
    ///
    /// If every row is taken by one who lives, or whom `resolve` could not clear up after.
    pub fn join(
        &self,
        mut resolve: impl FnMut(ParticipantId) -> bool,
    ) -> Result<ParticipantId, TableFull> {
        // Only a look: `take` looks again, under the life byte.
        let is_free = |id| self.row(id).state.load(Relaxed) & USED == 0;
        for id in self.ids() {
            if is_free(id) && self.take(id) {
                return Ok(id);
            }
        }
        for id in self.ids() {
            self.recover(id, &mut resolve);
            if is_free(id) && self.take(id) {
                return Ok(id);
            }
        }
        Err(TableFull {
            rows: self.capacity(),
        })
    }

    /// J1 to J4.
    fn take(&self, id: ParticipantId) -> bool {
        let memory = self.area.memory();
        let row = self.row(id);
        if !memory.try_lock(LockByte::Life(id.0)) {
            return false;
        }
        // ORDERING: Acquire pairs with the Release in `leave` and in `recover`: nothing names the row any more.
        let state = row.state.load(Acquire);
        if state & USED != 0 {
            memory.unlock(LockByte::Life(id.0));
            return false;
        }
        let me = memory.identity();
        let fields = [
            me.pid.into(),
            me.start,
            me.pid_namespace,
            me.time_namespace,
            me.boot,
        ];
        // ORDERING: the fence pairs with the fence in `life`: who reads a field of ours sees in D3 that the row was free.
        memory.fence(Release);
        for (word, value) in row.identity.iter().zip(fields) {
            word.store(value, Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `life`: the identity is visible to whoever sees USED.
        row.state
            .store((state & !USED).wrapping_add(ONE_GENERATION) | USED, Release);
        true
    }

    /// Gives the row back. Every claim must have been given back before.
    pub fn leave(&self, id: ParticipantId) {
        let row = self.row(id);
        // ORDERING: Release pairs with the Acquire in `take`: who takes the row sees our claims given back.
        row.state.store(row.state.load(Relaxed) & !USED, Release);
        self.area.memory().unlock(LockByte::Life(id.0));
    }

    /// What is known of a participant. Locks nothing, stores nothing, and works on read-only
    /// memory.
    pub fn life(&self, id: ParticipantId) -> Life {
        let Some(row) = self.rows.get(usize::from(id.0) - 1) else {
            return Life::Free;
        };
        let memory = self.area.memory();
        let mut identity = Identity::default();
        // A row that keeps changing is in use; a peer that makes it change for ever must not hold us up.
        for _ in 0..8 {
            // ORDERING: Acquire pairs with the Release in `take`: the identity is that of whoever set USED, or a later one.
            let state = row.state.load(Acquire);
            if state & USED == 0 {
                return Life::Free;
            }
            let [pid, start, pid_namespace, time_namespace, boot] = &row.identity;
            identity = Identity {
                pid: pid.load(Relaxed) as u32,
                start: start.load(Relaxed),
                pid_namespace: pid_namespace.load(Relaxed),
                time_namespace: time_namespace.load(Relaxed),
                boot: boot.load(Relaxed),
            };
            let dead = !memory.is_locked(LockByte::Life(id.0)) || memory.is_gone(&identity);
            // ORDERING: the fence pairs with the fence in `take`: if a field is of a later holder, the state has changed.
            memory.fence(Acquire);
            // D3: a row that has changed hands meanwhile was not left by death.
            if row.state.load(Relaxed) == state {
                return if dead {
                    Life::Dead(identity)
                } else {
                    Life::Alive(identity)
                };
            }
        }
        Life::Alive(identity)
    }

    /// Clears up after `id` if it is dead: R1 to R5. Anybody may call this at any time, except for its own row.
    ///
    /// `resolve` undoes or completes every claim that names the participant, and tells whether nothing is left that it
    /// could not resolve. It may be called again for the same participant, after a recoverer died.
    ///
    /// True if this call made the row free.
    pub fn recover(
        &self,
        id: ParticipantId,
        mut resolve: impl FnMut(ParticipantId) -> bool,
    ) -> bool {
        if !matches!(self.life(id), Life::Dead(_)) {
            return false;
        }
        let memory = self.area.memory();
        if !memory.try_lock(LockByte::Recovery(id.0)) {
            return false;
        }
        let mut done = false;
        if matches!(self.life(id), Life::Dead(_)) && resolve(id) {
            let row = self.row(id);
            // ORDERING: Release pairs with the Acquire in `take`: who takes the row sees every claim resolved.
            row.state.store(row.state.load(Relaxed) & !USED, Release);
            done = true;
        }
        memory.unlock(LockByte::Recovery(id.0));
        done
    }

    fn row(&self, id: ParticipantId) -> &Row<M> {
        &self.rows[usize::from(id.0) - 1]
    }
}
