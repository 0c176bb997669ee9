//! `ipc completions` and `ipc man`: what is made from the description of the command line itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

use crate::ended::{self, Ended};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print a man page, in roff: `ipc man pair | man -l -`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The subcommand, such as `pair` or `id get`; without it, the page of `ipc` itself
    #[arg(value_name = "SUBCOMMAND")]
    path: Vec<String>,

    /// Write the pages of all commands to this directory instead, to be copied to a place such as /usr/share/man/man1
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "path")]
    to: Option<PathBuf>,
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
    pub(crate) fn run(&self, mut root: Command) -> Result<()> {
        root.build();
        if let Some(directory) = &self.to {
            return write_all(directory, &root, "ipc");
        }
        let (mut command, mut name) = (&root, "ipc".to_owned());
        for part in &self.path {
            command = command.find_subcommand(part).ok_or_else(|| {
                let known: Vec<&str> = subcommands(command).map(Command::get_name).collect();
                let known = match &known[..] {
                    [] => "it has none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                Ended::Usage(format!(
                    "there is no subcommand {part:?} of {name:?}; {known}"
                ))
            })?;
            name = format!("{name} {part}");
        }
        crate::print(&page(command, &name)?)
    }
}

/// Those that a person would look for.
fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|command| command.get_name() != "help")
}

/// The page of the command, and those of what is below it, each in a file.
fn write_all(directory: &Path, command: &Command, name: &str) -> Result<()> {
    let path = directory.join(format!("{}.1", name.replace(' ', "-")));
    fs::write(&path, page(command, name)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for below in subcommands(command) {
        write_all(directory, below, &format!("{name} {}", below.get_name()))?;
    }
    Ok(())
}

/// The page of a command that is called by `name`.
fn page(command: &Command, name: &str) -> Result<String> {
    let dashed = name.replace(' ', "-");
    let shown = command.clone().display_name(&dashed).bin_name(name);
    let man = clap_mangen::Man::new(shown)
        .title(&dashed)
        .source(concat!("ipc ", env!("CARGO_PKG_VERSION")))
        .manual("Shared memory between processes");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in ended::CODES {
        rest.control("TP", []);
        rest.text([bold(code.to_string())]);
        rest.text([roman(*meaning)]);
    }
    rest.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in ENVIRONMENT {
        rest.control("TP", []);
        rest.text([bold(*variable)]);
        rest.text([roman(*meaning)]);
    }
    rest.control("SH", ["SEE ALSO"]);
    let mut others = vec!["ipc".to_owned()];
    let parent = name.rsplit_once(' ').map_or("ipc", |(parent, _)| parent);
    if parent != "ipc" {
        others.push(parent.replace(' ', "-"));
    }
    others.extend(subcommands(command).map(|below| format!("{dashed}-{}", below.get_name())));
    others.retain(|other| *other != dashed);
    let others: Vec<String> = others.iter().map(|other| format!("{other}(1)")).collect();
    rest.text([roman(others.join(", "))]);
    page.extend(rest.to_roff().into_bytes());
    // Not every formatter takes more than ASCII.
    let ascii = |c: char| match c {
        '\0'..='\x7f' => c.to_string(),
        c => format!("\\[u{:04X}]", u32::from(c)),
    };
    Ok(String::from_utf8(page)?.chars().map(ascii).collect())
}

/// The variables that every command heeds.
const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "IPC_DIR",
        "The default directory of segments. Without it: $XDG_RUNTIME_DIR/ipc, else /dev/shm/ipc-UID.",
    ),
    ("NO_COLOR", "If set and not empty, nothing is coloured."),
];
