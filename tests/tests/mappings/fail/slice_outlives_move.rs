//! A slice keeps its memory where it is.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let memory = MapOptions::new().private().len(8192).map_anonymous()?.into_private()?;
    let first = &memory[0];
    let moved = memory.resize(1 << 20, Resize::MayMove)?;
    assert_eq!(*first, 0);
    drop(moved);
    Ok(())
}
