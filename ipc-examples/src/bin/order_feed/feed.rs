//! The feed: draws an id, changes the price, pushes the order, and only then confirms it on standard output.

use std::path::Path;

use anyhow::Result;
use ipc_ring::Ring;

use crate::shared::{self, Order, Quote};

pub(crate) fn run(directory: &Path, count: u64) -> Result<()> {
    let segment = shared::segment()?;
    let board = shared::board(&segment)?;
    let mut orders = shared::orders(&segment)?.producer()?;
    // Ids are drawn a block at a time. What is left of the block of a feed that was killed, its successor gets.
    let ids = shared::ids(directory)?;
    let mut ids = ids.lease()?;
    for _ in 0..count {
        let id = ids.next()?;
        board.set(&Quote {
            price: 100 + id % 7,
            after_order: id,
        })?;
        // Waits while the ring is full. Once it has returned, the order outlives us.
        orders.push(Order {
            id,
            pieces: 1 + id % 9,
        })?;
        println!("{id}");
    }
    Ok(())
}
