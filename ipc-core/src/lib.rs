//! Shared memory between processes on Linux.

mod copy;
pub mod layout;
pub mod mapping;
mod sys;

pub use layout::Layout;
pub use mapping::{MapOptions, Mapping};
