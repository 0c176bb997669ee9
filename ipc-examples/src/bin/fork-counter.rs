//! `fork-counter`: a parent and its child share one integer in shared anonymous memory.
//!
//! It prints `child: 42` and then `parent: 43`.

use std::sync::atomic::Ordering::SeqCst;

use ipc_core::MapOptions;
use ipc_examples::child;

fn main() -> anyhow::Result<()> {
    let memory = MapOptions::new().len(8).map_anonymous()?;
    let counter = memory.atomic_u64(0)?;
    counter.store(42, SeqCst);
    child::run(|| {
        println!("child: {}", counter.load(SeqCst));
        counter.fetch_add(1, SeqCst);
        Ok(())
    })?;
    println!("parent: {}", counter.load(SeqCst));
    Ok(())
}
