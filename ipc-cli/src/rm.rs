//! `ipc rm`: takes the names of segments away.

use anyhow::{Context, Result, bail};
use clap::Args;
use ipc_core::participant::Life;
use ipc_core::segment::{Segment, SegmentError};
use serde_json::json;

use crate::ended;
use crate::look::Name;

/// Remove segments by name.
///
/// A segment that a living process has open is left alone unless forced. Processes that have it open go on using it.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The segments: names in the default directory, or paths, which have a slash
    #[arg(required = true)]
    names: Vec<String>,

    /// Also those that are in use
    #[arg(long, short)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Rm {
    /// Runs the command. Goes on after a name that fails, and tells the first failure at the end.
    pub(crate) fn run(&self) -> Result<()> {
        let mut first = Ok(());
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        for name in &self.names {
            let done = self.remove(name);
            match &done {
                Ok(()) => removed.push(name),
                Err(error) => {
                    failed.push(json!({ "name": name, "error": ended::line(error) }));
                }
            }
            match (done, &first) {
                (Err(error), Ok(())) => first = Err(error),
                (Err(error), Err(_)) => crate::say(format_args!("ipc: {}", ended::line(&error))),
                (Ok(()), _) => {}
            }
        }
        if self.json {
            let object = json!({ "schema_version": 1, "removed": removed, "failed": failed });
            crate::print(&(serde_json::to_string(&object)? + "\n"))?;
        }
        first
    }

    fn remove(&self, name: &str) -> Result<()> {
        if !self.force {
            // What cannot be opened, because it is damaged or of another version, is in nobody's use that we know of.
            if let Ok(segment) = Name::from(name).open() {
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
        match Segment::unlink(Name::from(name).place()) {
            // Nobody who wants to remove it wants to be told how to make it.
            Err(SegmentError::NotFound { path }) => bail!(
                "there is no segment at {} to remove; `ipc ls` tells what there is",
                path.display()
            ),
            done => done.with_context(|| format!("cannot remove {name:?}")),
        }
    }
}
