//! `layers` lays pieces of two files and of none side by side, and prints them as one.

use std::io::Write;

use ipc_core::{
    MapOptions,
    mapping::{Reservation, page_size},
};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let (mut one, mut two) = (tempfile::tempfile()?, tempfile::tempfile()?);
    one.write_all(&vec![b'1'; page])?;
    two.write_all(&vec![b'2'; 3 * page])?;

    let mut range = Reservation::new(8 * page)?;
    let read = MapOptions::new().read_only();
    range.place_file(0, &read, &one)?;
    range.place_anonymous(page, &read.clone().len(page))?;
    range.place_file(
        2 * page,
        &read.clone().offset(page as u64).len(2 * page),
        &two,
    )?;
    println!("taken: {}", range.place_file(page, &read, &one).is_err());
    let mapping = range.into_mapping()?;

    let bytes = mapping.to_vec(..)?;
    let picture: String = bytes
        .chunks(page)
        .map(|page| if page[0] == 0 { '0' } else { page[0] as char })
        .collect();
    println!("{picture}");
    Ok(())
}
