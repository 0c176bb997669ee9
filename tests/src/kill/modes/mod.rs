//! What is done with the states of an operation.

mod copies;
mod kills;
mod pairs;
mod recoverers;
mod stops;
mod trace;

pub use copies::copies;
pub use kills::kills;
pub use recoverers::recoverers;
pub use stops::stops;
pub use trace::{End, Point, Trace, Traces, trace};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use ipc_benches::process;

use crate::kill::adapter::{self, Adapter, Case, Pair};
use crate::kill::report::Report;
use crate::kill::tracer::Program;

/// What every mode is given.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The program that runs victims.
    pub program: &'a Program,
    /// Where counts go.
    pub report: &'a Report,
    /// Seeds the samples.
    pub seed: u64,
    /// How much of it.
    pub depth: Depth,
    /// What was gone through already.
    pub traces: &'a Traces,
}

/// How much is done of what could be done.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Operations of up to so many instructions are killed after each of them. Of longer ones, wherever something
    /// changed, at the edges of each system call, and at a sample of the other instructions.
    pub every: usize,
    /// Operations are gone through once before they are killed, so that it is known where something changes.
    pub traced: bool,
    /// Operations on files are stopped at their system calls alone: nothing changes between them.
    pub calls: bool,
    /// How large the sample is.
    pub sample: usize,
    /// The most points of one operation, however many changed something.
    pub most: usize,
    /// Of the states that a death can leave, so many are cleared up by recoverers that are killed as well,
    pub remains: usize,
    /// in so many of these they are killed wherever the operation itself would be,
    pub thorough: usize,
    /// and at so many points in the others.
    pub brief: usize,
    /// Pairs of states of two operations at the same time. In each, one dies, or the other, or both.
    pub pairs: usize,
    /// The least of each mode for one operation in one state, reached by going over short ones again.
    pub least: Least,
}

/// The least of each mode for one operation in one state. Less is a violation.
#[derive(Clone, Copy, Debug)]
pub struct Least {
    /// Kills.
    pub kills: u64,
    /// Stops.
    pub stops: u64,
    /// Kills of pairs.
    pub pairs: u64,
    /// Kills of recoverers.
    pub recoverers: u64,
}

/// Everything.
pub const FULL: Depth = Depth {
    every: 2000,
    traced: true,
    calls: false,
    sample: 400,
    most: usize::MAX,
    remains: 8,
    thorough: 2,
    brief: 60,
    pairs: 150,
    least: Least {
        kills: 250,
        stops: 150,
        pairs: 100,
        recoverers: 250,
    },
};

/// Some of everything, within four minutes.
pub const QUICK: Depth = Depth {
    every: 24,
    traced: true,
    calls: true,
    sample: 10,
    most: 24,
    remains: 2,
    thorough: 0,
    brief: 8,
    pairs: 8,
    least: Least {
        kills: 24,
        stops: 12,
        pairs: 20,
        recoverers: 12,
    },
};

/// A taste, for the suite.
pub const TASTE: Depth = Depth {
    every: 8,
    traced: false,
    calls: true,
    sample: 4,
    most: 8,
    remains: 2,
    thorough: 0,
    brief: 4,
    pairs: 2,
    least: Least {
        kills: 8,
        stops: 6,
        pairs: 4,
        recoverers: 4,
    },
};

/// The name of a case in reports.
pub fn name(adapter: &dyn Adapter, case: &Case) -> String {
    format!("{}/{}/{}", adapter.kind(), case.operation, case.state)
}

