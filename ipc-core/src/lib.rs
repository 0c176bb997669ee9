//! Shared memory between processes on Linux: what lies under every ring, and what needs no ring.
//!
//! # Which one do I want?
//!
//! | I want to | use |
//! |---|---|
//! | pass messages from process to process | the crate `ipc-ring` |
//! | share a struct of counters and flags | [`region::Region`] |
//! | share a value that one at a time may change, or many read | [`sync::Mutex`], [`sync::RwLock`] |
//! | share only the newest value, and never keep its writer waiting | [`sync::Latest`] |
//! | let so many processes at a time do something | [`sync::Semaphore`] |
//! | go on when all have come | [`sync::Barrier`] |
//! | have something done by one process, once | [`sync::Once`] |
//! | count, or number things | [`sync::Sequence`] |
//! | sleep until something has happened | [`event`] |
//! | draw ids that never repeat | [`ids`] |
//! | keep several such objects under one name | [`segment::SegmentOptions`] |
//! | map a file, or plain memory, myself | [`Mapping`] |
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! use ipc_core::region::Region;
//! use ipc_core::segment::Segment;
//! use ipc_core::{Layout, Shared};
//!
//! #[derive(Layout, Shared)]
//! #[repr(C)]
//! struct Served {
//!     requests: AtomicU64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let name = &format!("doc-served-{}", std::process::id());
//! // Any number of processes, started in any order: one creates it, the others open it.
//! let served = Region::<Served>::open_or_create(name)?;
//! served.requests.fetch_add(1, Relaxed);
//!
//! // The name stays until somebody removes it. What has it open goes on.
//! Segment::unlink(name)?;
//! assert_eq!(served.requests.load(Relaxed), 1);
//! # Ok(()) }
//! ```

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

// So that what the derive macros write compiles in this crate too.
extern crate self as ipc_core;

mod cell;
mod copy;
pub mod event;
mod fault;
pub mod fork;
mod helper;
pub mod ids;
pub mod layout;
mod mapped;
pub mod mapping;
pub mod mark;
pub mod memory;
pub mod participant;
mod peers;
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
