//! `mremap-grow` grows a mapping: where it lies, elsewhere, and into room that was kept.

use ipc_core::{
    MapOptions,
    mapping::{Reservation, Resize, page_size},
};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let memory = MapOptions::new().private().len(page).map_anonymous()?;
    memory.write_at(0, b"kept")?;
    // Offsets stay; the address may change, so the old value is given up.
    let memory = memory.resize(1000 * page, Resize::MayMove)?;
    println!(
        "grown to 1000 pages: {}",
        String::from_utf8(memory.to_vec(0..4)?)?
    );
    let memory = memory.resize(1, Resize::InPlace)?;
    println!("shrunk to {} byte", memory.len());

    // Addresses that are reserved are free to grow into.
    let reserved = Reservation::new(8 * page)?;
    let place = reserved.address();
    let memory = memory
        .move_into(reserved)?
        .resize(8 * page, Resize::InPlace)?;
    println!("grown into a reserved place: {}", memory.address() == place);

    // The same from the beginning, for a file in memory.
    let file = MapOptions::new()
        .len(page)
        .room(8 * page)
        .map_memfd("grows")?;
    let before = file.address();
    let file = file.resize(8 * page, Resize::InPlace)?;
    println!(
        "the file has {} pages, and the mapping has moved: {}",
        file.len() / page,
        file.address() != before
    );
    match file.resize(9 * page, Resize::InPlace) {
        Err(kept) => println!(
            "no more room: the mapping still has {} pages",
            kept.mapping.len() / page
        ),
        Ok(_) => println!("there was room behind"),
    }
    Ok(())
}
