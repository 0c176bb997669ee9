//! What was counted and measured, and how much of it there must be.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

mod times;

pub use times::{LIMITS, Slow, Times, on_cpu, queued};

/// Violations that are printed for one case; the others are only counted.
const SHOWN: u64 = 3;

/// Counts for one operation in one state, in one mode.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Real kills.
    pub kills: u64,
    /// Of these, those at the very instruction where the operation had been seen to be, each proved by the address of
    /// the stopped victim and by its exit status.
    pub exact: u64,
    /// Stops without a kill, or copies looked at.
    pub stops: u64,
    /// Instructions of the operation; of a pair, its pairs of states.
    pub instructions: usize,
    /// Of these, those left out by sampling.
    pub left_out: usize,
    /// Violations.
    pub violations: u64,
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
    late: u64,
    violations: Vec<String>,
    times: Times,
    /// How long the jobs of each kind took together, in each mode.
    took: BTreeMap<(String, String), Duration>,
}

impl Report {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self
            .inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// One real kill. `exact`: at the very instruction that was meant, and not at another one after as many, because the
    /// operation depends on time and took another way.
    pub fn killed(&self, mode: &str, case: &str, exact: bool) {
        self.with(|inner| {
            let count = inner.count(mode, case);
            count.kills += 1;
            count.exact += u64::from(exact);
        });
    }

    /// One stop that was no kill, or one look at a copy.
    pub fn stopped(&self, mode: &str, case: &str) {
        self.with(|inner| inner.count(mode, case).stops += 1);
    }

    /// How long an operation is, and how many of its instructions were not killed at.
    pub fn length(&self, mode: &str, case: &str, instructions: usize, left_out: usize) {
        self.with(|inner| {
            let count = inner.count(mode, case);
            count.instructions = count.instructions.max(instructions);
            count.left_out = count.left_out.max(left_out);
        });
    }

    /// A state that a case can be left in was met.
    pub fn state(&self, case: &str, digest: u64) {
        self.with(|inner| inner.states.insert((case.to_owned(), digest)));
    }

    /// A copy of a state was checked.
    pub fn checked(&self) {
        self.with(|inner| inner.checks += 1);
    }

    /// A sleeper or a recovery was late; the kill is tried again.
    pub fn was_late(&self) {
        self.with(|inner| inner.late += 1);
    }

    /// A job of that mode and kind took so long.
    pub fn took(&self, mode: &str, kind: &str, time: Duration) {
        let key = (kind.to_owned(), mode.to_owned());
        self.with(|inner| *inner.took.entry(key).or_default() += time);
    }

    /// Something that must not be.
    pub fn violation(&self, mode: &str, case: &str, text: &str) {
        self.with(|inner| {
            let count = inner.count(mode, case);
            count.violations += 1;
            let line = format!("{case}, mode {mode}, {text}");
            if count.violations <= SHOWN {
                eprintln!("VIOLATION {line}");
            }
            inner.violations.push(line);
        });
    }

    /// What was measured of a kill.
    pub fn measured(&self, add: impl FnOnce(&mut Times)) {
        self.with(|inner| add(&mut inner.times));
    }

    /// Demands at least so many kills of the case, proved to be where they were meant; in modes without kills, so many
    /// stops.
    pub fn demand(&self, mode: &str, case: &str, least: u64) {
        let count = self.with(|inner| inner.count(mode, case).clone());
        let (number, what) = match mode {
            "A" => (count.stops, "copies"),
            "C" => (count.stops, "stops"),
            _ => (count.exact, "proved kills"),
        };
        if number < least {
            let text = format!("a shortfall: {number} {what} of at least {least}");
            self.violation(mode, case, &text);
        }
    }

