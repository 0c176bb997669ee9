//! `glob-id`: a file hands out unique ids to any number of processes, without a server.
//!
//! `glob-id init [FILE]` creates the file, `glob-id get [FILE]` draws an id from it; the file is `counter.data` unless
//! another one is named. The classic program races, and forgets in a power cut; this one gives no id twice.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ipc_core::ids::Ids;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let file = PathBuf::from(
        arguments
            .next()
            .unwrap_or_else(|| "counter.data".to_owned()),
    );
    match command.as_deref() {
        Some("init") => drop(Ids::create(file)?),
        Some("get") => {
            // Magic, version, checksum, size and owner: a file that is none of ours is left as it was.
            println!("checking magic number...");
            let ids = Ids::open(file)?;
            println!("got id: {}", ids.next()?);
            // When the last id was drawn; best effort.
            ids.touch();
        }
        _ => bail!("usage: glob-id init|get [FILE]"),
    }
    Ok(())
}
