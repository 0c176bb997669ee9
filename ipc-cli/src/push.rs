//! The producer's end of a ring whose messages are known by their bytes alone.
//!
//! The handles of the library are made for a type. What is replayed has only a layout, which was compared with that of
//! the ring before; so this works with the algorithm's sides, as the handles do.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipc_core::Mapped;
use ipc_core::layout::Schema;
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Object, Segment};
use ipc_ring::bytes::SendRecords;
use ipc_ring::journal::{self, Journal, JournalError};
use ipc_ring::role::Role;
use ipc_ring::side::{Refusal, SendSide, Whole};
use ipc_ring::{broadcast, broadcast_bytes, bytes, channel, lanes, mpmc, spsc};

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Done,
    /// There is no room for now.
    Full,
}

/// The producer's end, given back on drop.
pub(crate) struct Pusher {
    segment: Segment,
    me: ParticipantId,
    role: Option<Role<Mapped>>,
    end: Box<dyn Push>,
}

/// What is needed here of an end, whatever its kind: the traits of sides cannot be made objects.
trait Push {
    fn try_push(&mut self, message: &[u8]) -> Result<Result<(), Refusal>>;
    fn close(&self);
    fn leave(&mut self) {}
}

/// Messages of one size.
struct Typed<S> {
    side: S,
    size: usize,
}

impl<S: SendSide> Push for Typed<S> {
    fn try_push(&mut self, message: &[u8]) -> Result<Result<(), Refusal>> {
        let (size, len) = (self.size, message.len());
        ensure!(
            len == size,
            "a message of {len} bytes does not fit a ring of messages of {size} bytes"
        );
        Ok(self.side.try_push_one(message))
    }

    fn close(&self) {
        self.side.whole().close();
    }

    fn leave(&mut self) {
        self.side.leave();
    }
}

/// Records of any length.
struct Records<S>(S);

impl<S: SendRecords> Push for Records<S> {
    fn try_push(&mut self, message: &[u8]) -> Result<Result<(), Refusal>> {
        let (longest, len) = (self.0.whole().capacity() / 2, message.len());
        ensure!(
            len <= longest,
            "a record of {len} bytes does not fit a ring of records of {longest} bytes at most"
        );
        Ok(self.0.try_reserve(len).map(|place| {
            self.0.write(&place, 0, message);
            self.0.commit(place);
        }))
    }

    fn close(&self) {
        self.0.whole().close();
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}

impl Push for Journal {
    fn try_push(&mut self, message: &[u8]) -> Result<Result<(), Refusal>> {
        match self.append(message) {
            Ok(_) => Ok(Ok(())),
            Err(JournalError::Full) => Ok(Err(Refusal::NotYet)),
            Err(error) => Err(error.into()),
        }
    }

