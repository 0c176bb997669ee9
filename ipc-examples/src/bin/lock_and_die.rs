//! The death of a lock's holder is an outcome: the next one is told, repairs what it protects, and goes on.
//!
//! Moves money between two accounts, in a process that is killed half way.

use anyhow::{Result, ensure};
use ipc_core::segment::Place;
use ipc_core::sync::{Attach, LockError, Mutex};
use nix::sys::signal::{Signal, raise};

/// What the accounts hold together, always.
const TOTAL: u64 = 100;

fn main() -> Result<()> {
    let accounts = Mutex::<[u64; 2]>::create(Place::Anonymous, ())?;
    accounts.lock().map_err(LockError::owned)?.set(&[TOTAL, 0]);

    let killed = ipc_examples::child::signal_of(|| {
        // What is inherited belongs to the parent.
        let accounts = accounts.rejoin()?;
        let mut guard = accounts.lock().map_err(LockError::owned)?;
        let [from, to] = guard.get();
        guard.set(&[from - 30, to]);
        raise(Signal::SIGKILL)?;
        unreachable!("killed before the other half");
    })?;
    ensure!(killed == Some("SIGKILL"));

    // Whoever cannot repair gets the error alone, and leaves the repair to others.
    let told = accounts.lock().map_err(LockError::owned).err();
    ensure!(matches!(told, Some(LockError::OwnerDied(()))), "{told:?}");

    let guard = accounts.lock().or_else(|error| {
        error.repair(|guard| {
            let [from, to] = guard.get();
            println!("the holder died and left {from} + {to}");
            guard.set(&[TOTAL - to, to]);
        })
    })?;
    let [from, to] = guard.get();
    println!("repaired: {from} + {to}");
    ensure!(from + to == TOTAL);
    Ok(())
}
