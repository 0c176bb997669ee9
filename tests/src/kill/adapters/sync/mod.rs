//! Locks, registers and counters.

mod cases;
mod look;
mod prepare;
mod stage;

use anyhow::Result;
use ipc_core::segment::Segment;
use ipc_core::sync::{Attach, Latest, Mutex, ONLY, Once, RwLock, Semaphore, Sequence};

use super::still::Inspect;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

/// What a victim writes.
const NEW: u64 = 100;

/// The kinds, by the names they have in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Mutex,
    RwLock,
    Semaphore,
    Latest,
    Once,
    Sequence,
}

impl Adapter for Sync {
    fn kind(&self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::RwLock => "rwlock",
            Self::Semaphore => "semaphore",
            Self::Latest => "latest",
            Self::Once => "once",
            Self::Sequence => "sequence",
        }
    }

    fn account(&self) -> &'static str {
        match self {
            Self::Mutex | Self::RwLock => {
                "Whoever takes the lock next clears up after the dead holder, and is told `OwnerDied` with the lock in hand: \
                 the value may be half changed. It repairs the value and says `mark_consistent`. A reader that dies leaves \
                 nothing to repair; a writer that waits for it finds out within 75 ms."
            }
            Self::Semaphore => {
                "A permit names its holder. Whoever finds none left learns within 75 ms when one who holds them dies, and \
                 gives back what the dead held. Nobody is told."
            }
            Self::Latest => {
                "A value is set by one store behind it; until then readers get the one before, and are never held up. The \
                 next writer clears up after a dead one, and is told nothing, since nothing is half done."
            }
            Self::Once => {
                "If the one who runs it dies in it, the next caller runs it again and is told so by `OnceRun::is_again`."
            }
            Self::Sequence => {
                "One instruction draws a number. A number drawn by the dead is not drawn again."
            }
        }
    }

    fn cases(&self) -> Vec<Case> {
        cases::cases(*self)
    }

    fn pairs(&self) -> Vec<Pair> {
        cases::pairs(*self)
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        stage::stage(*self, case)
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        prepare::prepare(*self, case, ground.segment())
    }

    fn perform(&self, case: &Case, ground: &Ground, mark: &dyn Fn()) -> Result<()> {
        if case.operation != "end call" {
            let mut act = self.prepare(case, ground)?;
            mark();
            let done = act();
            mark();
            return done;
        }
        // It begins in the middle, so that somebody can wait for the end.
        Once::in_segment(ground.segment(), ONLY)?.call(|_| mark())?;
        mark();
        Ok(())
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        // Attaching joins, and teaches the segment.
        self.teach(ground.segment())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        (self.inspection())(case, ground)
    }
}

impl Sync {
    fn teach(self, segment: &Segment) -> Result<()> {
        match self {
            Self::Mutex => drop(Mutex::<Parcel>::in_segment(segment, ONLY)?),
            Self::RwLock => drop(RwLock::<Parcel>::in_segment(segment, ONLY)?),
            Self::Semaphore => drop(Semaphore::in_segment(segment, ONLY)?),
            Self::Latest => drop(Latest::<Parcel>::in_segment(segment, ONLY)?),
            Self::Once => drop(Once::in_segment(segment, ONLY)?),
            Self::Sequence => drop(Sequence::in_segment(segment, ONLY)?),
        }
        Ok(())
    }

    fn inspection(self) -> Inspect {
        match self {
            Self::Mutex => look::mutex,
            Self::RwLock => look::rwlock,
            Self::Semaphore => look::semaphore,
            Self::Latest => look::latest,
            Self::Once => look::once,
            Self::Sequence => look::sequence,
        }
    }
}
