//! The kinds that are killed.

mod barrier;
pub(super) mod broadcast;
mod company;
mod files;
mod ids;
mod journal;
pub(super) mod queue;
mod rotating;
mod still;
mod sync;
mod table;

use crate::kill::adapter::Adapter;

/// Every kind.
pub static ALL: &[&dyn Adapter] = &[
    &files::Files,
    &table::Table,
    &queue::Of(queue::Spsc),
    &queue::Of(queue::Mpmc),
    &queue::Of(queue::Bytes),
    &queue::Of(queue::Lanes),
    &queue::Of(queue::Channel),
    &broadcast::Broadcast(broadcast::Typed),
    &broadcast::Broadcast(broadcast::Bytes),
    &sync::Sync::Mutex,
    &sync::Sync::RwLock,
    &sync::Sync::Semaphore,
    &sync::Sync::Latest,
    &sync::Sync::Once,
    &sync::Sync::Sequence,
    &barrier::Barriers,
    &ids::Numbers,
    &journal::Records,
    &rotating::Rotation,
];
