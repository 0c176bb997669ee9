//! What each actor does next, found out once for each thing it can have read.
//!
//! An actor between two accesses is a function of its operation's starting point and of the replies since. That makes a
//! tree: a node is a place in an operation, with the access that comes next; an edge is the reply to it. The code runs
//! once for each node, however many states of the whole system hold that node, so exploring is table lookup for the
//! most part.

use std::collections::HashMap;

use super::memory::{Access, Explored, Outcome, Reply};
use super::{Case, Interner};

/// A place in the operation of an actor.
pub(super) type NodeId = u32;

/// What an actor does at a node.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// This access.
    Access(Access),
    /// Nothing any more: it lives on, idle.
    Idle,
    /// It has panicked.
    Panicked(String),
}

struct Node {
    actor: usize,
    local: u32,
    /// The node before and the reply that led here; `None` where the operation begins.
    edge: Option<(NodeId, Reply)>,
    next: Next,
}

/// All nodes met so far.
pub(super) struct Actors<'c, C: Case> {
    case: &'c C,
    memory: Explored,
    processes: Vec<usize>,
    nodes: Vec<Node>,
    children: HashMap<(NodeId, Reply), NodeId>,
    roots: HashMap<(usize, u32), NodeId>,
    locals: Interner<C::Local>,
}

impl<'c, C: Case> Actors<'c, C> {
    pub(super) fn new(case: &'c C, memory: Explored, processes: Vec<usize>) -> Self {
        Self {
            case,
            memory,
            processes,
            nodes: Vec::new(),
            children: HashMap::new(),
            roots: HashMap::new(),
            locals: Interner::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn next(&self, node: NodeId) -> &Next {
        &self.nodes[node as usize].next
    }

    /// What the actor keeps between operations, as it was when the current one began.
    pub(super) fn local(&self, node: NodeId) -> &C::Local {
        self.locals.get(self.nodes[node as usize].local)
    }

    /// Whether an operation begins here.
    pub(super) fn at_start(&self, node: NodeId) -> bool {
        self.nodes[node as usize].edge.is_none()
    }

    /// The reply that leads from a node to the next one; `None` if the operation returned in between.
    pub(super) fn reply(&self, from: NodeId, to: NodeId) -> Option<Reply> {
        let (before, reply) = self.nodes[to as usize].edge?;
        (before == from).then_some(reply)
    }

    /// Where an actor stands that begins an operation with `local`.
    pub(super) fn root(&mut self, actor: usize, local: C::Local) -> NodeId {
        let local = self.locals.put(local);
        match self.roots.get(&(actor, local)) {
            Some(&root) => root,
            None => {
                let root = self.explore(actor, local, None);
                self.roots.insert((actor, local), root);
                root
            }
        }
    }

    /// Where an actor stands after that reply.
    pub(super) fn after(&mut self, node: NodeId, reply: Reply) -> NodeId {
        if let Some(&child) = self.children.get(&(node, reply)) {
            return child;
        }
        let Node { actor, local, .. } = self.nodes[node as usize];
        let child = self.explore(actor, local, Some((node, reply)));
        self.children.insert((node, reply), child);
        child
    }

    /// Runs the code up to the place that `edge` leads to, and enters that place. An operation that returns leads to
    /// the beginning of the next one.
    fn explore(&mut self, actor: usize, local: u32, edge: Option<(NodeId, Reply)>) -> NodeId {
        let log = self.log(edge);
        let case = self.case;
        let start = self.locals.get(local);
        let memory = &self.memory;
        let code = || case.operate(actor, memory, start);
        let next = match self.memory.run(self.processes[actor], log, code) {
            Outcome::Asks(access) => Next::Access(access),
            Outcome::Panicked(text) => Next::Panicked(text),
            Outcome::Returned(None) => Next::Idle,
            Outcome::Returned(Some(after)) => {
                assert!(
                    edge.is_some() || after != *start,
                    "an operation without any access leads to itself: {after:?}"
                );
                return self.root(actor, after);
            }
        };
        let id = NodeId::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        self.nodes.push(Node {
            actor,
            local,
            edge,
            next,
        });
        id
    }

    fn log(&self, edge: Option<(NodeId, Reply)>) -> Vec<Reply> {
        let mut log = Vec::new();
        let mut edge = edge;
        while let Some((node, reply)) = edge {
            log.push(reply);
            edge = self.nodes[node as usize].edge;
        }
        log.reverse();
        log
    }
}
