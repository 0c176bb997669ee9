//! `file-part FILE OFFSET LENGTH` writes a part of a file to standard output.
//!
//! Any offset will do: the mapping begins on the page below, and hides the difference.

use std::{fs::File, io::Write};

use anyhow::Context;
use ipc_core::MapOptions;

fn main() -> anyhow::Result<()> {
    let usage = "usage: file-part FILE OFFSET LENGTH";
    let path = std::env::args_os().nth(1).context(usage)?;
    let number = |n| {
        std::env::args()
            .nth(n)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let (offset, len) = (number(2).context(usage)?, number(3).context(usage)?);
    let file = File::open(path)?;
    // Behind the end of the file there are zeros up to the end of its last page, which are no part of it.
    let rest = file.metadata()?.len().saturating_sub(offset);
    if rest == 0 || len == 0 {
        return Ok(());
    }
    let part = MapOptions::new()
        .read_only()
        .offset(offset)
        .any_offset()
        .len(rest.min(len) as usize);
    std::io::stdout().write_all(&part.map_file(&file)?.to_vec(..)?)?;
    Ok(())
}
