//! `protect` takes rights away from a page, and shows what a store comes to then.

use ipc_core::{
    MapOptions,
    mapping::{Access, page_size},
};
use ipc_examples::child::{poke, signal_of};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let memory = MapOptions::new().private().len(2 * page).map_anonymous()?;
    let (open, mut closed) = memory.split_at(page)?;
    for access in [Access::ReadWrite, Access::Read, Access::None] {
        closed.protect(access)?;
        let address = closed.address();
        let raw = signal_of(|| {
            poke(address, 1);
            Ok(())
        })?;
        let safe = closed
            .write_at(0, &[1])
            .map_or_else(|error| error.to_string(), |()| "fine".into());
        println!(
            "{access}: a raw store: {}; a safe one: {safe}",
            raw.unwrap_or("fine")
        );
    }
    open.write_at(0, &[1])?;
    // Frozen memory is a slice that has no way to be written: that mistake does not compile.
    let mut memory = MapOptions::new()
        .private()
        .len(5)
        .map_anonymous()?
        .into_private()?;
    memory.copy_from_slice(b"fixed");
    println!("frozen: {}", std::str::from_utf8(&memory.freeze()?)?);
    Ok(())
}
