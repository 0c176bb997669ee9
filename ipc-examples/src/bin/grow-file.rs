//! `grow-file` grows a file that another mapping uses: whoever wants the new part maps it, and nobody is moved.

use ipc_core::{MapOptions, mapping::page_size};
use rustix::fs::{FlockOperation, flock};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let file = tempfile::tempfile()?;
    let first = MapOptions::new()
        .len(page)
        .extend_file()
        .keep_file()
        .map_file(&file)?;
    drop(file);
    let address = first.address();

    // The file stays open with the mapping: to lock it, to make it grow with all its blocks, and to sync it.
    let file = first.file().expect("it was kept");
    flock(file, FlockOperation::LockExclusive)?;
    let second = MapOptions::new()
        .len(3 * page)
        .extend_file()
        .map_file(&file)?;
    flock(file, FlockOperation::Unlock)?;
    first.sync_file()?;

    second.write_at(0, b"one file")?;
    println!(
        "first: {} page, moved: {}, sees {:?}",
        first.len() / page,
        first.address() != address,
        text(&first)?
    );
    println!(
        "second: {} pages, sees {:?}",
        second.len() / page,
        text(&second)?
    );
    Ok(())
}

fn text(mapping: &ipc_core::Mapping) -> anyhow::Result<String> {
    Ok(String::from_utf8(mapping.to_vec(0..8)?)?)
}
