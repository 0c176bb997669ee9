//! `dev-zero` maps /dev/zero, which is anonymous memory under another name, as it was had before there was a flag for it.

use std::fs::OpenOptions;

use ipc_core::MapOptions;

fn main() -> anyhow::Result<()> {
    let zero = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/zero")?;
    // A device has no length of its own.
    println!(
        "without a length: {}",
        MapOptions::new().map_file(&zero).unwrap_err()
    );
    let one = MapOptions::new().private().len(4096).map_file(&zero)?;
    let other = MapOptions::new().private().len(4096).map_file(&zero)?;
    one.write_at(0, b"mine")?;
    println!(
        "one: {:?}, other: {:?}",
        one.to_vec(0..4)?,
        other.to_vec(0..4)?
    );
    Ok(())
}