/// One mode, applied to one case.
pub type ModeOf = fn(Context<'_>, &dyn Adapter, &Case) -> Result<()>;

/// A mode and what to apply it to.
pub struct Job {
    adapter: &'static dyn Adapter,
    task: Task,
    letter: &'static str,
}

enum Task {
    Case(ModeOf, Case),
    Pair(Pair),
}

/// A job for every case of every kind; of mode D, for every pair.
///
/// # Panics
///
/// If there is no such mode.
pub fn jobs(letter: &'static str) -> Vec<Job> {
    let mode = match letter {
        "A" => copies,
        "B" => kills,
        "C" => stops,
        "D" => return adapter::all().iter().copied().flat_map(pairs_of).collect(),
        "E" => recoverers,
        other => panic!("no mode {other}"),
    };
    let of = |adapter: &'static dyn Adapter| {
        let job = move |case| Job {
            adapter,
            task: Task::Case(mode, case),
            letter,
        };
        adapter.cases().into_iter().map(job)
    };
    adapter::all().iter().copied().flat_map(of).collect()
}

fn pairs_of(adapter: &'static dyn Adapter) -> impl Iterator<Item = Job> {
    let job = move |pair| Job {
        adapter,
        task: Task::Pair(pair),
        letter: "D",
    };
    adapter.pairs().into_iter().map(job)
}

impl Job {
    /// Its mode.
    pub fn mode(&self) -> &'static str {
        self.letter
    }

    /// What it is about.
    pub fn title(&self) -> String {
        match &self.task {
            Task::Case(_, case) => name(self.adapter, case),
            Task::Pair(pair) => pairs::title(self.adapter, pair),
        }
    }

    /// Does it. What the harness itself fails at is a violation as well: nothing is left out silently.
    pub fn run(&self, context: Context<'_>) {
        let begun = Instant::now();
        let done = match &self.task {
            Task::Case(mode, case) => mode(context, self.adapter, case),
            Task::Pair(pair) => pairs::pairs(context, self.adapter, pair),
        };
        if let Err(error) = done {
            let title = self.title();
            context
                .report
                .violation(self.letter, &title, &format!("{error:#}"));
        }
        let kind = self.adapter.kind();
        context.report.took(self.letter, kind, begun.elapsed());
    }
}

/// Does something with all jobs, two at a time on each processor: they sleep a good deal. A worker stays on its processor,
/// and so do its victims: a step goes over and back, which takes several times as long between two of them.
pub fn in_parallel(jobs: &[Job], work: impl Fn(&Job) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for cpu in process::cpus().into_iter().flat_map(|cpu| [cpu, cpu]) {
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                // Where that is not allowed, it takes longer.
                let _ = process::pin(cpu);
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(job);
                }
            });
        }
    });
}

/// Follows an operation through its outcomes, which it must pass in order.
#[derive(Debug)]
pub struct Progress<'a> {
    outcomes: &'a [String],
    at: usize,
}

impl<'a> Progress<'a> {
    /// At the first outcome.
    pub fn new(case: &'a Case) -> Self {
        Self {
            outcomes: &case.outcomes,
            at: 0,
        }
    }

    /// At the first outcome that newcomers may find in a copy.
    pub fn in_copies(case: &'a Case) -> Self {
        let outcomes = if case.in_copies.is_empty() {
            &case.outcomes
        } else {
            &case.in_copies
        };
        Self { outcomes, at: 0 }
    }

    /// The state after this one must be `found` or a later outcome.
    pub fn saw(&mut self, found: &str) -> Result<()> {
        match self.outcomes[self.at..]
            .iter()
            .position(|outcome| outcome == found)
        {
            Some(further) => self.at += further,
            None => bail!(
                "survivors find `{found}`, and it should be one of {:?}",
                &self.outcomes[self.at..]
            ),
        }
        Ok(())
    }

    /// The first state must show the first outcome.
    pub fn began(&self) -> Result<()> {
        if self.at != 0 {
            bail!(
                "before the first instruction survivors find `{}` already",
                self.outcomes[self.at]
            );
        }
        Ok(())
    }

    /// The last state must show the last outcome.
    pub fn ended(&self) -> Result<()> {
        if self.outcomes[self.at] != *self.outcomes.last().unwrap_or(&String::new()) {
            bail!(
                "after the last instruction survivors still find `{}`",
                self.outcomes[self.at]
            );
        }
        Ok(())
    }
}

/// A small generator of numbers for samples (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
