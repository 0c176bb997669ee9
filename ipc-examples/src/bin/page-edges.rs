//! `page-edges` looks beyond the end of a file: zeros to the end of the page, then nothing.
//!
//! # Safety
//!
//! The one raw mapping replaces nothing, and is read in a child that may end by it.
#![allow(unsafe_code)]

use std::fs::File;

use ipc_core::{MapOptions, mapping::page_size};
use ipc_examples::child::{peek, signal_of};

fn main() -> anyhow::Result<()> {
    let page = page_size();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, b"five!")?;
    let file = File::options().read(true).write(true).open(&path)?;
    let say = |what: &str, text: String| {
        println!(
            "{what}: {}",
            text.replace(&path.display().to_string(), "the file")
        );
    };

    // The length may be rounded up to the page, and no further.
    let mapping = MapOptions::new().len(page).map_file(&file)?;
    mapping.write_at(5, b" and a tail")?;
    say("in memory", String::from_utf8(mapping.to_vec(0..16)?)?);
    say("in the file", std::fs::read_to_string(&path)?);
    let more = MapOptions::new().len(page + 1).map_file(&file);
    say("a page more", more.unwrap_err().to_string());

    // Somebody cuts the file short.
    file.set_len(0)?;
    let raw = signal_of(|| raw_read(&file))?;
    say("a raw read", raw.unwrap_or("fine").into());
    let safe = mapping.read_at(0, &mut [0]);
    say("a safe one", safe.unwrap_err().to_string());
    Ok(())
}

/// Reads the first byte of a file through a mapping that the library does not know.
fn raw_read(file: &File) -> anyhow::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let any = std::ptr::null_mut();
    // SAFETY: nothing is replaced.
    let at = unsafe { mmap(any, page_size(), ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
    peek(at.expose_provenance());
    Ok(())
}
