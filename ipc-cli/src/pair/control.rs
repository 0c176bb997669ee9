//! Words that the processes of a pair share beside their rings: progress, marks, and the bare hop.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ipc_core::Mapped;
use ipc_core::memory::Word64;
use ipc_core::segment::{Kind, Object, ObjectSpec};

/// Its name in the segment.
pub(super) const NAME: &str = "control";

/// No claim is ever made in it, so nothing is to be cleared up after the dead.
pub(super) const KIND: Kind = Kind {
    tag: *b"pairctl\0",
    version: 1,
    recover: |_, _, _| Ok(()),
};

/// Two cache lines for each word: processors fetch them together.
const STRIDE: usize = 128;

/// The words, each on its own lines.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// Processes that stand at the start.
    pub(super) ready: Word64<Mapped>,
    /// One when the pair may start.
    pub(super) go: Word64<Mapped>,
    /// When the stream began, in nanoseconds of [`clock`].
    pub(super) began: Word64<Mapped>,
    /// Messages that the consumers have verified. Kept here, it survives a consumer that is killed.
    pub(super) verified: Word64<Mapped>,
    /// Messages that were pushed in all, plus one; zero while there are still more to come.
    pub(super) total: Word64<Mapped>,
    /// Messages that the killed consumer had committed, plus one; zero before that.
    pub(super) resume: Word64<Mapped>,
    /// The two lines of the bare hop.
    pub(super) there: Word64<Mapped>,
    pub(super) back: Word64<Mapped>,
}

impl Control {
    /// What it needs in a segment.
    pub(super) fn spec() -> ObjectSpec {
        ObjectSpec {
            kind: KIND.tag,
            version: KIND.version,
            len: 8 * STRIDE,
            schema: String::new(),
            parameters: [0; 2],
        }
    }

    /// The words in that object.
    pub(super) fn new(object: &Object) -> Result<Self> {
        let word = |index: usize| object.area().word64(index * STRIDE);
        Ok(Self {
            ready: word(0)?,
            go: word(1)?,
            began: word(2)?,
            verified: word(3)?,
            total: word(4)?,
            resume: word(5)?,
            there: word(6)?,
            back: word(7)?,
        })
    }

    /// Tells the parent that this process is ready, and waits for its word.
    pub(super) fn line_up(&self) {
        self.ready.add(1, Release);
        wait_for(&self.go);
    }
}

/// Waits until the word is not zero. The parent kills whoever waits in vain.
pub(super) fn wait_for(word: &Word64<Mapped>) -> u64 {
    loop {
        match word.load(Acquire) {
            0 => thread::sleep(Duration::from_millis(1)),
            value => return value,
        }
    }
}

/// Nanoseconds on the clock that all processes of the machine share.
pub(super) fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
