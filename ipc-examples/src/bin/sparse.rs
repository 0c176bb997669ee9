//! `sparse` maps a tebibyte that costs nothing until it is touched, and explains what is refused.

use ipc_core::{
    MapOptions,
    mapping::{MapError, huge_page_size, overcommit, page_size},
};

fn main() -> anyhow::Result<()> {
    println!("{}", overcommit()?);
    let before = resident()?;
    let memory = MapOptions::new()
        .private()
        .no_reserve()
        .len(1 << 40)
        .map_anonymous()?;
    for gibibyte in 0..10 {
        memory.write_at(gibibyte << 30, &[1])?;
    }
    let most = 10 * huge_page_size().unwrap_or(0).max(page_size()) + (1 << 20);
    println!(
        "{} bytes mapped, little in memory: {}",
        memory.len(),
        resident()? - before < most
    );
    match MapOptions::new()
        .private()
        .no_reserve()
        .len(1 << 60)
        .map_anonymous()
    {
        Err(MapError::Refused { len, .. }) => println!("refused: {len} bytes"),
        other => println!("{other:?}"),
    }
    Ok(())
}

/// What this process has in memory, in bytes.
fn resident() -> anyhow::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split(' ').nth(1).unwrap_or("0").parse::<usize>()? * page_size())
}
