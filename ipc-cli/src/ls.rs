//! `ipc ls`: the segments there are, and who uses them.

use std::fmt::Write;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::BinaryBytes;
use ipc_core::participant::Life;
use ipc_core::segment::{Segment, SegmentView, default_directory};
use serde::Serialize;
use serde_json::json;

/// List the segments in the default directory.
///
/// They are opened for reading only: nothing here disturbs who uses them.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is told of one file.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// The kinds of the objects in it, in the order of its directory.
    kinds: Vec<String>,
    bytes: u64,
    /// The processes that are attached.
    processes: Vec<u32>,
    /// The processes that died while they were, and that nobody has cleared up after.
    dead: Vec<u32>,
    state: State,
    /// Why it could not be opened.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// A living process is attached.
    InUse,
    /// Nobody is attached.
    Unused,
    /// Only dead ones are.
    Stale,
    /// It cannot be opened.
    Broken,
}

impl Ls {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let directory = default_directory();
        let rows = rows()?;
        crate::print(&if self.json {
            let object = json!({ "schema_version": 1, "directory": directory, "segments": rows });
            serde_json::to_string(&object)? + "\n"
        } else {
            table(&rows)
        })
    }
}

fn rows() -> Result<Vec<Row>> {
    let directory = default_directory();
    let files = match std::fs::read_dir(&directory) {
        Ok(files) => files,
        // It is made with the first segment.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", directory.display()));
        }
    };
    let mut rows = Vec::new();
    for file in files {
        let file = file?;
        let name = file.file_name().as_bytes().escape_ascii().to_string();
        // What begins with a dot is no segment's name.
        if !name.starts_with('.') {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            rows.push(row(name, bytes));
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn row(name: String, bytes: u64) -> Row {
    let mut row = Row {
        kinds: Vec::new(),
        bytes,
        processes: Vec::new(),
        dead: Vec::new(),
        state: State::Broken,
        error: None,
        name,
    };
    match Segment::open_read_only(&row.name) {
        Ok(view) => row.look_at(&view),
        Err(error) => row.error = Some(error.to_string()),
    }
    row
}

impl Row {
    fn look_at(&mut self, view: &SegmentView) {
        self.kinds = view.entries().iter().map(|entry| tag(entry.kind)).collect();
        for id in view.participants() {
            match view.life(id) {
                Life::Alive(who) => self.processes.push(who.pid),
                Life::Dead(who) => self.dead.push(who.pid),
                _ => {}
            }
        }
        self.state = match (self.processes.is_empty(), self.dead.is_empty()) {
            (false, _) => State::InUse,
            (true, false) => State::Stale,
            (true, true) => State::Unused,
        };
    }

    fn cells(&self) -> [String; 5] {
        let numbers = |pids: &[u32]| {
            let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
            texts.join(",")
        };
        let processes = match (&self.processes[..], &self.dead[..]) {
            ([], []) => "-".to_owned(),
            (alive, []) => numbers(alive),
            ([], dead) => format!("dead: {}", numbers(dead)),
            (alive, dead) => format!("{}; dead: {}", numbers(alive), numbers(dead)),
        };
        let state = match self.state {
            State::InUse => "in use",
            State::Unused => "unused",
            State::Stale => "stale",
            State::Broken => "broken",
        };
        let kinds = match &self.kinds[..] {
            [] => "-".to_owned(),
            kinds => kinds.join(","),
        };
        [
            self.name.clone(),
            kinds,
            BinaryBytes(self.bytes).to_string(),
            state.to_owned(),
            self.error.clone().unwrap_or(processes),
        ]
    }
}

/// The tag of a kind as text. Any process may have written it.
fn tag(tag: [u8; 8]) -> String {
    let end = tag
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    tag[..end].escape_ascii().to_string()
}

/// One line for each, its columns below each other. The last column is not padded.
fn table(rows: &[Row]) -> String {
    let head = ["NAME", "KIND", "SIZE", "STATE", "PROCESSES"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line[4]);
    }
    text
}
