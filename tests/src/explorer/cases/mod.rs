//! The cases: what is explored of the library, each with its bounds.

mod audience;
pub mod barrier;
pub mod broadcast;
pub mod broadcast_bytes;
pub mod event;
pub mod lanes;
pub mod mpmc;
pub mod once;
pub mod participant;
pub mod rwlock;
pub mod semaphore;
pub mod spsc;
pub mod sync;

use super::{Case, Report, explore};

/// A case under a name, ready to run.
pub struct Entry {
    /// `object/what happens`.
    pub name: String,
    /// Whether it takes seconds at most, so that the test suite runs it.
    pub quick: bool,
    run: Box<Run>,
}

type Run = dyn Fn(&mut dyn FnMut(usize, usize)) -> Report;

impl Entry {
    fn quick<C: Case + 'static>(name: impl Into<String>, case: C) -> Self {
        let run = Box::new(move |progress: &mut dyn FnMut(usize, usize)| explore(&case, progress));
        Self {
            name: name.into(),
            quick: true,
            run,
        }
    }

    fn long<C: Case + 'static>(name: impl Into<String>, case: C) -> Self {
        Self {
            quick: false,
            ..Self::quick(name, case)
        }
    }

    /// Explores it; `progress` is told now and then how many states there are and how many wait.
    pub fn run(&self, progress: &mut dyn FnMut(usize, usize)) -> Report {
        (self.run)(progress)
    }
}

/// All cases.
pub fn all() -> Vec<Entry> {
    let mut all = event::entries();
    all.extend(participant::entries());
    all.extend(spsc::entries());
    all.extend(broadcast::entries());
    all.extend(broadcast_bytes::entries());
    all.extend(lanes::entries());
    all.extend(mpmc::entries());
    all.extend(sync::entries());
    all.extend(rwlock::entries());
    all.extend(semaphore::entries());
    all.extend(barrier::entries());
    all.extend(once::entries());
    all
}
