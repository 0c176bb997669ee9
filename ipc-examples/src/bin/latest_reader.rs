//! Reads the newest position that `latest_writer` has set. It opens the register for reading only, and never waits for
//! the writer, whatever happens to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipc_core::sync::{Latest, LatestError};

fn main() -> Result<()> {
    let position = Latest::<[f64; 3]>::open_read_only("example-latest")?;
    let (mut version, mut seen) = (0, 0);
    let mut last = 0.0;
    loop {
        match position.wait_until(version, Instant::now() + Duration::from_millis(500)) {
            Ok(newer) => version = newer,
            // The writer is done, or dead. Its last value stays.
            Err(LatestError::TimedOut) => break,
            Err(error) => return Err(error.into()),
        }
        let Some([x, y, angle]) = position.get()? else {
            continue;
        };
        ensure!((angle.cos(), angle.sin()) == (x, y), "a torn position");
        ensure!(angle >= last, "went back");
        last = angle;
        seen += 1;
    }
    println!("reader: saw {seen} of {version} positions, the last at {last:.2}");
    ensure!(seen > 0, "no position came");
    Ok(())
}