    /// Kills of the case so far that were where they were meant.
    pub fn proved(&self, mode: &str, case: &str) -> u64 {
        self.with(|inner| inner.count(mode, case).exact)
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

    /// The table of what was covered and the measured times, as text.
    pub fn show(&self) -> String {
        self.with(|inner| {
            let mut lines = inner.table();
            lines.push(format!("{} checks of copies", inner.checks));
            let kills: u64 = inner.counts.values().map(|count| count.kills).sum();
            let exact: u64 = inner.counts.values().map(|count| count.exact).sum();
            lines.push(format!(
                "{exact} of {kills} kills proved at the instruction that was meant (address, signal); the others on \
                 another way of an operation that depends on time, after as many"
            ));
            lines.push(format!(
                "{} times somebody was late, and was not when it was tried again",
                inner.late
            ));
            for mode in ["B", "C", "E"] {
                lines.extend(inner.sampled(mode));
            }
            for mode in ["B", "C", "D", "E"] {
                lines.extend(inner.fewest(mode));
            }
            lines.extend(inner.times.show());
            lines.extend(inner.duration());
            lines.join("\n") + "\n"
        })
    }
}

impl Inner {
    fn count(&mut self, mode: &str, case: &str) -> &mut Count {
        self.counts
            .entry((case.to_owned(), mode.to_owned()))
            .or_default()
    }

    /// A line for each kind, operation and state.
    fn table(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{:60} {:>12} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "kind/operation/state",
            "instructions",
            "copies",
            "kills",
            "sampled",
            "stops",
            "pairs",
            "of recoverers"
        )];
        let cases: Vec<&String> = self.counts.keys().map(|(case, _)| case).collect();
        let mut cases = cases;
        cases.dedup();
        for case in cases {
            let of = |mode: &str| self.counts.get(&(case.clone(), mode.to_owned()));
            let number = |mode: &str, what: fn(&Count) -> u64| {
                of(mode).map_or_else(|| "-".to_owned(), |count| what(count).to_string())
            };
            let instructions = ["B", "A", "C", "D", "E"].iter().find_map(|mode| of(mode));
            lines.push(format!(
                "{case:60} {:>12} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
                instructions.map_or(0, |count| count.instructions),
                number("A", |count| count.stops),
                number("B", |count| count.kills),
                of("B")
                    .filter(|count| count.left_out > 0)
                    .map_or_else(|| "all".to_owned(), |count| format!("-{}", count.left_out)),
                number("C", |count| count.stops),
                number("D", |count| count.kills),
                number("E", |count| count.kills),
            ));
        }
        lines
    }

    /// How long each kind kept the workers busy, in each mode.
    fn duration(&self) -> Vec<String> {
        let mut lines = vec!["seconds of all workers together, by kind and mode:".to_owned()];
        let mut kinds: Vec<&String> = self.took.keys().map(|(kind, _)| kind).collect();
        kinds.dedup();
        for kind in kinds {
            let of_kind = self.took.iter().filter(|((of, _), _)| of == kind);
            let cells =
                of_kind.map(|((_, mode), took)| format!(" {mode} {:6.1}", took.as_secs_f32()));
            lines.push(format!("{kind:16}{}", cells.collect::<String>()));
        }
        lines
    }

    /// How many instructions a mode picked of operations that are too long for all of them.
    fn sampled(&self, mode: &str) -> Option<String> {
        let of_mode = self.counts.iter().filter(|((_, of), _)| of == mode);
        let long = of_mode.filter(|(_, count)| count.left_out > 0);
        let (mut picked, mut all, mut operations) = (0, 0, 0);
        for (_, count) in long {
            // Before each instruction, and behind the last one.
            picked += count.instructions + 1 - count.left_out;
            all += count.instructions + 1;
            operations += 1;
        }
        (operations > 0).then(|| {
            format!(
                "mode {mode}: of {operations} long operations {picked} of {all} instructions: those around changes, those \
                 at system calls, and a sample"
            )
        })
    }

    /// Where a mode did least.
    fn fewest(&self, mode: &str) -> Option<String> {
        let of_mode = self.counts.iter().filter(|((_, of), _)| of == mode);
        let number = |count: &Count| {
            if mode == "C" {
                count.stops
            } else {
                count.kills
            }
        };
        let ((case, _), count) = of_mode.min_by_key(|(_, count)| number(count))?;
        Some(format!(
            "fewest in mode {mode}: {} in {case}",
            number(count)
        ))
    }
}
