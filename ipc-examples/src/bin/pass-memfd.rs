//! `pass-memfd` starts itself anew and passes it a file in memory: mappings end with exec, a descriptor need not.
//!
//! # Safety
//!
//! The child borrows the descriptor that its parent passed it, and that nobody closes.
#![allow(unsafe_code)]

use std::{
    os::fd::{AsRawFd, BorrowedFd},
    process::Command,
};

use anyhow::ensure;
use ipc_core::MapOptions;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1) {
        None => parent(),
        Some(descriptor) => child(descriptor.parse()?),
    }
}

fn parent() -> anyhow::Result<()> {
    let mapping = MapOptions::new().len(4096).map_memfd("passed")?;
    mapping.write_at(0, b"hello, child ")?;
    // A copy of the descriptor that stays open over exec, which our own does not.
    let passed = rustix::io::dup(mapping.file().expect("a memfd is kept"))?;
    let ended = Command::new(std::env::current_exe()?)
        .arg(passed.as_raw_fd().to_string())
        .status()?;
    ensure!(ended.success(), "the child: {ended}");
    println!(
        "parent reads: {}",
        String::from_utf8(mapping.to_vec(0..13)?)?
    );
    Ok(())
}

fn child(descriptor: i32) -> anyhow::Result<()> {
    // SAFETY: the parent passed it open, and it stays so to the end of this process.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mapping = MapOptions::new().map_file(&file)?;
    println!(
        "child reads: {}",
        String::from_utf8(mapping.to_vec(0..13)?)?
    );
    mapping.write_at(0, b"hello, parent")?;
    Ok(())
}
