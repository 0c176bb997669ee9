//! `nonlinear [PAGE…]` maps the pages of a file in the order given, which is what `remap_file_pages` did of old.

use ipc_core::{
    MapOptions,
    mapping::{Reservation, page_size},
};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let mut order = std::env::args()
        .skip(1)
        .map(|n| n.parse())
        .collect::<Result<Vec<usize>, _>>()?;
    if order.is_empty() {
        order = vec![3, 1, 0, 2, 2];
    }
    let pages = order.iter().max().map_or(1, |last| last + 1);
    let file = MapOptions::new().len(pages * page).map_memfd("pages")?;
    for number in 0..pages {
        file.write_at(number * page, format!("page {number}").as_bytes())?;
    }
    let mut range = Reservation::new(order.len() * page)?;
    for (place, number) in order.iter().enumerate() {
        let part = MapOptions::new().offset((number * page) as u64).len(page);
        range.place_file(place * page, &part, &file.file().expect("a memfd is kept"))?;
    }
    let mapping = range.into_mapping()?;
    for place in 0..order.len() {
        let bytes = mapping.to_vec(place * page..(place + 1) * page)?;
        println!(
            "{place}: {}",
            String::from_utf8_lossy(&bytes).trim_end_matches('\0')
        );
    }
    Ok(())
}
