//! Starts everything, kills a process now and then, starts another in its place, and checks what came of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use ipc_core::segment::Segment;

use crate::{check, shared};

/// Orders to be confirmed.
const ORDERS: usize = 3_000;
const WORKERS: usize = 3;
/// So many are confirmed between one kill and the next.
const ORDERS_A_KILL: usize = 50;

/// A process of this program, in another role.
fn start(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let child = command.args(arguments).stdout(Stdio::piped()).spawn();
    child.with_context(|| format!("cannot start {arguments:?}"))
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().to_str().context("a path in UTF-8")?;
    // All files exist before anybody works on them, and we hold none of them.
    drop((
        shared::segment()?,
        shared::ids(directory.path())?,
        shared::fills(directory.path())?,
    ));
    let outcome = trade(path, directory.path());
    Segment::unlink(shared::NAME)?;
    println!("{}", outcome?);
    Ok(())
}

fn trade(path: &str, directory: &Path) -> Result<String> {
    let mut workers = (0..WORKERS)
        .map(|_| start(&["worker", path]))
        .collect::<Result<Vec<_>>>()?;
    let mut board = start(&["board"])?;
    let mut ids = Vec::new();
    let mut kills = 0;
    while ids.len() < ORDERS {
        let count = ORDERS - ids.len();
        let mut feed = start(&["feed", path, &count.to_string()])?;
        let lines = BufReader::new(feed.stdout.take().context("it was piped")?).lines();
        for line in lines {
            ids.push(line?.parse()?);
            if ids.len() % ORDERS_A_KILL != 0 {
                continue;
            }
            kills += 1;
            if kills % 5 == 0 {
                // What it had confirmed before is still to be read.
                feed.kill()?;
            } else {
                let worker = &mut workers[kills % WORKERS];
                kill(worker)?;
                *worker = start(&["worker", path])?;
            }
        }
        feed.wait()?;
    }
    shared::close()?;
    for mut worker in workers {
        ensure!(worker.wait()?.success(), "a worker failed");
    }
    ensure!(board.wait()?.success(), "the board failed");
    let mut prices = String::new();
    board
        .stdout
        .take()
        .context("it was piped")?
        .read_to_string(&mut prices)?;
    Ok(format!(
        "{kills} kills; {} prices shown; {}",
        prices.lines().count(),
        check::against(&ids, directory)?
    ))
}
