//! Following a ring, a journal or a register as an observer: by loads alone, without a role, a row or a slot.
//!
//! Nobody waits for an observer, so it may be overtaken. What it hands out was whole when it was copied:
//!
//! - `mpmc`, `broadcast`, `latest`: the word of the slot was looked at before and after the copy.
//! - `broadcast_bytes`: a reader that may miss records only loads, so it is one of those.
//! - `journal`: the checksum of the record.
//! - `spsc` and the rings of bytes have no word in the slot. What nobody has taken cannot be overwritten, and is certain.
//!   What was taken just before is shown as long as it lies in the newer half of the ring, where a producer writes only
//!   if it pushes more than half of the ring at once.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use anyhow::{Context, Result, bail};
use ipc_core::ReadOnly;
use ipc_core::memory::{Memory, Slots, Word32, Word64, Words};
use ipc_core::segment::ObjectView;
use ipc_core::sync::Register;
use ipc_ring::broadcast_bytes::{self, Watcher};
use ipc_ring::bytes::ReceiveRecords;
use ipc_ring::journal::JournalError;
use ipc_ring::journal::protocol::Log;
use ipc_ring::mpmc::geometry::{Geometry, Phase, State};
use ipc_ring::side::Refusal;

use super::rings::journal_log;
use super::values::Decoder;

/// What came next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A message or record, copied to the buffer.
    Record {
        position: u64,
        /// Of a ring with several lanes.
        lane: Option<usize>,
    },
    /// So many were overwritten before they could be copied; of a ring of bytes, bytes.
    Missed(u64),
    /// Nothing for now.
    Nothing,
    /// Nothing any more: the ring is closed.
    Closed,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest that is there and not taken.
    Oldest,
    /// With what comes from now on.
    Now,
}

/// Something that can be followed.
pub(crate) struct Follower {
    object: ObjectView,
    kind: Kind,
}

enum Kind {
    Spsc(Spsc),
    Mpmc(Slotted),
    Broadcast(Slotted),
    Lanes(Lanes),
    Records(Box<Watcher<ReadOnly>>),
    Journal {
        log: Box<Log<ReadOnly>>,
        at: u64,
    },
    Latest {
        register: Register<ReadOnly>,
        size: usize,
        version: u64,
    },
}

impl Follower {
    /// Follows the object.
    pub(crate) fn new(object: ObjectView, start: Start) -> Result<Self> {
        let tag = crate::show::tag(object.entry().kind);
        let shown = crate::show::plain(&object.entry().name);
        let version = object.entry().version;
        let misfit = || format!("{shown:?} is damaged: what the directory says does not fit");
        if !super::kinds::is_known(&tag, version) {
            bail!("version {version} of the kind {tag:?} is not known to this program");
        }
        let kind = match &*tag {
            "spsc" => Kind::Spsc(Spsc::new(&object, start).with_context(misfit)?),
            "mpmc" => Kind::Mpmc(Slotted::mpmc(&object, start).with_context(misfit)?),
            "bcast" => Kind::Broadcast(Slotted::broadcast(&object, start).with_context(misfit)?),
            "bcastbyt" => Kind::Records(watcher(&object, start).with_context(misfit)?),
            "bytes" | "lanes" | "channel" => {
                Kind::Lanes(Lanes::new(&object, start).with_context(misfit)?)
            }
            "journal" => {
                let log = Box::new(journal_log(&object).with_context(misfit)?);
                let at = match start {
                    Start::Oldest => log.start(),
                    Start::Now => log.end(),
                };
                Kind::Journal { log, at }
            }
            "latest" => {
                let size = Decoder::new(&object.entry().schema)
                    .with_context(misfit)?
                    .size();
                let register = Register::new(object.area(), size).with_context(misfit)?;
                let version = match start {
                    Start::Oldest => 0,
                    Start::Now => register.version(),
                };
                Kind::Latest {
                    register,
                    size,
                    version,
                }
            }
            _ => bail!(
                "{shown:?} is of the kind {tag:?}, which has nothing to follow; `ipc inspect --fields` shows values that stay"
            ),
        };
        Ok(Self { object, kind })
    }

