//! How steadily a side has been at work, and so how it may wait.
//!
//! A side that has moved many messages without a sleep promises not to sleep for now, which spares its peer a fence. One
//! that has caught up with a stream of messages leaves their lines alone for a moment before it polls: to poll at once
//! would take the line that is being written away from the other side for every single message.

use std::time::Duration;

use ipc_core::event::{Event, Wait};
use ipc_core::memory::Memory;

/// After so many messages without a sleep, a side promises not to sleep for now; and again after as many, should somebody
/// else who waits have withdrawn it. To withdraw it takes about 15 us, which is the fences of as many messages.
const CALM: u64 = 4096;

/// What a side remembers of its own position.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Where it was when it last waited.
    run_since: u64,
    /// Where it was when it last slept, or made the promise.
    calm_since: u64,
}

impl Pace {
    /// Of a side that begins at `position`.
    pub(crate) fn new(position: u64) -> Self {
        Self {
            run_since: position,
            calm_since: position,
        }
    }

    /// Makes the promise not to sleep, if the side has not slept for long.
    #[inline]
    pub(crate) fn stream<M: Memory>(&mut self, event: &Event<M>, position: u64) {
        if position.wrapping_sub(self.calm_since) > CALM && event.start_streaming() {
            self.calm_since = position;
        }
    }

    /// Before a wait: gives a stream that this side has caught up with the time to flow.
    pub(crate) fn before_wait<M: Memory>(
        &self,
        memory: &M,
        position: u64,
        wait: Wait,
        time: Duration,
    ) {
        if position.wrapping_sub(self.run_since) > 1 && wait != Wait::Block {
            let until = memory.now() + time;
            while memory.now() < until {
                memory.pause();
            }
        }
    }

    /// After a wait.
    pub(crate) fn after_wait(&mut self, position: u64, slept: bool) {
        self.run_since = position;
        if slept {
            self.calm_since = position;
        }
    }
}
