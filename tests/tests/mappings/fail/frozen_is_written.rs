//! Frozen memory has no way to be written.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let memory = MapOptions::new().private().len(8192).map_anonymous()?.into_private()?;
    let mut memory = memory.freeze()?;
    memory[0] = 1;
    Ok(())
}
