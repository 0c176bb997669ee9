//! The producer's end of a ring whose messages are known by their bytes alone.
//!
//! The handles of the library are made for a type. What is replayed has only a layout, which was compared with that of
//! the ring before; so this works with the algorithm's sides, as the handles do.

use anyhow::{Context, Result, bail, ensure};
use ipc_core::Mapped;
use ipc_core::memory::Area;
use ipc_core::participant::ParticipantId;
use ipc_core::segment::{Kind, Object, Segment};
use ipc_ring::journal::{self, Journal, JournalError};
use ipc_ring::role::Role;
use ipc_ring::side::{Refusal, SendSide, Side, Whole};
use ipc_ring::{broadcast, bytes, channel, lanes, mpmc, spsc};

use crate::look::values::Decoder;

/// How every kind that this program knows clears up after the dead.
pub(crate) const KINDS: &[Kind] = &[
    broadcast::KIND,
    bytes::KIND,
    channel::KIND,
    journal::KIND,
    lanes::KIND,
    mpmc::KIND,
    spsc::KIND,
    ipc_core::ids::KIND,
];

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
    end: End,
}

enum End {
    /// Messages of one size.
    Typed {
        side: Box<dyn Typed>,
        size: usize,
    },
    Records(Box<bytes::Sender<Mapped>>),
    Journal(Journal),
}

/// What is needed here of a side, whatever its kind: `SendSide` itself cannot be made an object.
trait Typed {
    fn try_push(&mut self, message: &[u8]) -> Result<(), Refusal>;
    fn close(&self);
    fn leave(&mut self);
}

impl<S: SendSide> Typed for S {
    fn try_push(&mut self, message: &[u8]) -> Result<(), Refusal> {
        self.try_push_one(message)
    }

    fn close(&self) {
        self.whole().close();
    }

    fn leave(&mut self) {
        Side::leave(self);
    }
}

impl Pusher {
    /// Takes the producer's end of the ring in `object`.
    pub(crate) fn new(object: &Object) -> Result<Self> {
        let segment = object.segment().clone();
        segment.learn(KINDS);
        let me = segment.participant()?;
        let entry = object.entry();
        let area: &Area<Mapped> = object.area();
        let [first, second] = entry.parameters.map(|number| number as usize);
        let misfit = "what the directory says of the ring does not fit";
        let damaged = |_: Refusal| {
            anyhow::anyhow!("the ring is damaged: its positions contradict each other")
        };
        let decoder = Decoder::new(&entry.schema);
        let size = decoder.as_ref().map(Decoder::size);
        let align = ipc_core::layout::Schema::parse(&entry.schema)
            .map_or(1, |schema| schema.align() as usize);
        let sized = || size.context("the ring says nothing of the size of its messages");
        let (role, end) = match entry.kind {
            tag if tag == spsc::KIND.tag => {
                let ring = spsc::Shared::new(area, first, second).context(misfit)?;
                let role = claim(&segment, ring.producer(), me)?;
                let side = Box::new(ring.sender().map_err(damaged)?);
                (Some(role), End::Typed { side, size: second })
            }
            tag if tag == mpmc::KIND.tag => {
                let size = sized()?;
                let ring = mpmc::Shared::new(area, first, size, align).context(misfit)?;
                let side = Box::new(ring.sender(me));
                (None, End::Typed { side, size })
            }
            tag if tag == broadcast::KIND.tag => {
                let size = sized()?;
                let ring = broadcast::Shared::new(area, first, size, align).context(misfit)?;
                let role = claim(&segment, ring.producer(), me)?;
                let side = Box::new(ring.sender());
                (Some(role), End::Typed { side, size })
            }
            tag if [bytes::KIND.tag, lanes::KIND.tag, channel::KIND.tag].contains(&tag) => {
                ensure!(second <= lanes::MAX_LANES, "{misfit}");
                let ring = bytes::Shared::new(area, second, first).context(misfit)?;
                let free = (0..second).find_map(|lane| {
                    let role = claim(&segment, ring.producer(lane), me).ok()?;
                    Some((lane, role))
                });
                let (lane, role) = free.context("every lane has a producer that lives")?;
                let side = Box::new(ring.sender(lane).map_err(damaged)?);
                (Some(role), End::Records(side))
            }
            tag if tag == journal::KIND.tag => {
                let journal = Journal::in_segment(&segment, &entry.name)?;
                (None, End::Journal(journal))
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
        let pushed = match &mut self.end {
            End::Typed { side, size } => {
                ensure!(
                    message.len() == *size,
                    "a message of {} bytes does not fit a ring of messages of {size} bytes",
                    message.len()
                );
                side.try_push(message)
            }
            End::Records(side) => side.try_reserve(message.len()).map(|place| {
                side.write(&place, 0, message);
                side.commit(place);
            }),
            End::Journal(journal) => {
                return match journal.append(message) {
                    Ok(_) => Ok(Pushed::Done),
                    Err(JournalError::Full) => Ok(Pushed::Full),
                    Err(error) => Err(error.into()),
                };
            }
        };
        match pushed {
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
        match &self.end {
            End::Typed { side, .. } => side.close(),
            End::Records(side) => side.whole().close(),
            End::Journal(_) => {}
        }
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        match &mut self.end {
            End::Typed { side, .. } => side.leave(),
            End::Records(side) => side.leave(),
            End::Journal(_) => {}
        }
        if let Some(role) = &self.role {
            role.give_up(self.me);
        }
    }
}

/// Takes the role; clears up after a holder that has died.
fn claim(segment: &Segment, role: &Role<Mapped>, me: ParticipantId) -> Result<Role<Mapped>> {
    for _ in 0..2 {
        match role.claim(me) {
            Ok(()) => return Ok(role.clone()),
            Err(holder) => segment.recover(holder),
        };
    }
    bail!("it has a producer that lives; end that one first")
}
