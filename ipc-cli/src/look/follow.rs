//! Following a ring, a journal or a register as an observer: by loads alone, without a role, a row or a slot.
//!
//! Nobody waits for an observer, so it may be overtaken. What it hands out was whole when it was copied:
//!
//! - rings: the library says so, see [`ipc_ring::Follower`].
//! - `latest`: the word of the slot was looked at before and after the copy.
//! - `journal`: the checksum of the record.

use anyhow::{Context, Result, bail};
use ipc_core::ReadOnly;
use ipc_core::segment::ObjectView;
use ipc_core::sync::Register;
use ipc_ring::journal::JournalError;
use ipc_ring::journal::protocol::Log;
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
            "spsc" | "mpmc" | "bcast" | "bcastbyt" | "bytes" | "lanes" | "channel" => {
                Kind::Followed(Followed::new(&object, start)?)
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
            Kind::Followed(ring) => ring.next(into),
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
