//! `grep-substring STRING FILE` says whether a file contains a string: `string found`, exit 0, or `string not found`, exit 1.
//!
//! The file is searched piece by piece, and each piece repeats the end of the one before, so that a match across their
//! border is found. Any bytes will do, in the string and in the file. An error exits with 2.

use std::{ffi::OsString, fs::File, os::unix::ffi::OsStrExt, process::ExitCode};

use anyhow::Context;
use ipc_core::{MapOptions, Mapping, mapping::MapError};

fn main() -> ExitCode {
    match run() {
        Ok(true) => {
            println!("string found");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("string not found");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let [string, path]: [OsString; 2] = std::env::args_os()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .context("usage: grep-substring STRING FILE")?;
    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
    Ok(contains(
        &MapOptions::new().private().read_only().map_file(&file)?,
        string.as_bytes(),
    )?)
}

fn contains(file: &Mapping, string: &[u8]) -> Result<bool, MapError> {
    if string.is_empty() {
        return Ok(true);
    }
    let step = 64 << 10;
    let mut piece = vec![0; step + string.len() - 1];
    for start in (0..file.len()).step_by(step) {
        let len = piece.len().min(file.len() - start);
        file.read_at(start, &mut piece[..len])?;
        if piece[..len]
            .windows(string.len())
            .any(|window| window == string)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
