//! `advice` tells the kernel what to expect, and shows where that changes bytes.

use std::io::Write;

use ipc_core::{
    MapOptions,
    mapping::{Advice, page_size},
};
use ipc_examples::child;

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let memory = MapOptions::new().private().len(page).map_anonymous()?;
    for advice in [
        Advice::Sequential,
        Advice::Random,
        Advice::Normal,
        Advice::WillNeed,
        Advice::Cold,
        Advice::DontDump,
    ] {
        memory.write_at(0, b"here")?;
        memory.advise(.., advice)?;
        println!("{advice:?}: {}", String::from_utf8(memory.to_vec(0..4)?)?);
    }
    memory.advise(.., Advice::DontNeed)?;
    println!("DontNeed, anonymous: {:?}", memory.to_vec(0..4)?);

    let mut file = tempfile::tempfile()?;
    file.write_all(b"file")?;
    let private = MapOptions::new().private().map_file(&file)?;
    private.write_at(0, b"mine")?;
    private.advise(.., Advice::DontNeed)?;
    println!(
        "DontNeed, file: {}",
        String::from_utf8(private.to_vec(0..4)?)?
    );

    memory.write_at(0, b"mine")?;
    memory.advise(.., Advice::WipeOnFork)?;
    child::run(|| {
        println!("WipeOnFork, in the child: {:?}", memory.to_vec(0..4)?);
        Ok(())
    })?;
    memory.advise(.., Advice::DontFork)?;
    child::run(|| {
        println!(
            "DontFork, in the child: {}",
            memory.read_at(0, &mut [0]).is_err()
        );
        Ok(())
    })
}
