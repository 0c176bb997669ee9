//! `ipc rm`: takes the names of segments away.

use anyhow::{Result, bail};
use clap::Args;
use ipc_core::participant::Life;
use ipc_core::segment::Segment;

/// Remove segments by name.
///
/// A segment that a living process has open is left alone unless forced. Processes that have it open go on using it.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The segments
    #[arg(required = true)]
    names: Vec<String>,

    /// Also those that are in use
    #[arg(long, short)]
    force: bool,
}

impl Rm {
    /// Runs the command. Goes on after a name that fails, and tells the first failure at the end.
    pub(crate) fn run(&self) -> Result<()> {
        let mut first = Ok(());
        for name in &self.names {
            match (self.remove(name), &first) {
                (Err(error), Ok(())) => first = Err(error),
                (Err(error), Err(_)) => eprintln!("ipc: {error:#}"),
                (Ok(()), _) => {}
            }
        }
        first
    }

    fn remove(&self, name: &str) -> Result<()> {
        if !self.force {
            // What cannot be opened, because it is damaged or of another version, is in nobody's use that we know of.
            if let Ok(segment) = Segment::open_read_only(name) {
                let alive = segment
                    .participants()
                    .find_map(|id| match segment.life(id) {
                        Life::Alive(who) => Some(who.pid),
                        _ => None,
                    });
                if let Some(pid) = alive {
                    bail!("process {pid} uses {name:?}; end it, or remove the name by --force");
                }
            }
        }
        Ok(Segment::unlink(name)?)
    }
}
