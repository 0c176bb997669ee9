//! `refusals` asks for what cannot work, and prints what it is told.

use std::fs::File;

use ipc_core::{MapOptions, mapping::MapError};

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, [0; 10_000])?;
    let read = File::open(&path)?;
    let write = File::options().write(true).open(&path)?;
    let both = File::options().read(true).write(true).open(&path)?;
    let directory = File::open(dir.path())?;

    let say = |result: Result<_, MapError>| match result {
        Err(error) => println!(
            "{}",
            error
                .to_string()
                .replace(&dir.path().display().to_string(), "DIR")
        ),
        Ok(_) => println!("it works"),
    };
    say(MapOptions::new().map_file(&read));
    say(MapOptions::new().read_only().map_file(&read));
    say(MapOptions::new().private().map_file(&read));
    say(MapOptions::new().read_only().map_file(&write));
    say(MapOptions::new().offset(5000).map_file(&both));
    say(MapOptions::new().len(20_000).map_file(&both));
    say(MapOptions::new().read_only().map_file(&directory));
    say(MapOptions::new().len(100).align(48).map_anonymous());
    say(MapOptions::new().map_anonymous());
    say(MapOptions::new().len(1 << 50).map_memfd("memory"));
    Ok(())
}
