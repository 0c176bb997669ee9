//! `memalign SIZE ALIGN` allocates aligned memory and prints where: `address: N (0x…)`.

use anyhow::Context;
use ipc_core::MapOptions;

fn main() -> anyhow::Result<()> {
    let number = |n: usize| -> anyhow::Result<usize> {
        let text = std::env::args()
            .nth(n)
            .context("usage: memalign SIZE ALIGN")?;
        text.parse()
            .with_context(|| format!("{text:?} is not a number of bytes"))
    };
    let (size, align) = (number(1)?, number(2)?);
    let mut memory = MapOptions::new()
        .private()
        .len(size)
        .align(align)
        .map_anonymous()?
        .into_private()?;
    memory.fill(0xFF);
    let address = memory.as_ptr().addr();
    println!("address: {address} ({address:#x})");
    Ok(())
}
