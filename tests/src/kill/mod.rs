//! Kills a process after each of its instructions and sees whether the others go on.
//!
//! A *victim* is this package's binary `kill`, started again: it attaches to a segment, takes up its part, and performs
//! one operation between two `int3` instructions. The harness single-steps it with ptrace, so that it can be stopped,
//! killed or left alone at every instruction of the operation. User code is interrupted only between instructions, and
//! what was stored stays stored: every state in which a kill can leave the region is the state after some number of
//! instructions. What this does not cover: kills within a system call (the harness adds its entry, its exit, and, where
//! it blocks, its middle) and orders of stores that only other processors see (the loom models do).
//!
//! | file | holds |
//! |---|---|
//! | [`adapter`] | what a kind of object must provide to be covered, and the list of all |
//! | [`tracer`] | a victim under ptrace |
//! | [`ground`] | what a victim works on, its copies, and which of its states are distinct |
//! | [`modes`] | what is done with the states: inspect copies, kill, stop, pair, kill the recoverer |
//! | [`soak`] | random kills of processes that run at full speed |
//! | [`report`] | what was counted and measured |
//! | [`recovery`] | the page `docs/recovery.md` |

pub mod adapter;
pub mod adapters;
pub mod ground;
pub mod modes;
pub mod parcel;
pub mod recovery;
pub mod report;
pub mod sleeper;
pub mod soak;
pub mod tracer;
pub mod victim;
