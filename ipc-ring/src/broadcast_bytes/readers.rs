//! The readers: one that the producer waits for, and one that only loads.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_core::event::{Event, Wait};
use ipc_core::memory::Memory;

use super::mark::Note;
use super::sender::{Shared, is_closed};
use crate::broadcast::Start;
use crate::bytes::{Place, ReceiveRecords};
use crate::pace::Pace;
use crate::role::Role;
use crate::side::{End, Moved, Refusal, Side, Whole};

/// How often a reader of the latest record tries again, when it is written over under its hands, before it says "empty".
const RETRIES: u32 = 16;

/// How long a reader that has caught up with a stream leaves its lines alone.
const BACK_OFF: Duration = Duration::from_nanos(800);

impl<M: Memory> Shared<M> {
    /// A reader that the producer does not wait for. Refused if the ring makes no sense.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`], if the marks contradict each other.
    pub fn watcher(&self, start: Start, latest: bool) -> Result<Watcher<M>, Refusal> {
        let mark = match start {
            Start::Newest => &self.tail,
            Start::Oldest | Start::Successor => &self.oldest,
        };
        Ok(Watcher {
            cursor: self.cursor(mark.get().ok_or(Refusal::Corrupt)?),
            latest,
        })
    }

    /// A reader that the producer waits for. The caller has the role of the row at `index`. Refused if the ring makes no
    /// sense.
    ///
    /// # Errors
    ///
    /// [`Refusal::Corrupt`], if the marks contradict each other.
    pub fn receiver(&self, index: usize, start: Start) -> Result<Receiver<M>, Refusal> {
        let head = &self.heads[index];
        let from = head.position();
        let tail = self.tail.get().ok_or(Refusal::Corrupt)?;
        let at = match start {
            Start::Newest => tail,
            Start::Oldest => self.oldest.get().ok_or(Refusal::Corrupt)?,
            // Where it cannot have been, it was not.
            Start::Successor => match head.get() {
                Some(head) if tail.position.wrapping_sub(head.position) as i64 >= 0 => head,
                _ => tail,
            },
        };
        head.set(from, at);
        let (membership, joined) = self.audience.join(index);
        Ok(Receiver {
            cursor: self.cursor(at),
            row: index,
            membership,
            joined,
            head: at.position,
        })
    }

    fn cursor(&self, at: Note) -> Cursor<M> {
        Cursor {
            ring: self.clone(),
            position: at.position,
            number: at.number,
            tail: at.position,
            moved: Moved::default(),
            pace: Pace::new(at.number),
        }
    }
}

/// Where a reader is.
#[derive(Debug)]
struct Cursor<M> {
    ring: Shared<M>,
    /// Our position, and the number of the record there.
    position: u64,
    number: u64,
    /// The producer's position, when last seen.
    tail: u64,
    /// Records taken.
    moved: Moved,
    pace: Pace,
}

impl<M: Memory> Cursor<M> {
    /// The record at our position.
    #[inline]
    fn next(&mut self) -> Result<Place, Refusal> {
        if self.position == self.tail {
            self.refresh()?;
        }
        let published = self.tail.wrapping_sub(self.position);
        let record = Place::read(&self.ring.arena, self.position, published);
        if !self.is_whole() {
            return Err(self.lag());
        }
        record
    }

    /// Whether what was copied from our position on was not written over before.
    #[inline]
    fn is_whole(&self) -> bool {
        // ORDERING: pairs with the fence in `Sender::give_up_oldest`: if we have copied a byte of a later record, we see that
        // the mark has passed us.
        self.ring.audience.items.memory().fence(Acquire);
        !self.ring.oldest.has_passed(self.position)
    }

    /// Moves behind the record, if what was copied of it is whole.
    #[inline]
    fn finish(&mut self, record: Place) -> Result<(), Refusal> {
        if !self.is_whole() {
            return Err(self.lag());
        }
        let end = record.end();
        self.moved.messages += 1;
        self.moved.bytes += end.wrapping_sub(self.position);
        self.position = end;
        self.number = self.number.wrapping_add(1);
        Ok(())
    }

    /// Looks at the producer's position; why there is nothing, if there is not.
    fn refresh(&mut self) -> Result<(), Refusal> {
        let closed = is_closed(&self.ring);
        self.tail = self.ring.tail.position();
        match (self.position == self.tail, closed) {
            (false, _) => Ok(()),
            (true, true) => Err(Refusal::Closed),
            (true, false) => Err(Refusal::NotYet),
        }
    }

    /// Moves to the oldest record that is left.
    #[cold]
    fn lag(&mut self) -> Refusal {
        // Where it moves too fast to be caught, the next attempt may.
        let Some(oldest) = self.ring.oldest.get() else {
            return Refusal::NotYet;
        };
        let missed = oldest.number.wrapping_sub(self.number);
        let behind = oldest.position.wrapping_sub(self.position);
        if missed as i64 <= 0 || behind as i64 <= 0 {
            return Refusal::Corrupt;
        }
        self.position = oldest.position;
        self.number = oldest.number;
        self.tail = oldest.position;
        Refusal::Lagged(missed)
    }

    /// Moves to the newest record, unless it has been taken.
    fn skip(&mut self) -> Result<(), Refusal> {
        let closed = is_closed(&self.ring);
        let tail = self.ring.tail.get().ok_or(Refusal::NotYet)?;
        if tail.number.wrapping_sub(self.number) as i64 <= 0 {
            return Err(if closed {
                Refusal::Closed
            } else {
                Refusal::NotYet
            });
        }
        self.position = tail.before;
        self.number = tail.number.wrapping_sub(1);
        self.tail = tail.position;
        Ok(())
    }