    /// Whether there is something to follow in objects of this kind.
    pub(crate) fn can(kind: [u8; 8]) -> bool {
        let kinds = [
            "spsc", "mpmc", "bcast", "bcastbyt", "bytes", "lanes", "channel", "journal", "latest",
        ];
        kinds.contains(&&*crate::show::tag(kind))
    }

    pub(crate) fn object(&self) -> &ObjectView {
        &self.object
    }

    /// The next message, copied to `into`. Never waits.
    pub(crate) fn next(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        match &mut self.kind {
            Kind::Spsc(ring) => ring.next(into),
            Kind::Mpmc(ring) => ring.next_mpmc(into),
            Kind::Broadcast(ring) => ring.next_broadcast(into),
            Kind::Lanes(lanes) => lanes.next(into),
            Kind::Records(watcher) => next_record(watcher, into),
            Kind::Journal { log, at } => match log.read(*at, into) {
                Ok(Some(range)) => {
                    *at = range.end;
                    Ok(Next::Record {
                        position: range.start,
                        lane: None,
                    })
                }
                Ok(None) | Err(JournalError::Pending(_)) => Ok(Next::Nothing),
                Err(JournalError::Trimmed { start }) => {
                    let missed = start.wrapping_sub(*at);
                    *at = start;
                    Ok(Next::Missed(missed))
                }
                Err(error) => Err(error.into()),
            },
            Kind::Latest {
                register,
                size,
                version,
            } => {
                if register.version() == *version {
                    return Ok(Next::Nothing);
                }
                into.resize(*size, 0);
                match register.read(into) {
                    Some(newer) if newer > *version => {
                        *version = newer;
                        Ok(Next::Record {
                            position: newer,
                            lane: None,
                        })
                    }
                    _ => Ok(Next::Nothing),
                }
            }
        }
    }
}

fn corrupt<T>() -> Result<T> {
    bail!("its words contradict each other: the ring is damaged, or somebody writes rubbish to it")
}

struct Spsc {
    tail: Word64<ReadOnly>,
    head: Word64<ReadOnly>,
    closed: Word32<ReadOnly>,
    slots: Slots<ReadOnly>,
    at: u64,
}

impl Spsc {
    fn new(object: &ObjectView, start: Start) -> Result<Self> {
        let area = object.area();
        let [capacity, stride] = object.entry().parameters;
        let (tail, head) = (area.word64(0)?, area.word64(128)?);
        let at = match start {
            Start::Oldest => head.load(Acquire),
            Start::Now => tail.load(Acquire),
        };
        Ok(Self {
            closed: area.word32(260)?,
            slots: area.slots(640, stride as usize, capacity as usize)?,
            tail,
            head,
            at,
        })
    }

    fn next(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        // ORDERING: Acquire pairs with the Release in the producer's `close`: what was pushed before is seen below.
        let closed = self.closed.load(Acquire) != 0;
        let capacity = self.slots.count() as u64;
        // ORDERING: Acquire pairs with the Release of the producer: the message is seen with the position.
        let tail = self.tail.load(Acquire);
        match tail.wrapping_sub(self.at) {
            0 if closed => return Ok(Next::Closed),
            0 => return Ok(Next::Nothing),
            ahead if ahead > capacity => return self.skip(),
            _ => {}
        }
        into.resize(self.slots.width(), 0);
        self.slots.read(self.at, into);
        // What the copy may have met is looked for behind it.
        self.slots.memory().fence(Acquire);
        if is_whole(
            self.at,
            self.head.load(Relaxed),
            self.tail.load(Relaxed),
            capacity,
        ) {
            self.at = self.at.wrapping_add(1);
            return Ok(Next::Record {
                position: self.at.wrapping_sub(1),
                lane: None,
            });
        }
        self.skip()
    }

