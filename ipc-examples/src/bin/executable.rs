//! `executable` writes a function into memory, makes it executable, and calls it: it prints `42`.
//!
//! The memory is never writable and executable at once.
//!
//! # Safety
//!
//! The bytes are a whole function of the C calling convention for this processor, and stay mapped while it is called.
#![allow(unsafe_code)]

use anyhow::bail;
use ipc_core::{MapOptions, mapping::Access};

fn main() -> anyhow::Result<()> {
    let code: &[u8] = if cfg!(target_arch = "x86_64") {
        &[0xb8, 42, 0, 0, 0, 0xc3] // mov eax, 42; ret
    } else if cfg!(target_arch = "aarch64") {
        &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6] // mov w0, #42; ret
    } else {
        bail!("this example knows no code for this processor")
    };
    let mut memory = MapOptions::new()
        .private()
        .len(code.len())
        .map_anonymous()?;
    memory.write_at(0, code)?;
    memory.protect(Access::ReadExecute)?;
    println!("written now: {}", memory.write_at(0, code).unwrap_err());
    let address = std::ptr::with_exposed_provenance::<()>(memory.address());
    // SAFETY: the bytes there are such a function (see the module), and may be executed.
    let answer: extern "C" fn() -> i32 = unsafe { std::mem::transmute(address) };
    println!("{}", answer());
    Ok(())
}
