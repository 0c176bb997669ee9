//! The command line of the comparison: that of `ipc-benches` and of `ipc bench`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser};
use indicatif::{ProgressBar, ProgressStyle};

use crate::subject::Subject;
use crate::{Options, Progress, run};

/// Race every ring against its limit and its peers.
#[derive(Parser)]
#[command(name = "ipc-benches")]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

/// Runs what the command line of `ipc-benches` asks for.
pub fn main(subjects: &[Box<dyn Subject>]) -> Result<()> {
    let text = Command::parse().arguments.run(subjects)?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// What to run, and where the report goes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Two minutes at most instead of a careful run
    #[arg(long)]
    quick: bool,

    /// Only these suites: latency, throughput, mpmc, broadcast, wake, ids, locks, latest, cold, cpu [default: all]
    #[arg(long, value_name = "SUITE,…", value_delimiter = ',')]
    suites: Vec<String>,

    /// Only these subjects [default: all]
    #[arg(long, value_name = "SUBJECT,…", value_delimiter = ',')]
    subjects: Vec<String>,

    /// Only these payloads, in bytes [default: all of each suite]
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',')]
    payloads: Vec<usize>,

    /// Only the races and subjects that a target is about, as `targets` judges them
    #[arg(long)]
    judged: bool,

    /// The CPUs to run on; pairs run on the first two [default: all]
    #[arg(long, value_name = "CPU,…", value_delimiter = ',')]
    cpus: Vec<usize>,

    /// How long the whole run should take [default: as long as there is to run]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,

    /// Also write a page with tables and plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

fn unwritable(path: &Path) -> impl FnOnce() -> String {
    move || format!("cannot write {}", path.display())
}

impl Arguments {
    /// Runs what the command line asks for, with a bar if standard error is a terminal. Gives what is to be printed.
    ///
    /// # Errors
    ///
    /// As for [`run`]; and if the page cannot be written.
    pub fn run(&self, subjects: &[Box<dyn Subject>]) -> Result<String> {
        let options = Options {
            quick: self.quick,
            suites: self.suites.clone(),
            subjects: self.subjects.clone(),
            payloads: self.payloads.clone(),
            judged: self.judged,
            cpus: self.cpus.clone(),
            time: self.seconds.map(Duration::from_secs),
        };
        // It would be a pity to learn after a long run that there is nowhere to write.
        if let Some(path) = &self.html {
            // What is there already stays until there is something better.
            let mut file = File::options();
            let file = file.create(true).append(true).open(path);
            file.with_context(unwritable(path))?;
        }
        // Without a steady tick, which would be a second thread.
        let bar = ProgressBar::new(1000).with_style(ProgressStyle::with_template(
            "{bar:24} {percent:>3} % {elapsed} {wide_msg}",
        )?);
        let report = run(&options, subjects, &mut |Progress { share, what }| {
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(what.to_owned());
        })?;
        bar.finish_and_clear();
        if let Some(path) = &self.html {
            std::fs::write(path, report.html()).with_context(unwritable(path))?;
        }
        Ok(if self.json {
            report.json()? + "\n"
        } else {
            report.table()
        })
    }
}
