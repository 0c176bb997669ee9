//! `--role both`: starting the other program of a pair.

use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};

/// Starts the program `name`, which lies beside this one, if this one was called with `--role both`.
pub fn other(name: &str) -> Result<Option<Child>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => Ok(None),
        ["--role", "both"] => {
            let program = std::env::current_exe()?.with_file_name(name);
            let child = Command::new(&program).spawn();
            let child = child.with_context(|| format!("cannot start {}", program.display()))?;
            Ok(Some(child))
        }
        _ => bail!("usage: no arguments, or --role both to start {name} too"),
    }
}

/// Waits for the other program, if it was started.
pub fn wait_for(other: Option<Child>) -> Result<()> {
    if let Some(mut other) = other {
        let status = other.wait()?;
        ensure!(status.success(), "the other side: {status}");
    }
    Ok(())
}
