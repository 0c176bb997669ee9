//! The command line of the comparison.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::subject::Subject;
use crate::{Options, Progress, run};

/// Race every ring against its limit and its peers.
#[derive(Parser)]
#[command(name = "ipc-benches")]
struct Arguments {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Write a page with tables and plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Two minutes at most instead of a careful run.
    #[arg(long)]
    quick: bool,
    /// Only these suites: latency, throughput, mpmc, broadcast, wake, ids, locks, latest, cold, cpu.
    #[arg(long, value_delimiter = ',')]
    suites: Vec<String>,
    /// Only these subjects; all if not given.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<String>,
    /// Only these payloads, in bytes.
    #[arg(long, value_delimiter = ',')]
    payloads: Vec<usize>,
    /// The CPUs to run on; all if not given. Pairs run on the first two.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// How long the whole run should take.
    #[arg(long)]
    seconds: Option<u64>,
}

/// Runs what the command line asks for.
pub fn main(subjects: &[Box<dyn Subject>]) -> Result<()> {
    let arguments = Arguments::parse();
    let options = Options {
        quick: arguments.quick,
        suites: arguments.suites,
        subjects: arguments.subjects,
        payloads: arguments.payloads,
        cpus: arguments.cpus,
        time: arguments.seconds.map(Duration::from_secs),
    };
    // Without a steady tick, which would be a second thread.
    let bar = ProgressBar::new(1000);
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {percent:>3} % {elapsed} {wide_msg}",
    )?);
    let report = run(&options, subjects, &mut |Progress { share, what }| {
        bar.set_position((share * 1000.0) as u64);
        bar.set_message(what.to_owned());
    })?;
    bar.finish_and_clear();
    if let Some(path) = arguments.html {
        std::fs::write(&path, report.html())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text = if arguments.json {
        report.json()? + "\n"
    } else {
        report.table()
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
