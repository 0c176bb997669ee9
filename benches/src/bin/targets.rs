//! Whether the targets were reached: `targets run1.json run2.json …`, of runs of the comparison with peers.

use anyhow::{Context, Result, ensure};
use ipc_benches::targets::table;
use serde_json::Value;

fn main() -> Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!files.is_empty(), "which runs? targets RUN.json …");
    let read = |file: &String| -> Result<Value> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        serde_json::from_str(&text).with_context(|| format!("{file} is no report"))
    };
    let runs = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    print!("{}", table(&runs));
    Ok(())
}
