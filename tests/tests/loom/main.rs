//! What the library's algorithms promise on weak memory, each claim a loom model of the shipped code.
//!
//! Run by `tests/loom.sh`. Behind each claim stand the orderings that it needs: forgotten one at a time, the model must
//! fail. Every ordering of a file is needed by a claim, or listed with the reason why none can need it.
//!
//! What is modelled is the part of each object that is generic over memory, and all orderings are in it. A further kind
//! is a file here and a line in `FILES` of `claims.rs`.
#![cfg(loom)]

mod barrier;
mod broadcast;
mod broadcast_bytes;
mod bytes;
mod claims;
mod event;
mod follower;
mod latest;
mod lock;
mod mpmc;
mod once;
mod participant;
mod role;
mod rwlock;
mod semaphore;
mod sequence;
mod spsc;
