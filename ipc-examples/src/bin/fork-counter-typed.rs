//! `fork-counter-typed`: the same as `fork-counter`, with a struct in the place of a bare integer.
//!
//! The child joins anew, since a handle belongs to the process that made it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ipc_core::{Layout, Shared, region::Region, segment::Place};
use ipc_examples::child;

#[derive(Layout, Shared)]
#[repr(C)]
struct Shelf {
    counter: AtomicU64,
}

fn main() -> anyhow::Result<()> {
    let shelf = Region::<Shelf>::create(Place::Anonymous)?;
    shelf.counter.store(42, SeqCst);
    child::run(|| {
        let shelf = shelf.rejoin()?;
        println!("child: {}", shelf.counter.load(SeqCst));
        shelf.counter.fetch_add(1, SeqCst);
        Ok(())
    })?;
    println!("parent: {}", shelf.counter.load(SeqCst));
    Ok(())
}
