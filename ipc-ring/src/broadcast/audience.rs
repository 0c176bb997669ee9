//! The readers that the producer waits for, and the words of a broadcast ring that do not depend on what lies in it.
//!
//! Positions are those of the ring: of messages, or of bytes. The head of the protocol stands in
//! [`broadcast`](crate::broadcast).
//!
//! # Letting go
//!
//! The word `active` of a row is `claims << 2 | LET_GO | ACTIVE`, with the number of the reader's claim of the role, so that it
//! never comes back. The reader stores it when it joins, and zero when it leaves; so does whoever clears up after it. The
//! producer puts LET_GO in by one compare-exchange, where a message has been held up for as long as the ring's creator has
//! said, and the reader still stands in its way. The time is that of the message: one that was held up by several readers, one after
//! the other, is held up no longer than by one. From then on it does not wait for that reader. The row stays the reader's own: it may be stopped, and go on at
//! any time. What it reads is checked word by word as for any reader, so it is told exactly what it has missed; and it joins
//! anew as soon as it finds the bit.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use ipc_core::Mapped;
use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, Memory, OutOfArea, Word32, Word64};
use ipc_core::participant::ParticipantId;
use ipc_core::segment::Object;

use super::{LOSSLESS, Start};
use crate::claim::Claim;
use crate::error::ClaimError;
use crate::role::{Holder, Role};
use crate::side::Refusal;

/// Offsets in the object and in a row. Each line of 128 bytes has one writer, or is hardly ever written.
pub(crate) mod field {
    /// Written by the producer.
    pub(crate) const TAIL: usize = 0;
    /// Read by the producer with every message, written when readers sleep, come or go.
    pub(crate) const ITEMS: usize = 128;
    pub(crate) const CLOSED: usize = 132;
    pub(crate) const JOINED: usize = 136;
    /// Read by lossless readers with every message, written when the producer's mood changes.
    pub(crate) const SPACE: usize = 256;
    /// Written when the producer changes.
    pub(crate) const PRODUCER: usize = 384;
    /// One row for each lossless reader, written by that reader.
    pub(crate) const ROWS: usize = 512;
    pub(crate) const ROW: usize = 128;
    /// Where the messages begin.
    pub(crate) const END: usize = ROWS + super::LOSSLESS * ROW;

    /// In a row.
    pub(crate) const ROLE: usize = 0;
    pub(crate) const ACTIVE: usize = 8;
    pub(crate) const HEAD: usize = 16;
}

/// The producer heeds the row.
const ACTIVE: u64 = 1;
/// It did, and does not any more.
const LET_GO: u64 = 2;
const ONE_CLAIM: u64 = 4;

fn is_heeded(active: u64) -> bool {
    active & (ACTIVE | LET_GO) == ACTIVE
}

/// How long a slow lossless reader holds up a push: for ever if `None`. What a creator says is kept among the
/// parameters of the object, as milliseconds plus one.
pub(crate) type Patience = Option<Duration>;

/// The parameter for a patience: rounded up to milliseconds, 49 days at most.
pub(crate) fn patience_parameter(patience: Patience) -> u64 {
    let millis = |patience: Duration| patience.as_nanos().div_ceil(1_000_000);
    patience.map_or(0, |patience| {
        1 + millis(patience).min(u128::from(u32::MAX - 1)) as u64
    })
}

/// The patience of a parameter.
pub(crate) fn patience_of(parameter: u64) -> Patience {
    parameter.checked_sub(1).map(Duration::from_millis)
}

