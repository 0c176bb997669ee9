//! `ipc bench`: every ring against the limits of the machine and against the kernel's own transports.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ipc_benches::{Options, Progress, run, subject};

/// Race every ring against the bare cache line, memory copy, pipes, sockets and queues, on this machine.
///
/// What counts are ratios: all subjects run in turns, on the same CPUs. A careful run takes several minutes, a quick one two at most.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Two minutes at most instead of a careful run
    #[arg(long)]
    quick: bool,

    /// Only these suites: latency, throughput, mpmc, broadcast, wake, ids, locks, latest, cold, cpu
    #[arg(long, value_name = "SUITE,…", value_delimiter = ',')]
    suites: Vec<String>,

    /// Only these subjects [default: all]
    #[arg(long, value_name = "SUBJECT,…", value_delimiter = ',')]
    subjects: Vec<String>,

    /// Only these payloads, in bytes [default: all of each suite]
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',')]
    payloads: Vec<usize>,

    /// The CPUs to run on; pairs run on the first two [default: all]
    #[arg(long, value_name = "CPU,…", value_delimiter = ',')]
    cpus: Vec<usize>,

    /// How long the whole run should take [default: as long as there is to run]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,

    /// Also write a page with tables and plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let options = Options {
            quick: self.quick,
            suites: self.suites.clone(),
            subjects: self.subjects.clone(),
            payloads: self.payloads.clone(),
            cpus: self.cpus.clone(),
            time: self.seconds.map(Duration::from_secs),
        };
        // Without a steady tick, which would be a second thread, and there are forks to come.
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} % {elapsed} {wide_msg}");
        let bar = ProgressBar::new(1000)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let report = run(
            &options,
            &subject::all(),
            &mut |Progress { share, what }| {
                bar.set_position((share * 1000.0) as u64);
                bar.set_message(what.to_owned());
            },
        )?;
        bar.finish_and_clear();
        if let Some(path) = &self.html {
            std::fs::write(path, report.html())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        crate::print(&if self.json {
            report.json()? + "\n"
        } else {
            report.table()
        })
    }
}
