//! `ipc ls`: the segments there are, and who uses them.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ipc_core::segment::{Segment, SegmentError, default_directory};
use serde::Serialize;
use serde_json::json;

use crate::look::{Seen, State};
use crate::show::{self, Cell, Screen, Table};

/// List the segments in the default directory.
///
/// They are opened for reading only: nothing here disturbs who uses them.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// The columns to print, in this order
    #[arg(
        long,
        short = 'o',
        value_name = "COLUMN,…",
        value_enum,
        value_delimiter = ','
    )]
    output: Vec<Column>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Column {
    /// The name in the directory
    Name,
    /// The kinds of the objects in it
    Kind,
    /// Bytes of the file
    Size,
    /// How full the fullest ring is
    Used,
    /// How many living processes are attached
    Attached,
    /// How many of them sleep until somebody does something
    Waiting,
    /// In use, unused, stale (only dead processes are attached) or broken (cannot be opened)
    State,
    /// The processes that are attached, and those that died so
    Processes,
    /// How many objects it holds
    Objects,
    /// Permissions of the file
    Mode,
    /// The user id of its owner
    Owner,
    /// Why it cannot be opened, or what is wrong with it
    Error,
}

/// What is printed unless the user chooses.
const USUAL: [Column; 8] = [
    Column::Name,
    Column::Kind,
    Column::Size,
    Column::Used,
    Column::Attached,
    Column::Waiting,
    Column::State,
    Column::Processes,
];

/// What is told of one file.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// The kinds of the objects in it, in the order of its directory.
    kinds: Vec<String>,
    bytes: u64,
    /// How full the fullest ring is, from 0 to 1.
    used: Option<f64>,
    attached: usize,
    waiting: usize,
    /// The processes that are attached.
    processes: Vec<u32>,
    /// The processes that died while they were, and that nobody has cleared up after.
    dead: Vec<u32>,
    state: State,
    mode: Option<String>,
    owner: Option<u32>,
    /// Why it could not be opened, or what is wrong with it.
    error: Option<String>,
}

impl Ls {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let directory = default_directory();
        let rows = files(&directory)?.into_iter().map(row);
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        crate::print(&if self.json {
            let directory = directory.to_string_lossy();
            let object = json!({ "schema_version": 1, "directory": directory, "segments": rows });
            serde_json::to_string(&object)? + "\n"
        } else {
            let columns = match &self.output[..] {
                [] => &USUAL[..],
                chosen => chosen,
            };
            table(&rows, columns).render(&Screen::of_stdout())
        })
    }
}

/// The names in the directory that segments can have, with the bytes of each file.
pub(crate) fn files(directory: &Path) -> Result<Vec<(OsString, u64)>> {
    let files = match std::fs::read_dir(directory) {
        Ok(files) => files,
        // It is made with the first segment.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", directory.display()));
        }
    };
    let mut found = Vec::new();
    for file in files {
        let file = file?;
        let name = file.file_name();
        // What begins with a dot is no segment's name.
        if !name.as_bytes().starts_with(b".") {
            found.push((name, file.metadata().map_or(0, |metadata| metadata.len())));
        }
    }
    found.sort();
    Ok(found)
}

/// What is told of a file. An error if nothing in the directory is to be trusted.
fn row((name, bytes): (OsString, u64)) -> Result<Row> {
    let mut row = Row {
        name: match name.to_str() {
            Some(name) => name.to_owned(),
            None => name.as_bytes().escape_ascii().to_string(),
        },
        kinds: Vec::new(),
        bytes,
        used: None,
        attached: 0,
        waiting: 0,
        processes: Vec::new(),
        dead: Vec::new(),
        state: State::Broken,
        mode: None,
        owner: None,
        error: None,
    };
    let Some(name) = name.to_str() else {
        row.error = Some("its name is not UTF-8, and no segment's".into());
        return Ok(row);
    };
    match Segment::open_read_only(name) {
        Ok(view) => row.fill(Seen::of(&view)),
        Err(
            error @ (SegmentError::ForeignDirectory { .. } | SegmentError::OpenDirectory { .. }),
        ) => return Err(error.into()),
        Err(error) => row.error = Some(show::plain(&error.to_string())),
    }
    Ok(row)
}

impl Row {
    fn fill(&mut self, seen: Seen) {
        self.kinds = seen
            .objects
            .iter()
            .map(|object| object.kind.clone())
            .collect();
        self.used = seen.used();
        self.waiting = seen.waiting();
        self.processes = seen.alive().map(|who| who.pid).collect();
        self.dead = seen.dead().map(|who| who.pid).collect();
        self.attached = self.processes.len();
        self.state = seen.state;
        let mut faults = seen.objects.into_iter().filter_map(|object| object.fault);
        self.error = seen.fault.or_else(|| faults.next());
        (self.mode, self.owner) = (seen.mode, seen.owner);
    }

    fn cell(&self, column: Column) -> Cell {
        let or_none = |text: String| if text.is_empty() { "-".into() } else { text };
        match column {
            Column::Name => show::plain(&self.name).into(),
            Column::Kind => or_none(self.kinds.join(",")).into(),
            Column::Size => show::bytes(self.bytes).into(),
            Column::Used => match self.used {
                None => "-".into(),
                Some(used) if used >= 1.0 => Cell::new("100%", show::Look::Warning),
                Some(used) => format!("{:.0}%", used * 100.0).into(),
            },
            Column::Attached => self.attached.to_string().into(),
            Column::Waiting => self.waiting.to_string().into(),
            Column::State => Cell::new(self.state.text(), self.state.look()),
            Column::Processes if self.state == State::Broken => self.cell(Column::Error),
            Column::Processes => or_none(self.pids()).into(),
            Column::Objects => self.kinds.len().to_string().into(),
            Column::Mode => self.mode.clone().unwrap_or_else(|| "-".into()).into(),
            Column::Owner => self
                .owner
                .map_or_else(|| "-".into(), |owner| owner.to_string())
                .into(),
            Column::Error => or_none(self.error.clone().unwrap_or_default()).into(),
        }
    }

    fn pids(&self) -> String {
        let numbers = |pids: &[u32]| {
            let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
            texts.join(",")
        };
        match (&self.processes[..], &self.dead[..]) {
            (alive, []) => numbers(alive),
            ([], dead) => format!("dead: {}", numbers(dead)),
            (alive, dead) => format!("{}; dead: {}", numbers(alive), numbers(dead)),
        }
    }
}

fn table(rows: &[Row], columns: &[Column]) -> Table {
    let heads: Vec<&'static str> = columns.iter().map(|column| head(*column)).collect();
    let mut table = Table::new(&heads);
    for row in rows {
        table.line(columns.iter().map(|column| row.cell(*column)).collect());
    }
    table
}

fn head(column: Column) -> &'static str {
    match column {
        Column::Name => "NAME",
        Column::Kind => "KIND",
        Column::Size => ">SIZE",
        Column::Used => ">USED",
        Column::Attached => ">ATTACHED",
        Column::Waiting => ">WAITING",
        Column::State => "STATE",
        Column::Processes => "PROCESSES",
        Column::Objects => ">OBJECTS",
        Column::Mode => "MODE",
        Column::Owner => ">OWNER",
        Column::Error => "ERROR",
    }
}
