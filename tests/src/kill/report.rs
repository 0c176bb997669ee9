//! What was counted and measured.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

/// Counts for one operation in one state.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Real kills.
    pub kills: u64,
    /// Stops without a kill.
    pub stops: u64,
    /// Instructions of the operation.
    pub instructions: usize,
    /// Instructions left out by sampling.
    pub left_out: usize,
}

/// All counts.
#[derive(Debug, Default)]
pub struct Report {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<(String, String), Count>,
    states: HashSet<(String, u64)>,
    checks: u64,
    other_ways: u64,
    late: u64,
    violations: Vec<String>,
    recoveries: Vec<Duration>,
    until_recovered: Vec<Duration>,
    unaided: Vec<Duration>,
}

impl Report {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self
            .inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// One real kill.
    pub fn killed(&self, mode: &str, case: &str) {
        self.with(|inner| inner.count(mode, case).kills += 1);
    }

    /// One stop that was no kill.
    pub fn stopped(&self, mode: &str, case: &str) {
        self.with(|inner| inner.count(mode, case).stops += 1);
    }

    /// How long an operation is, and how many of its instructions were not killed at.
    pub fn length(&self, mode: &str, case: &str, instructions: usize, left_out: usize) {
        self.with(|inner| {
            let count = inner.count(mode, case);
            count.instructions = count.instructions.max(instructions);
            count.left_out += left_out;
        });
    }

    /// A state of a case was seen and its copy, or what a kill left of it, was checked.
    pub fn checked(&self, case: &str, digest: u64) {
        self.with(|inner| {
            inner.checks += 1;
            inner.states.insert((case.to_owned(), digest));
        });
    }

    /// A victim did not come by the instruction it was to be killed at, and was killed after as many others.
    pub fn went_another_way(&self) {
        self.with(|inner| inner.other_ways += 1);
    }

    /// A sleeper was late; the kill is tried again.
    pub fn was_late(&self) {
        self.with(|inner| inner.late += 1);
    }

    /// Something that must not be.
    pub fn violation(&self, text: String) {
        eprintln!("VIOLATION {text}");
        self.with(|inner| inner.violations.push(text));
    }

    /// How long clearing up took, once begun, and how long after the kill it was done.
    pub fn recovered(&self, took: Duration, since_kill: Duration) {
        self.with(|inner| {
            inner.recoveries.push(took);
            inner.until_recovered.push(since_kill);
        });
    }

    /// How long after a kill a sleeper that nobody woke was back.
    pub fn came_back(&self, after: Duration) {
        self.with(|inner| inner.unaided.push(after));
    }

    /// Violations so far.
    pub fn violations(&self) -> Vec<String> {
        self.with(|inner| inner.violations.clone())
    }

    /// Kills so far.
    pub fn kills(&self) -> u64 {
        self.with(|inner| inner.counts.values().map(|count| count.kills).sum())
    }

    /// Distinct states so far.
    pub fn states(&self) -> usize {
        self.with(|inner| inner.states.len())
    }

    /// The table of counts and the measured times, as text.
    pub fn show(&self) -> String {
        self.with(|inner| {
            let mut text = String::new();
            let mut line = |words: String| {
                text += &words;
                text.push('\n');
            };
            for ((case, mode), count) in &inner.counts {
                let rest = if count.left_out > 0 {
                    format!(", {} not sampled", count.left_out)
                } else {
                    String::new()
                };
                let (number, what) = match (count.kills, count.stops) {
                    (0, 0) => (0, "copies"),
                    (0, stops) => (stops, "stops"),
                    (kills, _) => (kills, "kills"),
                };
                let over = if mode == "D" {
                    "pairs of states"
                } else {
                    "instructions"
                };
                line(format!(
                    "{case:42} mode {mode}: {number:7} {what} over {:6} {over}{rest}",
                    count.instructions
                ));
            }
            line(format!(
                "{} checks of {} distinct states",
                inner.checks,
                inner.states.len()
            ));
            line(format!(
                "{} victims took another way than the first one, and were killed on it after as many instructions",
                inner.other_ways
            ));
            line(format!("{} times a sleeper was late, and was not when it was tried again", inner.late));
            let smallest = inner.counts.iter().filter(|(_, count)| count.kills > 0);
            if let Some(((case, mode), count)) = smallest.min_by_key(|(_, count)| count.kills) {
                line(format!(
                    "fewest kills: {} in {case}, mode {mode}",
                    count.kills
                ));
            }
            line(times("clearing up, once begun", &mut inner.recoveries));
            line(times(
                "from a kill to all cleared up",
                &mut inner.until_recovered,
            ));
            line(times(
                "from a kill to a sleeper back unaided",
                &mut inner.unaided,
            ));
            text
        })
    }
}

impl Inner {
    fn count(&mut self, mode: &str, case: &str) -> &mut Count {
        self.counts
            .entry((case.to_owned(), mode.to_owned()))
            .or_default()
    }
}

fn times(what: &str, all: &mut [Duration]) -> String {
    all.sort_unstable();
    let (Some(last), len) = (all.last(), all.len()) else {
        return format!("{what}: not measured");
    };
    let at = |share: usize| all[(len * share / 1000).min(len - 1)];
    format!(
        "{what}: median {:?}, 99.9 % {:?}, most {last:?} ({len} times)",
        at(500),
        at(999)
    )
}
