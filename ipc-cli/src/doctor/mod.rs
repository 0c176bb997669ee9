//! `ipc doctor`: finds what is wrong with segments and with the machine, and says what mends it.
//!
//! Looking is done as by every other command: read-only, without a place in the segment. Only with `--fix` anything is
//! changed, and then only what loses nothing: clearing up after the dead as any participant would, the mode of a directory
//! of ours, what a killed creator left unnamed. What takes data away is told as a command, for a person to decide.

mod machine;
mod mend;
mod segments;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ipc_core::segment::default_directory;
use serde::Serialize;
use serde_json::json;

use crate::look::Name;
use crate::ls;
use crate::show::{self, Cell, Look, Screen, Table};
use mend::Mend;

/// Find what is stale, dead, full, stuck, or of the wrong mode or version, and what mends it; check the machine.
///
/// Exits with 1 if a problem is left. Nothing is changed without --fix, and by that only what loses nothing: what takes
/// data away is printed as a command.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The segments: names in the default directory, or paths, which have a slash [default: all in the directory]
    names: Vec<String>,

    /// Clear up after the dead, and mend what else can be mended without loss
    #[arg(long)]
    fix: bool,

    /// How long to watch what seems to stand still
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3, value_parser = seconds)]
    watch: f64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.0..=3600.0).contains(s));
    seconds.ok_or_else(|| "a number from 0 to 3600".to_owned())
}

/// What is wrong.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    level: Level,
    kind: Kind,
    segment: Option<String>,
    object: Option<String>,
    /// What, where and why.
    what: String,
    /// The command that mends it, or what to do.
    mend: Option<String>,
    /// Whether `--fix` has mended it.
    mended: bool,
    /// What `--fix` does.
    #[serde(skip)]
    by: Option<Mend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// Something does not work, or will not.
    Problem,
    /// Worth knowing.
    Note,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Dead,
    Stale,
    Full,
    Stuck,
    Deadlock,
    Mode,
    Version,
    Broken,
    Leftover,
    Foreign,
    Machine,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Stale => "stale",
            Self::Full => "full",
            Self::Stuck => "stuck",
            Self::Deadlock => "deadlock",
            Self::Mode => "mode",
            Self::Version => "version",
            Self::Broken => "broken",
            Self::Leftover => "leftover",
            Self::Foreign => "foreign",
            Self::Machine => "machine",
        }
    }
}

impl Finding {
    fn new(level: Level, kind: Kind, what: impl Into<String>) -> Self {
        Self {
            level,
            kind,
            segment: None,
            object: None,
            what: what.into(),
            mend: None,
            mended: false,
            by: None,
        }
    }

    fn problem(kind: Kind, what: impl Into<String>) -> Self {
        Self::new(Level::Problem, kind, what)
    }

    fn note(kind: Kind, what: impl Into<String>) -> Self {
        Self::new(Level::Note, kind, what)
    }

    fn of(mut self, segment: &str) -> Self {
        self.segment = Some(show::plain(segment));
        self
    }

    fn in_object(mut self, object: &str) -> Self {
        self.object = Some(object.to_owned());
        self
    }

    fn mend(mut self, how: impl Into<String>) -> Self {
        self.mend = Some(how.into());
        self
    }

    fn is_left(&self) -> bool {
        self.level == Level::Problem && !self.mended
    }

    fn by(mut self, mend: Mend) -> Self {
        self.by = Some(mend);
        self
    }
}

impl Doctor {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let directory = default_directory();
        let mut findings = Vec::new();
        let mut names = self.names.clone();
        if names.is_empty() {
            findings.extend(segments::directory(&directory));
            self.mend(&mut findings);
            // In a directory that is refused, every single segment would be.
            let refused = findings.iter().any(Finding::is_left);
            let files = if refused {
                Vec::new()
            } else {
                ls::files(&directory)?
            };
            for (name, _) in files {
                match name.into_string() {
                    Ok(name) => names.push(name),
                    Err(name) => findings.push(segments::no_name(&directory, &name)),
                }
            }
        }
        let watch = Duration::from_secs_f64(self.watch);
        let names: Vec<Name> = names.into_iter().map(Name).collect();
        findings.extend(segments::all(&names, watch));
        let checks = machine::checks(&directory);
        findings.extend(checks.iter().filter_map(machine::Check::finding));
        self.mend(&mut findings);
        let left = findings.iter().filter(|finding| finding.is_left()).count();
        crate::print(&if self.json {
            let machine: BTreeMap<&str, &machine::Check> =
                checks.iter().map(|check| (check.name, check)).collect();
            let object = json!({
                "schema_version": 1,
                "directory": directory.to_string_lossy(),
                "segments": names.len(),
                "findings": findings,
                "machine": machine,
                "problems": left,
            });
            serde_json::to_string(&object)? + "\n"
        } else {
            text(&findings, &checks, names.len(), &Screen::of_stdout())
        })?;
        match left {
            0 => Ok(()),
            1 => bail!("one problem is left; above stands what mends it"),
            left => bail!("{left} problems are left; above stands what mends them"),
        }
    }

    /// Mends what can be, if that is wanted.
    fn mend(&self, findings: &mut [Finding]) {
        for finding in findings.iter_mut().filter(|finding| !finding.mended) {
            finding.mended = self.fix && finding.by.as_ref().is_some_and(Mend::run);
        }
    }
}

fn text(
    findings: &[Finding],
    checks: &[machine::Check],
    segments: usize,
    screen: &Screen,
) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", screen.paint("machine", Look::Bold));
    let mut table = Table::new(&["CHECK", "STATE", "FOUND"]).indent(2);
    for check in checks {
        let (state, look) = match check.problem.is_none() {
            true => ("good", Look::Good),
            false if check.is_serious => ("problem", Look::Bad),
            false => ("note", Look::Warning),
        };
        table.line(vec![
            check.name.into(),
            Cell::new(state, look),
            check.found.clone().into(),
        ]);
    }
    text += &table.render(screen);
    let _ = writeln!(
        text,
        "\n{}  {segments} looked at",
        screen.paint("segments", Look::Bold)
    );
    for finding in findings {
        let (level, look) = match (finding.mended, finding.level) {
            (true, _) => ("mended", Look::Good),
            (_, Level::Problem) => ("problem", Look::Bad),
            (_, Level::Note) => ("note", Look::Warning),
        };
        let place = match (&finding.segment, &finding.object) {
            (Some(segment), Some(object)) => format!("{segment}: {object}: "),
            (Some(segment), None) => format!("{segment}: "),
            _ => String::new(),
        };
        let kind = finding.kind.text();
        let level = screen.paint(level, look);
        let _ = writeln!(text, "  {level} ({kind})  {place}{}", finding.what);
        if let (false, Some(mend)) = (finding.mended, &finding.mend) {
            let _ = writeln!(text, "      {} {mend}", screen.paint("mend:", Look::Bold));
        }
    }
    if findings.is_empty() {
        let _ = writeln!(text, "  {}", screen.paint("nothing is wrong", Look::Good));
    }
    text
}
