//! A word of a mapping keeps it writable.
use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mut mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let word = mapping.atomic_u64(0)?;
    mapping.protect(Access::Read)?;
    word.store(1, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}
