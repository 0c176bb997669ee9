//! A worker: takes an order, writes down what it did, and only then lets go of the order.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ipc_core::bytemuck;
use ipc_ring::journal::Journal;
use ipc_ring::{PopError, Ring};

use crate::shared::{self, Fill};

pub(crate) fn run(directory: &Path) -> Result<()> {
    let segment = shared::segment()?;
    let board = shared::board(&segment)?;
    let mut orders = shared::orders(&segment)?.consumer()?;
    let fills = shared::fills(directory)?;
    loop {
        let loan = match orders.read() {
            Ok(loan) => loan,
            Err(PopError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let order = loan.get();
        // The worker that had it before us was killed. Did it write the order down before?
        let written = match loan.is_redelivered() {
            true => find(&fills, order.id)?,
            false => None,
        };
        let end = match written {
            Some(end) => end,
            None => {
                let quote = board.get()?.context("orders come after prices")?;
                let fill = Fill {
                    order: order.id,
                    pieces: order.pieces,
                    price: quote.price,
                };
                fills.append(bytemuck::bytes_of(&fill))?.end
            }
        };
        // One msync for all workers that are here at the same time.
        fills.sync(end)?;
        // Killed before this line: the next worker gets the order. After it: the order is done.
        loan.release();
    }
}

/// Where the record of an order ends, if there is one.
fn find(fills: &Journal, order: u64) -> Result<Option<u64>> {
    for fill in all(fills)? {
        let (fill, end) = fill?;
        if fill.order == order {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// All fills in the journal, and where the record of each ends.
pub(crate) fn all(fills: &Journal) -> Result<impl Iterator<Item = Result<(Fill, u64)>>> {
    let mut reader = fills.reader_from(fills.start())?;
    let end = fills.end();
    let mut record = Vec::new();
    let mut next = move || -> Result<Option<(Fill, u64)>> {
        if reader.position() >= end {
            return Ok(None);
        }
        // Whoever is writing a record in between is done soon, or dead.
        let soon = Instant::now() + Duration::from_secs(1);
        let Some(at) = reader.read_until(&mut record, soon)? else {
            return Ok(None);
        };
        let fill = bytemuck::try_pod_read_unaligned(&record);
        let fill = fill.map_err(|error| anyhow!("no fill at {}: {error}", at.start))?;
        Ok(Some((fill, at.end)))
    };
    Ok(std::iter::from_fn(move || next().transpose()))
}
