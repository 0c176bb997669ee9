//! `variants` maps memory in each of the ways there are, and tells what became of it.

use ipc_core::{
    MapOptions,
    mapping::{HugePages, huge_page_size, page_size},
};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let plain = MapOptions::new().private().len(16 * page);
    println!(
        "plain: {} pages in memory",
        plain.map_anonymous()?.residency(..)?.resident()
    );
    let populated = plain.clone().populate().map_anonymous()?;
    println!(
        "populated: {} pages in memory",
        populated.residency(..)?.resident()
    );
    let locked = plain.clone().len(page).lock().map_anonymous()?;
    println!(
        "locked: {} page in memory",
        locked.residency(..)?.resident()
    );

    let size = huge_page_size().unwrap_or(2 << 20);
    match MapOptions::new()
        .len(size)
        .huge_pages()
        .map_anonymous()?
        .huge_pages()
    {
        HugePages::Reserved(size) => println!("huge pages: {size} bytes each"),
        HugePages::Transparent(_) => println!("huge pages: none set aside; as the kernel sees fit"),
        _ => println!("huge pages: none on this machine"),
    }

    let address = populated.address();
    drop(populated);
    let fixed = plain.clone().at(address).map_anonymous()?;
    println!("where it was asked for: {}", fixed.address() == address);
    println!("again: {}", plain.at(address).map_anonymous().is_err());
    Ok(())
}