    /// Goes on where nothing is overwritten for now.
    fn skip(&mut self) -> Result<Next> {
        let capacity = self.slots.count() as u64;
        for _ in 0..RETRIES {
            // The head first: it never passes a tail that is loaded later. Both may run on meanwhile; then once more.
            let head = self.head.load(Acquire);
            let ahead = self.tail.load(Acquire).wrapping_sub(head);
            if ahead <= capacity {
                let next = match ahead < capacity / 2 {
                    true => head.wrapping_add(ahead).wrapping_sub(capacity / 2),
                    false => head,
                };
                let next = later(next, self.at.wrapping_add(1));
                let missed = next.wrapping_sub(self.at);
                self.at = next;
                return match missed <= u64::MAX / 2 && !is_behind(head.wrapping_add(ahead), next) {
                    true => Ok(Next::Missed(missed)),
                    false => corrupt(),
                };
            }
        }
        corrupt()
    }
}

/// How often positions are loaded again that do not fit each other.
const RETRIES: u32 = 16;

fn later(a: u64, b: u64) -> u64 {
    if is_behind(a, b) { b } else { a }
}

fn is_behind(a: u64, b: u64) -> bool {
    (b.wrapping_sub(a) as i64) > 0
}

/// Whether what lies at `at` had not been overwritten when the positions were loaded; see the head of this file.
fn is_whole(at: u64, head: u64, tail: u64, capacity: u64) -> bool {
    !is_behind(at, head) || tail.wrapping_sub(at) <= capacity / 2
}

/// Rings whose slots say which message they hold: `mpmc` and `broadcast`.
struct Slotted {
    tail: Word64<ReadOnly>,
    closed: Word32<ReadOnly>,
    words: Words<ReadOnly>,
    payload: Slots<ReadOnly>,
    geometry: Geometry,
    at: u64,
    /// Steps without a message, one after the other.
    skips: u64,
}

impl Slotted {
    fn new(object: &ObjectView, slots: usize, closed: usize) -> Result<Self> {
        let area = object.area();
        let [capacity, second] = object.entry().parameters;
        // Its upper half is the patience of a `broadcast` ring.
        let (capacity, stride) = (capacity as usize, second as u32 as usize);
        let slots = area.slots(slots, stride, capacity)?;
        let schema = ipc_core::layout::Schema::parse(&object.entry().schema);
        // Without a layout, everything behind the word.
        let (offset, size) = match &schema {
            Ok(schema) => ((schema.align() as usize).max(8), schema.size() as usize),
            Err(_) => (8, stride.saturating_sub(8)),
        };
        Ok(Self {
            tail: area.word64(0)?,
            closed: area.word32(closed)?,
            words: slots.words(0)?,
            payload: slots.part(offset, size)?,
            geometry: Geometry::new(capacity).context("its capacity is no power of two")?,
            at: 0,
            skips: 0,
        })
    }

    fn mpmc(object: &ObjectView, start: Start) -> Result<Self> {
        let mut ring = Self::new(object, 512, 260)?;
        ring.at = match start {
            Start::Oldest => object.area().word64(128)?.load(Acquire),
            Start::Now => ring.tail.load(Acquire),
        };
        Ok(ring)
    }

    fn broadcast(object: &ObjectView, start: Start) -> Result<Self> {
        let mut ring = Self::new(object, 4608, 132)?;
        let tail = ring.tail.load(Acquire);
        ring.at = match start {
            Start::Now => tail,
            // Before the first lap there are fewer.
            Start::Oldest => tail.saturating_sub(ring.payload.count() as u64),
        };
        Ok(ring)
    }

    fn copy(&self, into: &mut Vec<u8>) {
        into.resize(self.payload.width(), 0);
        self.payload.read(self.at, into);
        // What the copy may have met is looked for behind it.
        self.payload.memory().fence(Acquire);
    }

