//! What the suites that cross process borders share.

pub mod kill;
