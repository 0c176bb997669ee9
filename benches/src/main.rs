//! The whole comparison, with the peers that were compiled in.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use ipc_benches::race::Outcome;
use ipc_benches::suites::{self, Settings};
use ipc_benches::{process, report, subject};

/// Race every ring against its limit and its peers.
#[derive(Parser)]
struct Arguments {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Two minutes at most instead of a careful run.
    #[arg(long)]
    quick: bool,
    /// Only these suites: latency, throughput.
    #[arg(long, value_delimiter = ',')]
    suites: Vec<String>,
    /// Only these subjects; all if not given.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<String>,
    /// Only these payloads, in bytes.
    #[arg(long, value_delimiter = ',')]
    payloads: Vec<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cpus = process::cpus();
    let [first, .., last] = cpus[..] else {
        bail!("two CPUs are needed to measure anything between two processes")
    };
    let settings = Settings {
        cpus: vec![first, last],
        budget: Duration::from_millis(if arguments.quick { 1500 } else { 10_000 }),
        least_rounds: if arguments.quick { 3 } else { 11 },
        turn: Duration::from_millis(if arguments.quick { 15 } else { 40 }),
        payloads: arguments.payloads,
    };
    let mut subjects = subject::all();
    let wanted =
        |name: &str, list: &[String]| list.is_empty() || list.iter().any(|entry| entry == name);
    subjects.retain(|subject| wanted(subject.name(), &arguments.subjects));
    let mut outcome = Outcome::default();
    let bar = indicatif::ProgressBar::new_spinner();
    let mut progress = |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    if wanted("latency", &arguments.suites) {
        suites::latency(&subjects, &settings, &mut outcome, &mut progress)?;
    }
    if wanted("throughput", &arguments.suites) {
        suites::throughput(&subjects, &settings, &mut outcome, &mut progress)?;
    }
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("{}", report::table::text(&outcome));
    }
    Ok(())
}
