//! Every ring against its limit and its peers, in one run.
//!
//! Absolute times mean nothing on a shared machine, so what is published are ratios of two subjects that were formed
//! within a round, and their median over many rounds. All subjects run in real processes of their own, pinned to the same
//! CPUs, with the same payload and the same manner of waiting, and every message is verified where it arrives.
//!
//! [`run`] is all that a program needs. It forks, so the calling process must have one thread, and the progress it
//! tells must not start one (a progress bar without a steady tick does not).
//!
//! ```no_run
//! use ipc_benches::{Options, run, subject};
//!
//! # fn main() -> anyhow::Result<()> {
//! let options = Options { quick: true, ..Options::default() };
//! let report = run(&options, &subject::all(), &mut |progress| {
//!     eprintln!("{:.0} %: {}", progress.share * 100.0, progress.what);
//! })?;
//! print!("{}", report.table());
//! std::fs::write("report.json", report.json()?)?;
//! std::fs::write("report.html", report.html())?;
//! # Ok(()) }
//! ```

pub mod command;
pub mod kernel;
pub mod limits;
pub mod machine;
pub mod measure;
pub mod ours;
pub mod peers;
pub mod process;
pub mod race;
pub mod report;
pub mod stats;
pub mod subject;
pub mod suites;
pub mod targets;
pub mod transport;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::machine::Machine;
use crate::race::{Outcome, Pace, Race};
use crate::report::{Report, SCHEMA_VERSION};
use crate::subject::Subject;
use crate::suites::{Context, SUITES};

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Two minutes at most instead of a careful run.
    pub quick: bool,
    /// Only these suites; all if empty. Their names are in [`SUITES`].
    pub suites: Vec<String>,
    /// Only these subjects; all if empty.
    pub subjects: Vec<String>,
    /// Only these payloads, in bytes; all of each suite's if empty.
    pub payloads: Vec<usize>,
    /// Only the races, and in them only the subjects, that a [target](targets) is about: what there is to judge, in a few
    /// minutes.
    pub judged: bool,
    /// The CPUs to run on, two or more; the first two are those of a pair. All that the process may use if empty.
    pub cpus: Vec<usize>,
    /// How long the whole run should take. If not given, it depends on how much there is to run.
    pub time: Option<Duration>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Of 1.
    pub share: f64,
    /// What is being run.
    pub what: &'a str,
}

/// A careful race takes this long.
const CAREFUL: Duration = Duration::from_secs(12);

/// All races together, if there is little time: less than two minutes, since the last one may take longer.
const QUICK: Duration = Duration::from_secs(95);

/// What has not begun by then, with little time, is left out: even a busy machine has its answer within two minutes.
const QUICK_LIMIT: Duration = Duration::from_secs(105);

/// A quick race takes this long at most.
const QUICK_RACE: Duration = Duration::from_secs(4);

/// How long a run of one subject should take, in nanoseconds.
const TURN: f64 = 40e6;
const QUICK_TURN: f64 = 10e6;

/// What is asked for is not there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSuch(pub String);

/// Runs suites.
///
/// # Errors
///
/// [`NoSuch`] if there is no CPU, suite, subject or payload as asked for. If there are not two CPUs, or if the process has
/// several threads.
pub fn run(
    options: &Options,
    subjects: &[Box<dyn Subject>],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let here = process::cpus();
    if let Some(cpu) = options.cpus.iter().find(|cpu| !here.contains(cpu)) {
        bail!(NoSuch(format!(
            "CPU {cpu} is not one that this process may use; there are {here:?}"
        )));
    }
    let cpus = if options.cpus.is_empty() {
        here
    } else {
        options.cpus.clone()
    };
    ensure!(
        cpus.len() >= 2,
        "two CPUs are needed to measure anything between two processes, and there is {}",
        cpus.len()
    );
    let known = |what: &str, wanted: &[String], names: &[&str]| match wanted
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        Some(name) => Err(NoSuch(format!(
            "there is no {what} {name:?}; there are {}",
            names.join(", ")
        ))),
        None => Ok(()),
    };
    let suites: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
    known("suite", &options.suites, &suites)?;
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
    let context = Context {
        subjects,
        cpus: &cpus,
        quick: options.quick,
        payloads: &options.payloads,
    };
    let mut races = races_of(&options.suites, &context);
    let sizes = |race: &Race<'_>| race.heading.payload_bytes;
    let measured: BTreeSet<usize> = races.iter().map(sizes).collect();
    if let Some(payload) = options
        .payloads
        .iter()
        .find(|size| !measured.contains(size))
    {
        let everything = Context {
            payloads: &[],
            ..context
        };
        let races = races_of(&options.suites, &everything);
        let sizes: BTreeSet<usize> = races.iter().map(sizes).collect();
        bail!(NoSuch(format!(
            "nothing is measured with messages of {payload} bytes; there are {sizes:?}"
        )));
    }
    let others = races.iter().flat_map(|race| &race.entries);
    let mut all: Vec<&str> = others
        .map(|entry| entry.name.as_str())
        .chain(names)
        .collect();
    all.sort_unstable();
    all.dedup();
    known("subject", &options.subjects, &all)?;
    for race in &mut races {
        race.entries
            .retain(|entry| wants(&options.subjects, &entry.name));
    }
    if options.judged {
        targets::only_judged(&mut races);
    }
    races.retain(|race| !race.entries.is_empty());
    let (start, count) = (Instant::now(), races.len());
    let time = options.time.unwrap_or(if options.quick {
        QUICK.min(QUICK_RACE * count as u32)
    } else {
        CAREFUL * count as u32
    });
    let end = start + time;
    let mut outcome = Outcome::default();
    for (done, race) in races.into_iter().enumerate() {
        let now = Instant::now();
        let left = end.saturating_duration_since(now) / (count - done) as u32;
        let pace = Pace {
            until: now + left,
            least_rounds: if options.quick { 3 } else { 11 },
            end,
            limit: options.quick.then_some(start + QUICK_LIMIT),
            turn: if options.quick { QUICK_TURN } else { TURN },
        };
        let share = done as f64 / count as f64;
        race::run(race, &cpus, pace, &mut outcome, &mut |what| {
            progress(Progress { share, what });
        })?;
    }
    let versions = subjects.iter();
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        quick: options.quick,
        seconds: start.elapsed().as_secs_f64(),
        machine: Machine::here(&cpus),
        versions: versions
            .filter_map(|subject| Some((subject.name(), subject.version()?)))
            .collect(),
        outcome,
    })
}

/// Whether a list of what is wanted, which is empty if everything is, holds a name.
fn wants(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == name)
}

/// The races of the suites that are wanted.
fn races_of<'a>(suites: &[String], context: &'a Context<'a>) -> Vec<Race<'a>> {
    let wanted = SUITES.iter().filter(|(name, _)| wants(suites, name));
    wanted.flat_map(|(_, suite)| suite(context)).collect()
}
