//! `guard-page` overruns a mapping by one byte, in a child, and tells what came of it.

use ipc_core::{MapOptions, mapping::page_size};
use ipc_examples::child::{poke, signal_of};

fn main() -> anyhow::Result<()> {
    let memory = MapOptions::new()
        .private()
        .len(page_size())
        .guard_pages()
        .map_anonymous()?;
    let (first, last) = (memory.address(), memory.address() + page_size() - 1);
    for (what, address) in [
        ("first byte", first),
        ("last byte", last),
        ("one before", first - 1),
        ("one after", last + 1),
    ] {
        let ended = signal_of(|| {
            poke(address, 1);
            Ok(())
        })?;
        println!("{what}: {}", ended.unwrap_or("fine"));
    }
    // The safe calls do not get that far.
    println!(
        "write_at: {}",
        memory.write_at(page_size(), &[1]).unwrap_err()
    );
    Ok(())
}
