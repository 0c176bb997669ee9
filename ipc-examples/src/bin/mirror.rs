//! `mirror` maps the same pages twice in a row, so that what runs over the end is in one piece.

use ipc_core::{
    MapOptions,
    mapping::{Reservation, page_size},
};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let ring = MapOptions::new().len(page).map_memfd("ring")?;
    let file = ring.file().expect("a memfd is kept");
    let mut range = Reservation::new(2 * page)?;
    range.place_file(0, &MapOptions::new(), &file)?;
    range.place_file(page, &MapOptions::new(), &file)?;
    let mirror = range.into_mapping()?;

    mirror.write_at(page - 5, b"over the seam")?;
    println!(
        "in one piece: {}",
        String::from_utf8(mirror.to_vec(page - 5..page + 8)?)?
    );
    println!(
        "at the beginning of the ring: {}",
        String::from_utf8(ring.to_vec(0..8)?)?
    );
    println!(
        "at its end: {}",
        String::from_utf8(ring.to_vec(page - 5..)?)?
    );
    Ok(())
}
