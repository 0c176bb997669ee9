//! A mapping that was cut is two others.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let (front, _back) = mapping.split_at(4096)?;
    mapping.write_at(0, &[1])?;
    drop(front);
    Ok(())
}
