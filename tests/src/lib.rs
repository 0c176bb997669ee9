//! What the suites share.

pub mod counted;
pub mod peers;
