use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let word = mapping.atomic_u64(0)?;
    word.load(std::sync::atomic::Ordering::Relaxed);
    mapping.unmap()?;
    Ok(())
}
