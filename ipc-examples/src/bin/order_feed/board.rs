//! The board: shows the newest price as often as it changes. It only reads, and can disturb nobody.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipc_core::segment::Segment;
use ipc_core::sync::{LatestError, LatestView};

use crate::shared::{NAME, Quote};

pub(crate) fn run() -> Result<()> {
    let segment = Segment::open_read_only(NAME)?;
    let board = LatestView::<Quote>::in_segment(&segment, "board")?;
    let mut seen = 0;
    loop {
        seen = match board.wait_until(seen, Instant::now() + Duration::from_secs(1)) {
            Ok(version) => version,
            // The trade is over, or nobody has replaced a feed that was killed.
            Err(LatestError::TimedOut) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(quote) = board.get()? {
            println!("{} after order {}", quote.price, quote.after_order);
        }
        // For people, ten a second are enough. What was missed meanwhile does not matter.
        std::thread::sleep(Duration::from_millis(100));
    }
}
