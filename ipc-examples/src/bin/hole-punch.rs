//! `hole-punch` gives the middle of a file in memory back, without changing its length.

use ipc_core::{
    MapOptions,
    mapping::{Advice, page_size},
};
use rustix::fs::fstat;

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let mapping = MapOptions::new().len(8 * page).map_memfd("cheese")?;
    mapping.write_at(0, &vec![b'#'; 8 * page])?;
    for advice in [None, Some(Advice::Remove)] {
        if let Some(advice) = advice {
            mapping.advise(2 * page..6 * page, advice)?;
        }
        // Asked first: reading a hole through a mapping fills it with pages of zeros again.
        let stat = fstat(mapping.file().expect("a memfd is kept"))?;
        let bytes = mapping.to_vec(..)?;
        let picture: String = bytes
            .chunks(page)
            .map(|page| if page[0] == 0 { '.' } else { '#' })
            .collect();
        println!(
            "{picture} {} pages long, {} in use",
            stat.st_size as usize / page,
            stat.st_blocks as usize * 512 / page
        );
    }
    Ok(())
}
