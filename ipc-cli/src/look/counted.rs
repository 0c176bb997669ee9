//! What was counted in a ring, and by whom.

use ipc_core::segment::ObjectView;
use ipc_ring::role::Holder;
use ipc_ring::side::End;
use ipc_ring::{Counters, Observer};
use serde::Serialize;

/// What was counted at each end of a ring.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Counted {
    /// By all producers together, ever.
    pub(crate) produced: Counts,
    /// By all consumers together, ever.
    pub(crate) consumed: Counts,
    pub(crate) parties: Vec<Party>,
}

/// A place at an end of a ring that was ever taken.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Party {
    pub(crate) end: &'static str,
    pub(crate) index: usize,
    /// Who has it; `None` if the last one has left or died.
    pub(crate) participant: Option<u16>,
    /// By the one who has it, or had it last.
    pub(crate) now: Counts,
    /// By all who ever had it.
    pub(crate) ever: Counts,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) full: u64,
    pub(crate) empty: u64,
    pub(crate) waits: u64,
    pub(crate) wake_ups: u64,
    pub(crate) lagged: u64,
    pub(crate) recovered: u64,
}

impl Counted {
    /// That of a ring. `None` of what is no ring, or damaged.
    pub(super) fn of(object: &ObjectView) -> Option<Self> {
        let observer = Observer::in_segment(object.segment(), &object.entry().name).ok()?;
        let all = observer.statistics();
        let party = |party: &ipc_ring::Party| Party {
            end: match party.end {
                End::Producer => "producer",
                End::Consumer => "consumer",
            },
            index: party.index,
            participant: match party.holder {
                Holder::Present(id) => Some(id.get()),
                _ => None,
            },
            now: party.now.into(),
            ever: party.ever.into(),
        };
        Some(Self {
            produced: all.produced.into(),
            consumed: all.consumed.into(),
            parties: all.parties.iter().map(party).collect(),
        })
    }
}

impl From<Counters> for Counts {
    fn from(counters: Counters) -> Self {
        Self {
            messages: counters.messages,
            bytes: counters.bytes,
            full: counters.full,
            empty: counters.empty,
            waits: counters.waits,
            wake_ups: counters.wake_ups,
            lagged: counters.lagged,
            recovered: counters.recovered,
        }
    }
}

impl Counts {
    /// How often a producer found no room, or a consumer no message.
    pub(crate) fn refused(&self) -> u64 {
        self.full.wrapping_add(self.empty)
    }

    /// What is more than before; nothing of what goes backwards, in a ring that somebody writes rubbish to.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |now: u64, before: u64| match now.wrapping_sub(before) {
            more if more <= u64::MAX / 2 => more,
            _ => 0,
        };
        Self {
            messages: more(self.messages, before.messages),
            bytes: more(self.bytes, before.bytes),
            full: more(self.full, before.full),
            empty: more(self.empty, before.empty),
            waits: more(self.waits, before.waits),
            wake_ups: more(self.wake_ups, before.wake_ups),
            lagged: more(self.lagged, before.lagged),
            recovered: more(self.recovered, before.recovered),
        }
    }
}
