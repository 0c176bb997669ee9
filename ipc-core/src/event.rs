//! An event: one word on which processes sleep until another process has published something.
//!
//! What is waited for lies elsewhere, in the positions or slots of a ring. The event only carries the promise that
//! whoever has found nothing and sleeps is woken by whoever publishes something.
//!
//! # Protocol
//!
//! The word is `count << 2 | STREAMING << 1 | SLEEPER`; zero is "nobody sleeps". A sleeper and a publisher do
//!
//! ```text
//! sleeper                                     publisher
//! S1  word := word | SLEEPER                  P1  publish (a store elsewhere)
//! S2  full fence                              P2  full fence
//! S3  look again: published? then leave       P3  word & SLEEPER = 0? then return
//! S4  futex_wait while word is as in S1       P4  word := (word + 1 << 2) & !SLEEPER
//!                                             P5  woken := futex_wake(1); if woken, word := word | SLEEPER
//! ```
//!
//! # No wake-up is lost
//!
//! Take a publication P1 and a sleeper that does not see it in S3. The fences order S1 before S3 and P1 before P3, so
//! either S3 sees P1, or P3 sees the SLEEPER of S1 (Dekker). In the second case some publisher performs P4 after S1,
//! which changes the word: the sleeper has either not slept yet, and S4 returns at once because the word differs from
//! the one in S1, or sleeps, and the futex_wake of P5 comes after S4 and finds it or another sleeper. A sleeper that is
//! left behind by P5 has SLEEPER set again by it, so the next publication wakes it. Every publisher that saw SLEEPER in
//! P3 performs P4 and P5 itself, even if another has cleared the bit meanwhile: two publications wake two sleepers.
//! Where only one process ever waits, P5 sets nothing.
//!
//! # Streaming
//!
//! P2 is dear: it exposes the cache miss of the store in P1, more than doubling the cost of a small message. A waiter
//! that is alone on its event and has not slept for a while sets STREAMING, which promises that it does not sleep; a
//! publisher whose process takes part in `membarrier` then skips P2 and P3: one load and a branch. Before it sleeps the
//! waiter clears STREAMING and makes every running thread of every registered process pass a fence. After that, a
//! publisher either loads the cleared word, and goes through P2, or its P1 is visible to S3. A publisher whose process
//! could not register always fences; one whose waiter cannot call `membarrier` never sees STREAMING.
//!
//! # When a participant dies
//!
//! A sleeper that is killed leaves SLEEPER behind: the next publisher makes one wake-up call that finds nobody, and
//! clears it. A publisher killed between P1 and P5 leaves a sleeper asleep: each sleep is bounded by [`SLICE`], after
//! which the sleeper looks again. A waiter killed while STREAMING leaves that bit: its successor, who is alone on the
//! event just as it was, inherits the promise and withdraws it as above.
//!
//! Sources: the event count of Vyukov and of folly; the asymmetric fence of membarrier(2).

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use crate::memory::{Area, Memory, OutOfArea, Word32};

/// The longest sleep before a waiter looks again, and looks whether its peer lives.
pub const SLICE: Duration = Duration::from_millis(40);

const SLEEPER: u32 = 1;
const STREAMING: u32 = 2;
const ONE: u32 = 4;

/// How to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Poll and never sleep. Lowest latency; takes a whole CPU.
    Spin,
    /// Poll for about as long as a wake-up costs, then sleep.
    #[default]
    Adaptive,
    /// Sleep at once.
    Block,
}

/// One word to sleep on. Does not say what happened: look at what was published.
#[derive(Clone, Debug)]
pub struct Event<M> {
    word: Word32<M>,
    waiters: Waiters,
    /// Whether `STREAMING` spares this process the fence: it takes part in `membarrier`.
    registered: bool,
}

/// How many threads may wait on one event at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiters {
    /// One: the only consumer of a ring, say. It may promise not to sleep.
    One,
    /// Any number.
    Many,
}

impl<M: Memory> Event<M> {
    /// The event whose word is at `at`.
    pub fn new(area: &Area<M>, at: usize, waiters: Waiters) -> Result<Self, OutOfArea> {
        let registered = area.memory().takes_part_in_fences();
        Ok(Self {
            word: area.word32(at)?,
            waiters,
            registered,
        })
    }

    /// The memory, for time.
    pub fn memory(&self) -> &M {
        self.word.memory()
    }

    /// Tells up to `count` waiters that something was published just before. Makes no system call when nobody sleeps.
    #[inline]
    pub fn notify(&self, count: u32) {
        self.notify_by(|| count);
    }

    /// As [`notify`](Self::notify), where it takes a look to know how many may go on. It is taken only if somebody
    /// sleeps, and after the fence, so it sees whatever a sleeper that was refused has seen.
    #[inline]
    pub fn notify_by(&self, count: impl FnOnce() -> u32) {
        // ORDERING: Relaxed; the file's head argues for it, case STREAMING.
        if self.registered && self.word.load(Relaxed) & STREAMING != 0 {
            return;
        }
        // ORDERING: pairs with the fence in `prepare` (P2 with S2).
        self.word.memory().fence(SeqCst);
        if self.word.load(Relaxed) & SLEEPER != 0 {
            self.wake(count());
        }
    }

