//! Following a ring, a journal or a register as an observer: by loads alone, without a role, a row or a slot.
//!
//! Nobody waits for an observer, so it may be overtaken. What it hands out was whole when it was copied:
//!
//! - `mpmc`, `broadcast`, `latest`: the word of the slot was looked at before and after the copy.
//! - `broadcast_bytes`: a reader that may miss records only loads, so it is one of those.
//! - `journal`: the checksum of the record.
//! - `spsc` and the rings of bytes: the producer shows which messages it may write over. What was taken is shown as long as
//!   it is not one of these.
//!
//! In `mpmc`, a place that was given back is one whose message was taken, or one that never held any: a producer died there,
//! or did not push what it had reserved. Nobody can tell them apart. It is shown, unless the ring is closed, where every
//! push that comes too late gives a place back.

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
use ipc_ring::{Observer, PopError};

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
    /// So many were overwritten before they could be copied; of a journal, bytes.
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
    Followed(Followed),
    Mpmc(Slotted),
    Broadcast(Slotted),
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
            "spsc" | "bytes" | "lanes" | "channel" => {
                Kind::Followed(Followed::new(&object, start)?)
            }
            "mpmc" => Kind::Mpmc(Slotted::mpmc(&object, start).with_context(misfit)?),
            "bcast" => Kind::Broadcast(Slotted::broadcast(&object, start).with_context(misfit)?),
            "bcastbyt" => Kind::Records(watcher(&object, start).with_context(misfit)?),
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
            Kind::Followed(ring) => ring.next(into),
            Kind::Mpmc(ring) => ring.next_mpmc(into),
            Kind::Broadcast(ring) => ring.next_broadcast(into),
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

/// Rings that the library follows.
struct Followed {
    follower: ipc_ring::Follower,
    /// Where it is in each lane.
    at: Vec<u64>,
    /// How often it was overtaken since there was a message, or none.
    misses: u32,
}

/// So often nobody is overtaken but by somebody who writes rubbish.
const MOST_MISSES: u32 = 1 << 20;

impl Followed {
    fn new(object: &ObjectView, start: Start) -> Result<Self> {
        let ring = Observer::in_segment(object.segment(), &object.entry().name)?;
        let follower = match start {
            Start::Oldest => ring.follow_from_oldest(),
            Start::Now => ring.follow(),
        };
        let mut followed = Self {
            at: Vec::new(),
            misses: 0,
            follower,
        };
        followed.catch_up();
        Ok(followed)
    }

    fn catch_up(&mut self) {
        let lanes = 0..self.follower.lanes();
        self.at = lanes
            .filter_map(|lane| self.follower.position(lane))
            .collect();
    }

    fn next(&mut self, into: &mut Vec<u8>) -> Result<Next> {
        let misses = std::mem::take(&mut self.misses);
        match self.follower.try_next(into) {
            Ok(lane) => {
                let next = self.follower.position(lane).unwrap_or_default();
                Ok(Next::Record {
                    position: std::mem::replace(&mut self.at[lane], next),
                    lane: (self.at.len() > 1).then_some(lane),
                })
            }
            Err(PopError::Lagged(missed)) if misses < MOST_MISSES => {
                self.misses = misses + 1;
                self.catch_up();
                Ok(Next::Missed(missed))
            }
            Err(PopError::Lagged(_) | PopError::Corrupt) => corrupt(),
            Err(PopError::Closed) => Ok(Next::Closed),
            Err(_) => Ok(Next::Nothing),
        }
    }
}

fn later(a: u64, b: u64) -> u64 {
    if is_behind(a, b) { b } else { a }
}

fn is_behind(a: u64, b: u64) -> bool {
    (b.wrapping_sub(a) as i64) > 0
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
        let half = self.payload.count() as u64 / 2;
        let next = self.tail.load(Acquire).wrapping_sub(half);
        let next = later(next, self.at.wrapping_add(1));
        self.miss(next.wrapping_sub(self.at))
    }

    fn miss(&mut self, missed: u64) -> Result<Next> {
        self.skips += 1;
        // Whoever is as fast as the producers meets a message within a lap or two.
        if self.skips > 4 * self.payload.count() as u64 + 1024 {
            return corrupt();
        }
        self.at = self.at.wrapping_add(missed);
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
        // ORDERING: Relaxed; whoever gave the place back because the ring was closed had seen that before it stored the
        // word above.
        if state.phase() == Phase::Free && self.closed.load(Relaxed) != 0 {
            return self.miss(1);
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
