//! `ipc completions` and `ipc man`: what is made from the description of the command line itself.

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print a man page, in roff: `ipc man pair | man -l -`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The subcommand; without it, the page of `ipc` itself
    subcommand: Option<String>,
}

impl Completions {
    /// Runs the command.
    pub(crate) fn run(&self, mut command: Command) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "ipc", &mut script);
        crate::print(&String::from_utf8(script)?)
    }
}

impl Man {
    /// Runs the command.
    pub(crate) fn run(&self, mut command: Command) -> Result<()> {
        command.build();
        let command = match &self.subcommand {
            None => command,
            Some(name) => {
                let found = command.find_subcommand(name).cloned();
                let found = found.with_context(|| format!("there is no subcommand {name:?}"))?;
                found.display_name(format!("ipc-{name}"))
            }
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        crate::print(&String::from_utf8(page)?)
    }
}