    /// P4 and P5.
    #[cold]
    fn wake(&self, count: u32) {
        let mut word = self.word.load(Relaxed);
        // ORDERING: Release pairs with the Acquire in `prepare`: a sleeper that finds the new word sees what we published.
        while let Err(found) = self
            .word
            .exchange(word, word.wrapping_add(ONE) & !SLEEPER, Release)
        {
            word = found;
        }
        if self.word.wake(count) > 0 && self.waiters == Waiters::Many {
            self.set(SLEEPER);
        }
    }

    /// S1 and S2: announces a sleep. Look again after it, then [`sleep`](Self::sleep).
    pub fn prepare(&self) -> Prepared {
        let mut word = self.word.load(Acquire);
        if word & STREAMING != 0 {
            word = self.stop_streaming();
        }
        while word & SLEEPER == 0 {
            match self.word.exchange(word, word | SLEEPER, Acquire) {
                Ok(_) => word |= SLEEPER,
                Err(found) => word = found,
            }
        }
        // ORDERING: pairs with the fence in `notify` (S2 with P2).
        self.word.memory().fence(SeqCst);
        Prepared(word)
    }

    /// S4: sleeps unless something was published since `prepare`, at most for `timeout` and for [`SLICE`].
    pub fn sleep(&self, prepared: Prepared, timeout: Duration) {
        self.word.sleep(prepared.0, timeout.min(SLICE));
    }

    /// Promises not to sleep before the next `prepare`, which spares publishers their fence. Does nothing
    /// where there may be several waiters, or where the promise could never be withdrawn.
    pub fn start_streaming(&self) {
        if self.registered
            && self.waiters == Waiters::One
            && self.word.load(Relaxed) & STREAMING == 0
        {
            self.set(STREAMING);
        }
    }

    #[cold]
    fn stop_streaming(&self) -> u32 {
        let mut word = self.word.load(Relaxed);
        while word & STREAMING != 0 {
            match self.word.exchange(word, word & !STREAMING, Relaxed) {
                Ok(_) => word &= !STREAMING,
                Err(found) => word = found,
            }
        }
        // ORDERING: stands for the fence of every publisher that has loaded STREAMING (see the head of this file).
        // Whoever set the bit could make this call; a successor that cannot is left with its bounded sleeps.
        self.word.memory().fence_everyone();
        word
    }

    fn set(&self, bit: u32) {
        let mut word = self.word.load(Relaxed);
        while word & bit == 0 {
            match self.word.exchange(word, word | bit, Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }
}

/// The word under which a sleep was announced.
#[derive(Clone, Copy, Debug)]
pub struct Prepared(u32);

/// What a wait came to.
#[derive(Clone, Copy, Debug)]
pub struct Waited<T> {
    /// What was waited for; nothing if the deadline came first.
    pub got: Option<T>,
    /// Whether it took a sleep.
    pub slept: bool,
}

/// Repeats `attempt` until it gives something, waiting on `event` in between as `wait` says.
///
/// Gives nothing when `deadline`, in the time of [`Memory::now`], has come; `attempt` is made at least once. About every
/// [`SLICE`] of waiting, and before it gives up, `look_around` is called, to find out whether whoever is waited for still
/// lives; an error from either ends the wait.
pub fn wait_until<M: Memory, T, E>(
    event: &Event<M>,
    wait: Wait,
    deadline: Option<Duration>,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
    mut look_around: impl FnMut() -> Result<(), E>,
) -> Result<Waited<T>, E> {
    /// Polls between two looks at the clock, which costs about as much as one of them.
    const POLLS: u32 = 32;
    let memory = event.word.memory().clone();
    let start = memory.now();
    let mut looked = start;
    let mut slept = false;
    let budget = match wait {
        Wait::Spin => Duration::MAX,
        Wait::Adaptive => spin_budget(),
        Wait::Block => Duration::ZERO,
    };
    loop {
        for _ in 0..POLLS {
            if let Some(got) = attempt()? {
                return Ok(Waited {
                    got: Some(got),
                    slept,
                });
            }
            memory.pause();
        }
        let mut now = memory.now();
        if now - start >= budget {
            let prepared = event.prepare();
            if let Some(got) = attempt()? {
                return Ok(Waited {
                    got: Some(got),
                    slept,
                });
            }
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_sub(now));
            event.sleep(prepared, left);
            slept = true;
            if let Some(got) = attempt()? {
                return Ok(Waited {
                    got: Some(got),
                    slept,
                });
            }
            now = memory.now();
        }
        let over = deadline.is_some_and(|deadline| now >= deadline);
        if over || now - looked >= SLICE {
            look_around()?;
            looked = now;
        }
        if over {
            return Ok(Waited { got: None, slept });
        }
    }
}

/// How long to poll before a sleep: about what a wake-up costs, and nothing where a peer could not run meanwhile.
fn spin_budget() -> Duration {
    static BUDGET: OnceLock<Duration> = OnceLock::new();
    *BUDGET.get_or_init(|| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        if cpus > 1 {
            Duration::from_micros(50)
        } else {
            Duration::ZERO
        }
    })
}
