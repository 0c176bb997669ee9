//! What the suites share.

pub mod adapters;
pub mod child;
pub mod counted;
pub mod explorer;
pub mod kill;
#[cfg(loom)]
pub mod loom_memory;
pub mod mount;
pub mod peers;
pub mod powercut;
pub mod room;
pub mod shape;
pub mod sync_peer;
pub mod terminal;

#[cfg(doctest)]
#[doc = include_str!("../../docs/mappings.md")]
struct MappingsPage;