    fn taken(&mut self) -> Next {
        self.skips = 0;
        self.at = self.at.wrapping_add(1);
        Next::Record {
            position: self.at.wrapping_sub(1),
            lane: None,
        }
    }

    /// The message at our position is not there yet.
    fn not_yet(&self, closed: bool) -> Next {
        match closed {
            true => Next::Closed,
            false => Next::Nothing,
        }
    }

    fn skip(&mut self) -> Result<Next> {
        let capacity = self.payload.count() as u64;
        self.skips += 1;
        // Whoever is as fast as the producers meets a message within a lap or two.
        if self.skips > 4 * capacity + 1024 {
            return corrupt();
        }
        let next = self.tail.load(Acquire).wrapping_sub(capacity / 2);
        let next = later(next, self.at.wrapping_add(1));
        let missed = next.wrapping_sub(self.at);
        self.at = next;
        Ok(Next::Missed(missed))
    }

    fn next_mpmc(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        let closed = self.closed.load(Acquire) != 0;
        // ORDERING: Acquire pairs with the Release of the producer: the message is seen with the word.
        let state = State(self.words.load(self.at, Acquire));
        let holds = |state: State, at| {
            let ahead = self.geometry.laps_ahead(state, at);
            // Taken, and not yet written over, is as good.
            ahead == 0 && matches!(state.phase(), Phase::Full | Phase::Reading)
                || ahead == 1 && state.phase() == Phase::Free
        };
        if !holds(state, self.at) {
            return match self.geometry.laps_ahead(state, self.at) {
                ahead if ahead > 0 => self.skip(),
                _ => Ok(self.not_yet(closed && state.phase() == Phase::Free)),
            };
        }
        self.copy(into);
        let again = State(self.words.load(self.at, Relaxed));
        if holds(again, self.at) {
            Ok(self.taken())
        } else {
            self.skip()
        }
    }

    fn next_broadcast(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        let closed = self.closed.load(Acquire) != 0;
        let full = ipc_ring::broadcast::full(self.at);
        // ORDERING: Acquire pairs with the Release of the producer: the message is seen with the word.
        let word = self.words.load(self.at, Acquire);
        if word != full {
            return match is_behind(full, word) {
                true => self.skip(),
                false => Ok(self.not_yet(closed)),
            };
        }
        self.copy(into);
        if self.words.load(self.at, Relaxed) == full {
            Ok(self.taken())
        } else {
            self.skip()
        }
    }
}

/// A reader of a `broadcast_bytes` ring that the producer knows nothing of.
fn watcher(object: &ObjectView, start: Start) -> Result<Box<Watcher<ReadOnly>>> {
    let capacity = usize::try_from(object.entry().parameters[0])?;
    let ring = broadcast_bytes::Shared::new(object.area(), capacity)?;
    let start = match start {
        Start::Oldest => broadcast_bytes::Start::Oldest,
        Start::Now => broadcast_bytes::Start::Newest,
    };
    match ring.watcher(start, false) {
        Ok(watcher) => Ok(Box::new(watcher)),
        Err(_) => corrupt(),
    }
}

fn next_record(watcher: &mut Watcher<ReadOnly>, into: &mut Vec<u8>) -> Result<Next> {
    let copied = watcher.try_next().and_then(|record| {
        let position = record.start();
        into.resize(record.len(), 0);
        watcher.read(&record, 0, into);
        watcher.commit(record).map(|()| position)
    });
    match copied {
        Ok(position) => Ok(Next::Record {
            position,
            lane: None,
        }),
        Err(Refusal::Lagged(missed)) => Ok(Next::Missed(missed)),
        Err(Refusal::Closed) => Ok(Next::Closed),
        Err(Refusal::Corrupt) => corrupt(),
        Err(_) => Ok(Next::Nothing),
    }
}

