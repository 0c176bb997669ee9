//! The command `ipc`, as a library with a thin binary.
//!
//! One file per subcommand. Data goes to standard output, everything else to standard error.

mod bench;
mod child;
mod consume;
mod cpus;
mod doctor;
mod ended;
mod generate;
mod id;
mod inspect;
mod look;
mod ls;
mod pair;
mod produce;
mod push;
mod record;
mod recording;
mod replay;
mod rm;
mod show;
mod signals;
mod stream;
mod tail;
mod top;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};

use ended::Ended;

/// Run, measure and inspect shared memory between processes.
#[derive(Debug, Parser)]
#[command(name = "ipc", bin_name = "ipc", version, max_term_width = 100, after_help = ended::exit_codes())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pair(pair::Pair),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Id(id::Id),
    Ls(ls::Ls),
    Inspect(inspect::Inspect),
    Doctor(doctor::Doctor),
    Tail(tail::Tail),
    Top(top::Top),
    Record(record::Record),
    Replay(replay::Replay),
    Bench(bench::Bench),
    Rm(rm::Rm),
    Completions(generate::Completions),
    Man(generate::Man),
}

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Pair(pair) => pair.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Id(id) => id.run(),
        Command::Ls(ls) => ls.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Tail(tail) => tail.run(),
        Command::Top(top) => top.run(),
        Command::Record(record) => record.run(),
        Command::Replay(replay) => replay.run(),
        Command::Bench(bench) => bench.run(),
        Command::Rm(rm) => rm.run(),
        Command::Completions(completions) => completions.run(Arguments::command()),
        Command::Man(man) => man.run(Arguments::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Ended::of(&error).exit(&error),
    }
}

/// Writes to standard output; a reader that has gone away is told as [`Ended::NoReader`].
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write to standard output")
}

/// Says something on standard error. Who reads it may have gone away, and nobody is told then.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
