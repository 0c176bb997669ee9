use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let mapping = mapping.into_private()?;
    let bytes: &[u8] = &mapping;
    assert_eq!(bytes[0], 0);
    Ok(())
}
