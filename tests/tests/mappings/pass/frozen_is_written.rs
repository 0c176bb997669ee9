use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let memory = MapOptions::new().private().len(8192).map_anonymous()?.into_private()?;
    let mut memory = memory.resize(4096, Resize::InPlace)?;
    memory[0] = 1;
    Ok(())
}
