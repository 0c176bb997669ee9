//! What the suites share.

pub mod counted;
pub mod kill;
pub mod peers;
pub mod room;
