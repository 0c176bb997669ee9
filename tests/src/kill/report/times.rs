//! How long the others wait after a kill, and how long they may.
//!
//! A clock on the wall also measures who else has the processors. So what is over a limit is measured again, on a new kill
//! at the same instruction, up to three times: what is slow by itself is slow each time, and that is a violation. The time
//! that the recovering thread had a processor for is measured and held to the same limit beside it.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

/// What may take how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clearing up, once begun.
    pub recovery: Duration,
    /// From the kill until all is cleared up.
    pub recovered: Duration,
}

/// What the design promises.
pub const LIMITS: Limits = Limits {
    recovery: Duration::from_millis(5),
    recovered: Duration::from_millis(100),
};

/// It took too long, this time.
#[derive(Debug, thiserror::Error)]
#[error("{what} took {took:?}, and may take {limit:?}")]
pub struct Slow {
    what: &'static str,
    took: Duration,
    limit: Duration,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Times {
    recovery: Vec<Duration>,
    recovery_cpu: Vec<Duration>,
    recovered: Vec<Duration>,
    waited: Vec<Duration>,
    unaided: Vec<Duration>,
    over: u64,
}

/// How long the calling thread has had a processor.
pub fn on_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long the calling thread has waited for a processor while it could have run; nothing where the kernel does not say.
pub fn queued() -> Duration {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = line.split_whitespace().nth(1).map(str::parse);
    Duration::from_nanos(waited.and_then(Result::ok).unwrap_or(0))
}

impl Times {
    /// How long after a kill all was cleared up, and how much of that the harness had no processor.
    pub fn since_kill(&mut self, since_kill: Duration, queued: Duration) {
        self.recovered.push(since_kill);
        self.waited.push(queued);
    }

    /// How long clearing up took, once begun; how long of that on a processor; and how long after the kill it was done.
    pub fn recovery(&mut self, took: Duration, cpu: Duration, since_kill: Duration) -> Result<()> {
        let held = [
            ("clearing up", took, LIMITS.recovery),
            ("clearing up, on a processor,", cpu, LIMITS.recovery),
            (
                "from the kill to all cleared up",
                since_kill,
                LIMITS.recovered,
            ),
        ];
        for (what, took, limit) in held {
            if took > limit {
                self.over += 1;
            }
            ensure!(took <= limit, Slow { what, took, limit });
        }
        self.recovery.push(took);
        self.recovery_cpu.push(cpu);
        Ok(())
    }

    /// How long after a kill a sleeper that nobody woke was back.
    pub fn came_back(&mut self, after: Duration) {
        self.unaided.push(after);
    }

    /// As text.
    pub(super) fn show(&mut self) -> Vec<String> {
        vec![
            line("clearing up, once begun", &mut self.recovery),
            line("the same, on a processor", &mut self.recovery_cpu),
            line("from a kill to all cleared up", &mut self.recovered),
            line(
                "of that, the harness queued for a processor",
                &mut self.waited,
            ),
            line("from a kill to a sleeper back unaided", &mut self.unaided),
            format!(
                "limits: clearing up {:?}, from a kill to all cleared up {:?}; {} times over, and within them on a new \
                 kill at the same instruction, or a violation",
                LIMITS.recovery, LIMITS.recovered, self.over
            ),
        ]
    }
}

fn line(what: &str, all: &mut [Duration]) -> String {
    all.sort_unstable();
    let (Some(last), len) = (all.last(), all.len()) else {
        return format!("{what}: not measured");
    };
    let at = |share: usize| all[(len * share / 1000).min(len - 1)];
    format!(
        "{what}: median {:?}, 99 % {:?}, 99.9 % {:?}, most {last:?} ({len} times)",
        at(500),
        at(990),
        at(999)
    )
}
