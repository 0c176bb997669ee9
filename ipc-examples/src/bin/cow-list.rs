//! `cow-list`: a linked list in private memory, which parent and child extend after a fork without seeing each other.
//!
//! The pages are copied when one of the two writes them. The memory is a slice, since nobody else can reach it, and links
//! are numbers of nodes. Freed nodes are used again; a full list says so.

use std::io::Read;

use anyhow::ensure;
use ipc_core::{MapOptions, mapping::PrivateMapping};
use ipc_examples::child::Child;
use nix::sys::wait::WaitStatus;

/// Nodes of two words, a value and the number of the next node. Node 0 is no node; its words head the list and the free.
struct List(PrivateMapping);

impl List {
    fn new(nodes: usize) -> anyhow::Result<List> {
        let memory = MapOptions::new()
            .private()
            .len((nodes + 1) * 8)
            .map_anonymous()?;
        let mut list = List(memory.into_private()?);
        (1..=nodes).rev().for_each(|node| list.release(node));
        Ok(list)
    }

    fn word(&mut self, node: usize, which: usize) -> &mut [u8; 4] {
        let at = node * 8 + which * 4;
        (&mut self.0[at..at + 4]).try_into().expect("four bytes")
    }

    fn get(&mut self, node: usize, which: usize) -> usize {
        u32::from_ne_bytes(*self.word(node, which)) as usize
    }

    fn set(&mut self, node: usize, which: usize, value: usize) {
        *self.word(node, which) = (value as u32).to_ne_bytes();
    }

    fn release(&mut self, node: usize) {
        let free = self.get(0, 1);
        self.set(node, 1, free);
        self.set(0, 1, node);
    }

    fn push_front(&mut self, value: usize) -> anyhow::Result<()> {
        let (node, first) = (self.get(0, 1), self.get(0, 0));
        ensure!(node != 0, "the list is full: free a node first");
        let free = self.get(node, 1);
        self.set(0, 1, free);
        self.set(node, 0, value);
        self.set(node, 1, first);
        self.set(0, 0, node);
        Ok(())
    }

    fn pop_front(&mut self) -> Option<usize> {
        let node = self.get(0, 0);
        (node != 0).then(|| {
            let (value, next) = (self.get(node, 0), self.get(node, 1));
            self.set(0, 0, next);
            self.release(node);
            value
        })
    }

    fn visit(&mut self, who: &str) {
        let mut line = format!("[{who}] visit list:");
        let mut node = self.get(0, 0);
        while node != 0 {
            line += &format!(" {}", self.get(node, 0));
            node = self.get(node, 1);
        }
        println!("{line}");
    }
}

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
    std::io::Write::write_all(&mut &parent, &[1])?;
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
