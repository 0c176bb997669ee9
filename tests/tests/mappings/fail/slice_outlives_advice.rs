//! Advice may change bytes, and waits until no slice shows them.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mut memory = MapOptions::new().private().len(8192).map_anonymous()?.into_private()?;
    let first = &memory[0];
    memory.advise(.., Advice::DontNeed)?;
    assert_eq!(*first, 0);
    Ok(())
}
