//! Writes the newest position of something that moves, a thousand times a second, for `latest_reader`.
//!
//! `--role both` starts the reader too. Kill it at any moment: the reader keeps the last position.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use ipc_core::segment::Segment;
use ipc_core::sync::{Attach, Latest};

fn main() -> Result<()> {
    let position = Latest::<[f64; 3]>::open_or_create("example-latest", ())?;
    let reader = ipc_examples::roles::other("latest_reader")?;
    for step in 1..=500 {
        let angle = f64::from(step) / 50.0;
        position.set(&[angle.cos(), angle.sin(), angle])?;
        sleep(Duration::from_millis(1));
    }
    println!("writer: set {} positions", position.version());
    ipc_examples::roles::wait_for(reader)?;
    Segment::unlink("example-latest")?;
    Ok(())
}
