//! This project's rings.

mod bytes;
mod channel;
mod typed;

pub use bytes::{Bytes, Lanes};
pub use channel::Channel;
pub use typed::{Broadcast, Mpmc, Spsc};

/// The name of a segment that exists in memory only.
fn nowhere() -> ipc_core::segment::Place {
    ipc_core::segment::Place::Memfd("bench".into())
}

/// Participants of a segment: as many as processes on both sides at most, and the parent.
const PARTICIPANTS: u16 = 64;
