//! Shared memory between processes on Linux.

// So that what the derive macros write compiles in this crate too.
extern crate self as ipc_core;

mod cell;
mod copy;
pub mod event;
mod fault;
pub mod fork;
pub mod ids;
pub mod layout;
mod mapped;
pub mod mapping;
pub mod memory;
pub mod participant;
mod read_only;
pub mod region;
pub mod segment;
pub mod sync;
mod sys;

pub use bytemuck;
pub use ipc_derive::{Layout, Shared};
pub use layout::{Layout, Message, Shared};
pub use mapped::Mapped;
pub use mapping::{MapOptions, Mapping};
pub use read_only::ReadOnly;
