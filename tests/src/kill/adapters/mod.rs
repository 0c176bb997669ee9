//! The kinds that are killed.

mod queue;

use crate::kill::adapter::Adapter;

/// Every kind.
pub static ALL: &[&dyn Adapter] = &[&queue::Of(queue::Spsc), &queue::Of(queue::Mpmc)];
