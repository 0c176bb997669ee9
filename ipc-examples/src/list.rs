//! A linked list of numbers in private memory, with an allocator of its own.
//!
//! The memory is a slice, since nobody else can reach it, and links are numbers of nodes. Freed nodes are used again; a full
//! list says so.

use anyhow::ensure;
use ipc_core::{MapOptions, mapping::PrivateMapping};

/// Nodes of two words, a value and the number of the next node. Node 0 is no node; its words head the list and the free.
#[derive(Debug)]
pub struct List(PrivateMapping);

impl List {
    /// A list with room for so many nodes.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new(nodes: usize) -> anyhow::Result<List> {
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

    /// Puts a value first.
    ///
    /// # Errors
    ///
    /// When the list is full.
    pub fn push_front(&mut self, value: usize) -> anyhow::Result<()> {
        let (node, first) = (self.get(0, 1), self.get(0, 0));
        ensure!(node != 0, "the list is full: free a node first");
        let free = self.get(node, 1);
        self.set(0, 1, free);
        self.set(node, 0, value);
        self.set(node, 1, first);
        self.set(0, 0, node);
        Ok(())
    }

    /// Takes the first value, and frees its node.
    pub fn pop_front(&mut self) -> Option<usize> {
        let node = self.get(0, 0);
        (node != 0).then(|| {
            let (value, next) = (self.get(node, 0), self.get(node, 1));
            self.set(0, 0, next);
            self.release(node);
            value
        })
    }

    /// Prints the values.
    pub fn visit(&mut self, who: &str) {
        let mut line = format!("[{who}] visit list:");
        let mut node = self.get(0, 0);
        while node != 0 {
            line += &format!(" {}", self.get(node, 0));
            node = self.get(node, 1);
        }
        println!("{line}");
    }
}