/// Claims the row of a lossless reader. Tells which, and where the reader starts: a successor looks first where somebody
/// has died, the others there last.
pub(crate) fn claim_row<'r>(
    object: &Object,
    readers: impl Iterator<Item = &'r Role<Mapped>>,
    start: Start,
    producer: &Role<Mapped>,
) -> Result<(usize, Start, Claim), ClaimError> {
    let successor = start == Start::Successor;
    let mut rows: Vec<_> = readers.enumerate().collect();
    for (_, role) in &rows {
        if let (true, Holder::Present(holder)) = (successor, role.holder()) {
            object.segment().recover(holder);
        }
    }
    rows.sort_by_key(|(_, role)| (role.holder() == Holder::Died) != successor);
    let mut taken = None;
    for (index, role) in rows {
        let start = match (start, role.holder()) {
            (Start::Successor, Holder::Died) => Start::Successor,
            (Start::Successor, _) => Start::Oldest,
            (start, _) => start,
        };
        match Claim::role(object, role, "lossless reader in each place", producer) {
            Ok(claim) => return Ok((index, start, claim)),
            Err(error @ ClaimError::Taken { .. }) => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.expect("there are rows"))
}

/// The words that all broadcast rings have.
#[derive(Clone, Debug)]
pub(crate) struct Audience<M> {
    /// Where the next message goes.
    pub(crate) tail: Word64<M>,
    pub(crate) items: Event<M>,
    pub(crate) closed: Word32<M>,
    joined: Word64<M>,
    pub(crate) space: Event<M>,
    pub(crate) producer: Role<M>,
    pub(crate) rows: Vec<Row<M>>,
    patience: Patience,
}

/// The row of a lossless reader.
#[derive(Clone, Debug)]
pub(crate) struct Row<M> {
    pub(crate) role: Role<M>,
    active: Word64<M>,
    pub(crate) head: Word64<M>,
}

impl<M: Memory> Audience<M> {
    pub(crate) fn new(area: &Area<M>) -> Result<Self, OutOfArea> {
        let row = |index: usize| {
            let at = field::ROWS + index * field::ROW;
            Ok(Row {
                role: Role::new(area, at + field::ROLE)?,
                active: area.word64(at + field::ACTIVE)?,
                head: area.word64(at + field::HEAD)?,
            })
        };
        Ok(Self {
            tail: area.word64(field::TAIL)?,
            items: Event::new(area, field::ITEMS, Waiters::Many)?,
            closed: area.word32(field::CLOSED)?,
            joined: area.word64(field::JOINED)?,
            space: Event::new(area, field::SPACE, Waiters::One)?,
            producer: Role::new(area, field::PRODUCER)?,
            rows: (0..LOSSLESS).map(row).collect::<Result<_, _>>()?,
            patience: None,
        })
    }

    /// The same, with the patience that the ring's creator has chosen.
    pub(crate) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }

    pub(crate) fn close(&self) {
        // ORDERING: Release pairs with the Acquire of a reader that finds nothing: who sees the ring closed sees every
        // message that was pushed before it was closed.
        self.closed.store(1, Release);
        self.items.notify(u32::MAX);
        self.space.notify(1);
    }

    /// Takes its roles from a dead participant; the producer stops waiting for it.
    pub(crate) fn recover(&self, dead: ParticipantId) {
        for row in &self.rows {
            if row.role.holder() == Holder::Present(dead) {
                // First, while nobody else can have the row.
                row.active.store(0, Release);
                row.role.recover(dead);
            }
        }
        self.producer.recover(dead);
        self.items.notify(u32::MAX);
        self.space.notify(1);
    }

    /// How far behind `tail` the slowest lossless reader is, at most a ring of `capacity`, and its row.
    pub(crate) fn slowest(&self, tail: u64, capacity: u64) -> Option<(u64, usize)> {
        self.heeded(tail, capacity)
            .map(|(behind, index, _)| (behind, index))
            .max_by_key(|(behind, _)| *behind)
    }

    /// Whether the producer heeds a row.
    pub(crate) fn heeds(&self, row: usize) -> bool {
        is_heeded(self.rows[row].active.load(Acquire))
    }

    /// How far behind `tail` each row is that the producer heeds, its index, and its word.
    fn heeded(&self, tail: u64, capacity: u64) -> impl Iterator<Item = (u64, usize, u64)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(move |(index, row)| {
            let active = row.active.load(Acquire);
            // ORDERING: Acquire pairs with the Release of whoever moves the head: the messages have been read.
            is_heeded(active).then(|| {
                let behind = tail.wrapping_sub(row.head.load(Acquire));
                (behind.min(capacity), index, active)
            })
        })
    }

    /// Joins, from `head` on, or from further on. The caller has the role of the row. The head must be stored already, and
    /// never goes back, since the producer remembers how far it may go. Tells the membership, and how often somebody has
    /// joined with this.
    pub(crate) fn join(&self, row: usize) -> (u64, u64) {
        let row = &self.rows[row];
        let active = (row.role.claims() * ONE_CLAIM) | ACTIVE;
        // ORDERING: Release pairs with the Acquire in `heeded`: who sees the row active sees its head.
        row.active.store(active, Release);
        // ORDERING: Release pairs with the Acquire in `Heed::suffices`: who sees that somebody has joined sees the row.
        let joined = self.joined.add(1, AcqRel).wrapping_add(1);
        // ORDERING: pairs with the fence of the producer behind each run: either it sees from its next run on that we have
        // joined, or we see from here on that it has got as far as its current run.
        self.items.memory().fence(SeqCst);
        (active, joined)
    }

    /// Whether the producer still heeds the row, whose membership that is.
    #[inline]
    pub(crate) fn is_member(&self, row: usize, membership: u64) -> bool {
        self.rows[row].active.load(Relaxed) == membership
    }

    /// The producer does not wait for the row any more. Its role goes with the handle.
    pub(crate) fn leave(&self, row: usize) {
        self.rows[row].active.store(0, Release);
        self.space.notify(1);
    }
}