    fn len(&self) -> usize {
        let tail = self.ring.tail.get();
        let count = tail.map_or(0, |tail| tail.number.wrapping_sub(self.number) as i64);
        count.clamp(0, self.ring.arena.len() as i64 / 8) as usize
    }

    fn before_wait(&self, wait: Wait) {
        let memory = self.ring.audience.items.memory();
        self.pace.before_wait(memory, self.number, wait, BACK_OFF);
    }
}

/// The side of a reader that the producer waits for.
#[derive(Debug)]
pub struct Receiver<M> {
    cursor: Cursor<M>,
    row: usize,
    /// What our row says as long as the producer heeds it.
    membership: u64,
    /// How often somebody had joined when we did.
    joined: u64,
    /// Our head, as the producer sees it.
    head: u64,
}

impl<M: Memory> Receiver<M> {
    /// Whether the producer has taken note of us. From then on nothing that we have still to take is written over; what was
    /// until then, we are told.
    pub fn is_settled(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `Sender::look_at_readers`.
        let seen = self.cursor.ring.seen.load(Acquire);
        (seen.wrapping_sub(self.joined) as i64) >= 0
    }

    /// Tells the producer how far we are; joins again if it has let us go.
    #[inline]
    fn advance(&mut self) {
        let (ring, at) = (&self.cursor.ring, &self.cursor);
        let note = Note {
            position: at.position,
            number: at.number,
            before: 0,
        };
        ring.heads[self.row].set(self.head, note);
        self.head = note.position;
        if !ring.audience.is_member(self.row, self.membership) {
            (self.membership, self.joined) = ring.audience.join(self.row);
        }
        ring.audience.space.notify(1);
    }
}

impl<M: Memory> ReceiveRecords for Receiver<M> {
    #[inline]
    fn try_next(&mut self) -> Result<Place, Refusal> {
        let next = self.cursor.next();
        if let Err(Refusal::Lagged(_)) = next {
            self.advance();
        }
        next
    }

    #[inline]
    fn read(&self, record: &Place, at: usize, into: &mut [u8]) {
        record.read_at(&self.cursor.ring.arena, at, into);
    }

    #[inline]
    fn commit(&mut self, record: Place) -> Result<(), Refusal> {
        let finished = self.cursor.finish(record);
        self.advance();
        finished
    }
}

/// The side of a reader that the producer does not wait for. It only loads.
#[derive(Debug)]
pub struct Watcher<M> {
    cursor: Cursor<M>,
    /// Whether it skips all records but the newest.
    latest: bool,
}

impl<M: Memory> ReceiveRecords for Watcher<M> {
    #[inline]
    fn try_next(&mut self) -> Result<Place, Refusal> {
        if !self.latest {
            return self.cursor.next();
        }
        for _ in 0..RETRIES {
            self.cursor.skip()?;
            match self.cursor.next() {
                // Written over meanwhile: there is a newer one.
                Err(Refusal::Lagged(_)) => {}
                other => return other,
            }
        }
        Err(Refusal::NotYet)
    }

    #[inline]
    fn read(&self, record: &Place, at: usize, into: &mut [u8]) {
        record.read_at(&self.cursor.ring.arena, at, into);
    }

    #[inline]
    fn commit(&mut self, record: Place) -> Result<(), Refusal> {
        match self.cursor.finish(record) {
            Err(Refusal::Lagged(_)) if self.latest => Err(Refusal::NotYet),
            other => other,
        }
    }
}

impl<M: Memory> Side for Receiver<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.cursor.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.cursor.moved.messages)
    }

    #[inline]
    fn moved_bytes(&self) -> Option<u64> {
        Some(self.cursor.moved.bytes)
    }

    fn event(&self) -> &Event<M> {
        &self.cursor.ring.audience.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.cursor.ring.audience.producer)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }

    fn before_wait(&mut self, wait: Wait) {
        self.cursor.before_wait(wait);
    }

    fn after_wait(&mut self, slept: bool) {
        self.cursor.pace.after_wait(self.cursor.number, slept);
    }

    /// The producer does not wait for us any more. The role goes with the handle.
    fn leave(&mut self) {
        self.cursor.ring.audience.leave(self.row);
    }
}

impl<M: Memory> Side for Watcher<M> {
    type Memory = M;

    fn whole(&self) -> &impl Whole {
        &self.cursor.ring
    }

    fn end(&self) -> End {
        End::Consumer
    }

    #[inline]
    fn moved(&self) -> Option<u64> {
        Some(self.cursor.moved.messages)
    }

    #[inline]
    fn moved_bytes(&self) -> Option<u64> {
        Some(self.cursor.moved.bytes)
    }

    fn event(&self) -> &Event<M> {
        &self.cursor.ring.audience.items
    }

    fn peer(&self) -> Option<&Role<M>> {
        Some(&self.cursor.ring.audience.producer)
    }

    fn len(&self) -> usize {
        self.cursor.len()
    }

    fn before_wait(&mut self, wait: Wait) {
        self.cursor.before_wait(wait);
    }

    fn after_wait(&mut self, slept: bool) {
        self.cursor.pace.after_wait(self.cursor.number, slept);
    }
}
