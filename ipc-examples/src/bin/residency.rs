//! `residency [FILE]` tells which pages of a mapping are in memory.

use std::fs::File;

use ipc_core::{
    MapOptions, Mapping,
    mapping::{Advice, MapError, page_size},
};

fn show(what: &str, mapping: &Mapping) -> Result<(), MapError> {
    let found = mapping.residency(..)?;
    let map: String = found
        .pages
        .iter()
        .map(|resident| if *resident { '#' } else { '.' })
        .collect();
    println!(
        "{what}: {map} {} of {}",
        found.resident(),
        found.pages.len()
    );
    Ok(())
}

fn main() -> anyhow::Result<()> {
    if let Some(path) = std::env::args_os().nth(1) {
        // Of a file this is the page cache: whoever read the file brought it in.
        let mapping = MapOptions::new()
            .read_only()
            .map_file(&File::open(&path)?)?;
        let found = mapping.residency(..)?;
        println!(
            "{}: {} of {} pages",
            path.display(),
            found.resident(),
            found.pages.len()
        );
        return Ok(());
    }
    let page = page_size();
    let memory = MapOptions::new().private().len(8 * page).map_anonymous()?;
    memory.advise(.., Advice::NoHugePage).ok();
    show("new      ", &memory)?;
    memory.write_at(3 * page, &[1])?;
    show("touched  ", &memory)?;
    memory.advise(5 * page.., Advice::PopulateWrite)?;
    show("populated", &memory)?;
    memory.advise(..6 * page, Advice::DontNeed)?;
    show("dropped  ", &memory)?;
    Ok(())
}
