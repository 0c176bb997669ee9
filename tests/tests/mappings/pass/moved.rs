use ipc_core::mapping::MapError;
#[allow(unused_imports)]
use ipc_core::{MapOptions, mapping::{Access, Advice, Reservation, Resize}};

pub(crate) fn main() -> Result<(), MapError> {
    let mapping = MapOptions::new().private().len(8192).map_anonymous()?;
    let moved = mapping.move_into(Reservation::new(8192)?)?;
    moved.write_at(0, &[1])?;
    drop(moved);
    Ok(())
}
