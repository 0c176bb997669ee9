//! `msync-demo [FILE]` changes a file through a mapping and writes it back, in the three ways there are.

use std::{fs::OpenOptions, path::PathBuf};

use ipc_core::{
    MapOptions,
    mapping::{Sync, page_size},
};

fn main() -> anyhow::Result<()> {
    let file = match std::env::args_os().nth(1).map(PathBuf::from) {
        Some(path) => OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?,
        None => tempfile::tempfile()?,
    };
    let page = page_size();
    let mapping = MapOptions::new()
        .len(4 * page)
        .extend_file()
        .keep_file()
        .map_file(&file)?;
    mapping.write_at(page - 2, b"over the edge")?;

    mapping.sync(.., Sync::Schedule)?;
    println!("scheduled: the kernel writes when it likes");
    mapping.sync(.., Sync::Invalidate)?;
    println!("invalidated: other mappings see it, as they did before");
    // 13 bytes in two pages: the range is widened to both.
    mapping.sync(page - 2..page + 11, Sync::Wait)?;
    println!("waited: {} bytes are on the disk", 2 * page);
    mapping.sync_file()?;
    println!("fsync: so are its times; a new name needs an fsync of its directory");
    Ok(())
}