/// What the producer remembers of its audience.
#[derive(Debug)]
pub(crate) struct Heed {
    /// Where the slowest lossless reader, when last looked at, makes us stop.
    pub(crate) limit: u64,
    /// How often somebody had joined, when last looked at.
    joined: u64,
    /// Where the message goes that was refused last, and since when.
    held_up: Option<(u64, Duration)>,
}

impl Heed {
    /// Of a producer at `tail` that has not looked yet.
    pub(crate) fn new(tail: u64) -> Self {
        Self {
            limit: tail,
            joined: 0,
            held_up: None,
        }
    }

    /// Whether what we know lets us write from `tail` to `end`. Otherwise [look](Self::look) again.
    #[inline]
    pub(crate) fn suffices<M: Memory>(&self, audience: &Audience<M>, tail: u64, end: u64) -> bool {
        // ORDERING: Acquire pairs with the Release in `Audience::join`: the row comes before the count.
        audience.joined.load(Acquire) == self.joined
            && end.wrapping_sub(tail) <= self.limit.wrapping_sub(tail)
    }

    /// Looks at the rows: whether they let us write from `tail` to `end`, in a ring of `capacity`. Lets those go that have
    /// exhausted the patience of the ring.
    #[inline(never)]
    pub(crate) fn look<M: Memory>(
        &mut self,
        audience: &Audience<M>,
        tail: u64,
        end: u64,
        capacity: u64,
    ) -> Result<(), Refusal> {
        let joined = audience.joined.load(Acquire);
        let needed = end.wrapping_sub(tail);
        let (mut behind, mut refused_by) = (0, None);
        for (lag, index, active) in audience.heeded(tail, capacity) {
            let stands_in_the_way = capacity - lag < needed;
            if stands_in_the_way && self.lets_go(audience, tail, index, active) {
                continue;
            }
            if lag >= behind {
                behind = lag;
                refused_by = stands_in_the_way.then_some(index);
            }
        }
        self.joined = joined;
        self.limit = tail.wrapping_add(capacity - behind);
        match refused_by {
            Some(index) => match audience.rows[index].role.holder() {
                Holder::Present(reader) => Err(Refusal::Watch(reader)),
                _ => Err(Refusal::NotYet),
            },
            None => {
                self.held_up = None;
                Ok(())
            }
        }
    }

    /// How often somebody had joined before the last look.
    pub(crate) fn joined(&self) -> u64 {
        self.joined
    }

    /// Lets the reader of a row go, if the message for `tail` has been held up for too long.
    fn lets_go<M: Memory>(
        &mut self,
        audience: &Audience<M>,
        tail: u64,
        index: usize,
        active: u64,
    ) -> bool {
        let Some(patience) = audience.patience else {
            return false;
        };
        let now = audience.items.memory().now();
        let since = match self.held_up {
            Some((at, since)) if at == tail => since,
            _ => {
                self.held_up = Some((tail, now));
                now
            }
        };
        // Losing is fine: it has left, or died, or another has its row.
        now.saturating_sub(since) >= patience
            && audience.rows[index]
                .active
                .exchange(active, active | LET_GO, Relaxed)
                .is_ok()
    }
}
