//! `cow-list`: a linked list in private memory, which parent and child extend after a fork without seeing each other.
//!
//! The pages are copied when one of the two writes them. The list itself is in `ipc_examples::list`.

use std::io::{Read, Write};

use anyhow::ensure;
use ipc_examples::{child::Child, list::List};
use nix::sys::wait::WaitStatus;

fn main() -> anyhow::Result<()> {
    let mut list = List::new(4)?;
    for value in [42, 17, 13] {
        list.push_front(value)?;
    }
    list.visit("common");
    // The child prints when the parent has: its end of the pipe is closed then.
    let (mut turn, parent) = std::io::pipe()?;
    let theirs = parent.try_clone()?;
    let child = {
        let list = &mut list;
        Child::spawn(move || {
            drop(theirs);
            extend(list, 5)?;
            turn.read_exact(&mut [0])?;
            list.visit("child");
            Ok(())
        })?
    };
    extend(&mut list, 7)?;
    list.visit("parent");
    (&parent).write_all(&[1])?;
    ensure!(
        matches!(child.wait()?, WaitStatus::Exited(_, 0)),
        "the child failed"
    );
    // What the classic program leaves as an exercise.
    while list.pop_front().is_some() {}
    Ok(())
}

fn extend(list: &mut List, value: usize) -> anyhow::Result<()> {
    list.push_front(value)?;
    // The fourth node was the last: the allocator says so rather than write elsewhere.
    ensure!(
        list.push_front(99).is_err(),
        "there is room for a fifth node"
    );
    Ok(())
}
