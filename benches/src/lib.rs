//! Every ring against its limit and its peers, in one run.
//!
//! Absolute times mean nothing on a shared machine, so what is published are ratios of two subjects that were formed
//! within a round of a few milliseconds, and their median over many rounds. All subjects run in real processes of their
//! own, pinned to the same CPUs, with the same payload, and every message is verified where it arrives.

pub mod kernel;
pub mod limits;
pub mod measure;
pub mod ours;
pub mod process;
pub mod race;
pub mod report;
pub mod stats;
pub mod subject;
pub mod suites;
pub mod transport;
