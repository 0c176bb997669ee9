//! Bytes that others may change are no slice.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let bytes: &[u8] = &mapping;
    assert_eq!(bytes[0], 0);
    Ok(())
}
