//! `ipc bench`: every ring against the limits of the machine and against the kernel's own transports.

use anyhow::Result;
use clap::Args;
use ipc_benches::{command::Arguments, subject};

/// Race every ring against the bare cache line, memory copy, pipes, sockets and queues, on this machine.
///
/// What counts are ratios: all subjects run in turns, on the same CPUs. A careful run takes several minutes, a quick one two at most.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    arguments: Arguments,
}

impl Bench {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        crate::print(&self.arguments.run(&subject::all())?)
    }
}
