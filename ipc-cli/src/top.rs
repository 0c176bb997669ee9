//! `ipc top`: what moves, and how fast, until one has seen enough.

mod keys;
mod page;
mod rates;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use ipc_core::segment::{SegmentView, default_directory};
use serde_json::json;

use crate::look::{Name, Seen};
use crate::ls;
use crate::show::{self, Screen};
use crate::signals::Signals;
use keys::{Key, Keys};
use rates::Rates;

/// Watch rates, fill, waits, and how far every reader is behind, live.
///
/// On a terminal: a screen that is drawn anew, until q or Ctrl-C. Elsewhere: a few plain lines for each look. Everything
/// is mapped for reading only: nothing here disturbs who uses it.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The segments: names in the default directory, or paths, which have a slash [default: all in the directory]
    names: Vec<String>,

    /// How often to look
    #[arg(long, short = 'd', value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,

    /// End after so many looks
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// Plain lines, on a terminal as well
    #[arg(long)]
    plain: bool,

    /// Print one JSON object for each look, a line each
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.05..=3600.0).contains(s));
    seconds.ok_or_else(|| "a number from 0.05 to 3600".to_owned())
}

/// A segment that is watched.
struct Watched {
    name: String,
    /// Open as long as its name leads to it.
    view: Option<SegmentView>,
    seen: Result<Seen, String>,
    rates: Rates,
}

impl Top {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let signals = Signals::catch()?;
        let interval = Duration::from_secs_f64(self.interval);
        let live = !self.plain && !self.json && io::stdout().is_terminal();
        let mut keys = match live {
            true => Some(Keys::take()?),
            false => None,
        };
        let mut watched = Vec::new();
        let mut looks = 0;
        loop {
            let begun = Instant::now();
            self.look(&mut watched)?;
            looks += 1;
            // Rates are known from the second look on. Who reads lines is not bothered with the first.
            if live || looks > 1 {
                match &mut keys {
                    Some(keys) => {
                        keys.draw(&page::screen(&watched, interval, &Screen::of_stdout()))?
                    }
                    None if self.json => crate::print(&self.json(&watched)?)?,
                    None => crate::print(&page::plain(&watched))?,
                }
            }
            let shown = if live { looks } else { looks - 1 };
            if self.count.is_some_and(|count| shown >= count) {
                return Ok(());
            }
            let until = begun + interval;
            match &mut keys {
                Some(keys) => {
                    if keys.wait(until, &signals)? == Key::Quit {
                        return Ok(());
                    }
                }
                None => wait(until, &signals)?,
            }
        }
    }

    /// Looks at everything once more.
    fn look(&self, watched: &mut Vec<Watched>) -> Result<()> {
        let mut names = self.names.clone();
        if names.is_empty() {
            let files = ls::files(&default_directory())?;
            names.extend(
                files
                    .into_iter()
                    .filter_map(|(name, _)| name.into_string().ok()),
            );
        }
        watched.retain(|one| names.contains(&one.name));
        for name in &names {
            if !watched.iter().any(|one| one.name == *name) {
                watched.push(Watched {
                    name: name.clone(),
                    view: None,
                    seen: Err(String::new()),
                    rates: Rates::default(),
                });
            }
        }
        watched.sort_by(|a, b| a.name.cmp(&b.name));
        for one in watched.iter_mut() {
            one.look();
        }
        // Named by the user and not there at all: a mistake, and nothing to wait for.
        if let (false, [one]) = (self.names.is_empty(), &watched[..])
            && let Err(error) = &one.seen
        {
            ensure!(one.rates.has_been_seen(), "{error}");
        }
        Ok(())
    }

    fn json(&self, watched: &[Watched]) -> Result<String> {
        let segments: Vec<_> = watched
            .iter()
            .map(|one| match &one.seen {
                Ok(seen) => json!({
                    "name": one.name,
                    "state": seen.state,
                    "attached": seen.alive().count(),
                    "waiting": seen.waiting(),
                    "objects": one.rates.json(seen),
                    "error": null,
                }),
                Err(error) => json!({ "name": one.name, "state": "broken", "error": error }),
            })
            .collect();
        let object = json!({
            "schema_version": 1,
            "seconds": self.interval,
            "segments": segments,
        });
        Ok(serde_json::to_string(&object)? + "\n")
    }
}

impl Watched {
    fn look(&mut self) {
        // A segment that was replaced is opened anew.
        let good = self.view.as_ref().is_some_and(|view| view.check().is_ok());
        if !good {
            self.view = None;
        }
        if self.view.is_none() {
            match Name(self.name.clone()).open() {
                Ok(view) => self.view = Some(view),
                Err(error) => {
                    self.seen = Err(show::plain(&error.to_string()));
                    return;
                }
            }
        }
        if let Some(view) = &self.view {
            let seen = Seen::of(view);
            self.rates.add(&seen);
            self.seen = Ok(seen);
        }
    }
}

/// Sleeps until then, in pieces that are short for a person who has pressed Ctrl-C.
fn wait(until: Instant, signals: &Signals) -> Result<()> {
    const PIECE: Duration = Duration::from_millis(50);
    loop {
        io::stdout().flush()?;
        signals.check()?;
        crate::tail::is_read()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PIECE));
    }
}