    /// A journal has no end.
    fn close(&self) {}
}

/// Refuses what this program cannot push into: another kind, or another version of one.
pub(crate) fn check(kind: [u8; 8], version: u32) -> Result<()> {
    const KNOWN: [([u8; 8], u32); 8] = [
        (broadcast::KIND.tag, broadcast::VERSION),
        (broadcast_bytes::KIND.tag, broadcast_bytes::VERSION),
        (bytes::KIND.tag, bytes::VERSION),
        (channel::KIND.tag, channel::VERSION),
        (journal::KIND.tag, journal::VERSION),
        (lanes::KIND.tag, lanes::VERSION),
        (mpmc::KIND.tag, mpmc::VERSION),
        (spsc::KIND.tag, spsc::VERSION),
    ];
    let tag = crate::show::tag(kind);
    match KNOWN.iter().find(|(known, _)| *known == kind) {
        Some((_, known)) => ensure!(
            *known == version,
            "it is of version {version} of the kind {tag:?}, and this program knows version {known}"
        ),
        None => bail!("nothing can be replayed into the kind {tag:?}"),
    }
    Ok(())
}

impl Pusher {
    /// Takes the producer's end of the ring in `object`.
    pub(crate) fn new(object: &Object) -> Result<Self> {
        let segment = object.segment().clone();
        segment.learn(ipc_ring::KINDS);
        let me = segment.participant()?;
        let (entry, area) = (object.entry(), object.area());
        let [capacity, second] = entry.parameters;
        let capacity = usize::try_from(capacity)?;
        let misfit = "what the directory says of the ring does not fit";
        let damaged = |_| anyhow!("the ring is damaged: its positions contradict each other");
        let schema = Schema::parse(&entry.schema);
        let sized = || match &schema {
            Ok(schema) => Ok((usize::try_from(schema.size())?, schema.align() as usize)),
            Err(error) => Err(anyhow!("the layout of its messages is damaged: {error}")),
        };
        // As `docs/layout.md` draws the parameters.
        let patience = |word: u64| word.checked_sub(1).map(Duration::from_millis);
        let (role, end): (_, Box<dyn Push>) = match entry.kind {
            tag if tag == spsc::KIND.tag => {
                let (size, _) = sized()?;
                ensure!(usize::try_from(second)? == size, misfit);
                let ring = spsc::Shared::new(area, capacity, size).context(misfit)?;
                let role = claim(&segment, ring.producer(), me)?;
                let side = ring.sender().map_err(damaged)?;
                (Some(role), Box::new(Typed { side, size }))
            }
            tag if tag == mpmc::KIND.tag => {
                let (size, align) = sized()?;
                let ring = mpmc::Shared::new(area, capacity, size, align).context(misfit)?;
                let side = ring.sender(me);
                (None, Box::new(Typed { side, size }))
            }
            tag if tag == broadcast::KIND.tag => {
                let (size, align) = sized()?;
                let ring = broadcast::Shared::new(area, capacity, size, align).context(misfit)?;
                let ring = ring.with_patience(patience(second >> 32));
                let role = claim(&segment, ring.producer(), me)?;
                let side = ring.sender();
                (Some(role), Box::new(Typed { side, size }))
            }
            tag if tag == broadcast_bytes::KIND.tag => {
                let ring = broadcast_bytes::Shared::new(area, capacity).context(misfit)?;
                let ring = ring.with_patience(patience(second));
                let role = claim(&segment, ring.producer(), me)?;
                let side = ring.sender().map_err(damaged)?;
                (Some(role), Box::new(Records(side)))
            }
            tag if [bytes::KIND.tag, lanes::KIND.tag, channel::KIND.tag].contains(&tag) => {
                let lanes = usize::try_from(second)?;
                ensure!(lanes <= lanes::MAX_LANES, misfit);
                let ring = bytes::Shared::new(area, lanes, capacity).context(misfit)?;
                let free = (0..lanes).find_map(|lane| {
                    let role = claim(&segment, ring.producer(lane), me).ok()?;
                    Some((lane, role))
                });
                let (lane, role) = free.with_context(|| match lanes {
                    1 => HAS_A_PRODUCER,
                    _ => "every lane has a producer that lives; end one of them first",
                })?;
                let side = ring.sender(lane).map_err(damaged)?;
                (Some(role), Box::new(Records(side)))
            }
            tag if tag == journal::KIND.tag => {
                let journal = Journal::in_segment(&segment, &entry.name)?;
                (None, Box::new(journal))
            }
            tag => bail!(
                "nothing can be replayed into the kind {:?}",
                crate::show::tag(tag)
            ),
        };
        Ok(Self {
            segment,
            me,
            role,
            end,
        })
    }

    /// Pushes a message if there is room.
    pub(crate) fn try_push(&mut self, message: &[u8]) -> Result<Pushed> {
        match self.end.try_push(message)? {
            Ok(()) => Ok(Pushed::Done),
            Err(Refusal::NotYet) => Ok(Pushed::Full),
            Err(Refusal::Watch(other) | Refusal::Held(other)) => {
                self.segment.recover(other);
                Ok(Pushed::Full)
            }
            Err(Refusal::Closed) => bail!("the ring is closed"),
            Err(_) => bail!("the ring is damaged: its words contradict each other"),
        }
    }

    /// Closes the ring for good; a journal has no end.
    pub(crate) fn close(&self) {
        self.end.close();
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.end.leave();
        if let Some(role) = &self.role {
            role.give_up(self.me);
        }
    }
}

const HAS_A_PRODUCER: &str = "it has a producer that lives; end that one first";

/// Takes the role; clears up after a holder that has died.
fn claim(segment: &Segment, role: &Role<Mapped>, me: ParticipantId) -> Result<Role<Mapped>> {
    for _ in 0..2 {
        match role.claim(me) {
            Ok(()) => return Ok(role.clone()),
            Err(holder) => segment.recover(holder),
        };
    }
    bail!(HAS_A_PRODUCER)
}