/// Rings of records in bytes.
struct Lanes {
    lanes: Vec<Lane>,
    closed: Word32<ReadOnly>,
    turn: usize,
}

struct Lane {
    tail: Word64<ReadOnly>,
    head: Word64<ReadOnly>,
    /// Bytes of the arena.
    arena: Slots<ReadOnly>,
    at: u64,
}

impl Lanes {
    fn new(object: &ObjectView, start: Start) -> Result<Self> {
        let area = object.area();
        let [capacity, lanes] = object.entry().parameters.map(|number| number as usize);
        let size = capacity
            .checked_add(512)
            .and_then(|size| size.checked_next_multiple_of(128))
            .context("its capacity is too large")?;
        let lane = |index: usize| {
            let at = index.checked_mul(size).and_then(|at| at.checked_add(256));
            let lane = area.part(at.context("it has too many lanes")?, size)?;
            let (tail, head) = (lane.word64(0)?, lane.word64(128)?);
            anyhow::Ok(Lane {
                at: match start {
                    Start::Oldest => head.load(Acquire),
                    Start::Now => tail.load(Acquire),
                },
                tail,
                head,
                arena: lane.slots(512, 1, capacity)?,
            })
        };
        Ok(Self {
            lanes: (0..lanes).map(lane).collect::<Result<_>>()?,
            closed: area.word32(4)?,
            turn: 0,
        })
    }

    fn next(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        let closed = self.closed.load(Acquire) != 0;
        let count = self.lanes.len();
        for _ in 0..count {
            let index = self.turn % count;
            match self.lanes[index].next(into)? {
                Next::Record { position, .. } => {
                    let lane = (count > 1).then_some(index);
                    return Ok(Next::Record { position, lane });
                }
                Next::Missed(missed) => return Ok(Next::Missed(missed)),
                _ => self.turn = (index + 1) % count,
            }
        }
        Ok(if closed { Next::Closed } else { Next::Nothing })
    }
}

impl Lane {
    fn next(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        let capacity = self.arena.count() as u64;
        // ORDERING: Acquire pairs with the Release of the producer: the record is seen with the position.
        let tail = self.tail.load(Acquire);
        let published = tail.wrapping_sub(self.at);
        match published {
            0 => return Ok(Next::Nothing),
            _ if published > capacity || !self.at.is_multiple_of(8) => {
                return self.skip(tail, capacity);
            }
            _ => {}
        }
        let mut header = [0; 8];
        self.arena.read_run(self.at, &mut header);
        let [len, skip] = [0, 4].map(|at| {
            let mut word = [0; 4];
            word.copy_from_slice(&header[at..at + 4]);
            u64::from(u32::from_ne_bytes(word))
        });
        let payload = self.at.wrapping_add(8 + skip);
        let extent = 8 + skip + len.next_multiple_of(8);
        let before_seam = capacity - (payload & (capacity - 1));
        let sound = skip.is_multiple_of(8) && extent <= published && len <= before_seam;
        if sound {
            into.resize(len as usize, 0);
            self.arena.read_run(payload, into);
        }
        // What the copies may have met is looked for behind them.
        self.arena.memory().fence(Acquire);
        let (head, newer) = (self.head.load(Relaxed), self.tail.load(Relaxed));
        if !is_whole(self.at, head, newer, capacity) {
            return self.skip(newer, capacity);
        }
        if !sound {
            return corrupt();
        }
        let position = self.at;
        self.at = self.at.wrapping_add(extent);
        Ok(Next::Record {
            position,
            lane: None,
        })
    }

    /// Goes on at the head, where a record begins.
    fn skip(&mut self, tail: u64, capacity: u64) -> Result<Next> {
        let head = self.head.load(Acquire);
        if tail.wrapping_sub(head) > capacity && !is_behind(tail, head) || !is_behind(self.at, head)
        {
            return corrupt();
        }
        let missed = head.wrapping_sub(self.at);
        self.at = head;
        Ok(Next::Missed(missed))
    }
}
