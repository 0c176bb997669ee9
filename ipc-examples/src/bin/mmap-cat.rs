//! `mmap-cat FILE` writes a file to standard output through a private mapping.
//!
//! It copies piece by piece out of the mapping, so it never holds more than a piece; a file that is cut short meanwhile is
//! an error, and a reader that goes away is the end.

use std::{
    fs::File,
    io::{ErrorKind, Write},
};

use anyhow::Context;
use ipc_core::MapOptions;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).context("usage: mmap-cat FILE")?;
    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
    let mapping = MapOptions::new().private().read_only().map_file(&file)?;

    let mut out = std::io::stdout().lock();
    let mut piece = vec![0; 64 << 10];
    for start in (0..mapping.len()).step_by(piece.len()) {
        let len = piece.len().min(mapping.len() - start);
        mapping.read_at(start, &mut piece[..len])?;
        match out.write_all(&piece[..len]).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}
