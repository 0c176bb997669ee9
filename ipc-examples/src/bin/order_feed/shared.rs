//! What the processes share: one segment with a ring and a register, and two files on disk.

use std::path::Path;

use anyhow::Result;
use ipc_core::ids::Ids;
use ipc_core::segment::{Segment, SegmentOptions};
use ipc_core::sync::{Attach, Latest};
use ipc_core::{Layout, bytemuck};
use ipc_ring::journal::Journal;
use ipc_ring::{Ring, mpmc};

/// The segment: in memory, and gone when the machine stops.
pub(crate) const NAME: &str = "example-order-feed";

/// An order. Each is filled by one worker.
#[derive(Clone, Copy, Debug, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) pieces: u64,
}

/// The newest price.
#[derive(Clone, Copy, Debug, Layout, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Quote {
    pub(crate) price: u64,
    pub(crate) after_order: u64,
}

/// What was done: a record of the journal.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Fill {
    pub(crate) order: u64,
    pub(crate) pieces: u64,
    pub(crate) price: u64,
}

/// Whoever comes first creates the segment, whole; all others open it.
pub(crate) fn segment() -> Result<Segment> {
    let options = SegmentOptions::new()
        .object("orders", mpmc::Ring::<Order>::spec(256)?)
        .object("board", Latest::<Quote>::spec(())?);
    Ok(options.open_or_create(NAME)?)
}

/// The ring of orders.
pub(crate) fn orders(segment: &Segment) -> Result<mpmc::Ring<Order>> {
    Ok(mpmc::Ring::in_segment(segment, "orders")?)
}

/// The board.
pub(crate) fn board(segment: &Segment) -> Result<Latest<Quote>> {
    Ok(Latest::in_segment(segment, "board")?)
}

/// Ids of orders: a file that survives a power cut.
pub(crate) fn ids(directory: &Path) -> Result<Ids> {
    Ok(Ids::open_or_create(directory.join("ids"))?)
}

/// What was filled: a file that survives a power cut.
pub(crate) fn fills(directory: &Path) -> Result<Journal> {
    Ok(Journal::open_or_create(directory.join("fills"), 1 << 20)?)
}

/// Ends the trade: no more orders go in, and workers leave when the last one is done.
pub(crate) fn close() -> Result<()> {
    orders(&segment()?)?.close();
    Ok(())
}
