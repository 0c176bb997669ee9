//! What a kind of object must provide to be killed at every instruction of every operation.

use anyhow::Result;

use crate::kill::ground::Ground;

/// An operation in a state of the object.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the victim does.
    pub operation: &'static str,
    /// What it meets.
    pub state: &'static str,
    /// What survivors may find, in the order in which the operation passes through it. A kill before the first
    /// instruction leaves the first, a kill after the last instruction the last.
    pub outcomes: Vec<String>,
    /// The operation waits for somebody else.
    pub blocks: bool,
    /// What may be found as well if others have worked while the victim was stopped, and it left by itself.
    pub if_stopped: Option<&'static str>,
    /// What newcomers may find in a copy in which nobody lives, where that is something else: who held something beside
    /// the victim is dead there as well.
    pub in_copies: Vec<String>,
    /// Which outcome it is depends on who comes first after the death, too: they may alternate.
    pub any_order: bool,
}

impl Case {
    /// An operation that needs nobody to finish.
    pub fn new(operation: &'static str, state: &'static str, outcomes: &[&str]) -> Self {
        let outcomes = outcomes.iter().map(ToString::to_string).collect();
        Self {
            operation,
            state,
            outcomes,
            blocks: false,
            if_stopped: None,
            in_copies: Vec::new(),
            any_order: false,
        }
    }

    /// The same, with another end if others work in the middle of it.
    pub fn if_stopped(mut self, outcome: &'static str) -> Self {
        self.if_stopped = Some(outcome);
        self
    }

    /// The same, where newcomers find something else in a copy in which nobody lives.
    pub fn in_copies(mut self, outcomes: &[&str]) -> Self {
        self.in_copies = outcomes.iter().map(ToString::to_string).collect();
        self
    }

    /// The same, where one death may leave this outcome or that.
    pub fn in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    /// The same, of one that waits until [`Scene::release`] gives it what it waits for.
    pub fn blocking(mut self) -> Self {
        self.blocks = true;
        self
    }
}

/// Two operations at the same time, by two victims.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What the first victim does, in which state.
    pub first: Case,
    /// What the second victim does. Its state is that of the first.
    pub second: Case,
    /// What survivors may find when both have ended, killed or not.
    pub outcomes: Vec<String>,
}

/// The operation of a victim. What it holds lives until the victim leaves.
pub type Operation = Box<dyn FnMut() -> Result<()>>;

/// Who takes part beside the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// Survivors that live and hold the other roles.
    Living,
    /// Nobody that lives: who should sleep has died in his sleep, and all roles are free.
    Nobody,
}

/// A kind of object.
pub trait Adapter: Sync {
    /// Its name in reports.
    fn kind(&self) -> &'static str;

    /// Who clears up after whom, and what callers are told, in a paragraph or two of Markdown.
    fn account(&self) -> &'static str;

    /// Every operation in every interesting state.
    fn cases(&self) -> Vec<Case>;

    /// Pairs of operations worth interleaving.
    fn pairs(&self) -> Vec<Pair> {
        Vec::new()
    }

    /// Brings a new object into the state of the case.
    fn stage(&self, case: &Case, cast: Cast) -> Result<Box<dyn Scene>>;

    /// In the victim: takes up its part, and gives the operation.
    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation>;

    /// In the victim: the operation, with a `mark` where it begins and where it ends.
    fn perform(&self, case: &Case, ground: &Ground, mark: &dyn Fn()) -> Result<()> {
        let mut act = self.prepare(case, ground)?;
        mark();
        let done = act();
        mark();
        done
    }

    /// Tells a segment how objects of this kind are cleared up after.
    fn learn(&self, ground: &Ground) -> Result<()>;

    /// Where there are files and no participants: what clears up after the dead. What it may leave beside what it found is
    /// its last outcome.
    fn cleaner(&self) -> Case {
        Case::new("replace", "no file", &["the new segment"])
    }

    /// Newcomers, who find nobody alive, go on: what do they find, beside what is in the ledger already? An error is a
    /// violation.
    fn inspect(&self, case: &Case, ground: &Ground, ledger: &[u64]) -> Result<String>;
}

/// An object in the state of a case, with the survivors and what they have taken: the ledger outside the region.
pub trait Scene {
    /// What the victim works on.
    fn ground(&self) -> &Ground;

    /// What survivors have taken so far.
    fn ledger(&self) -> Vec<u64> {
        Vec::new()
    }

    /// The victim stands at its first marker: whoever should sleep falls asleep, and so on.
    fn poise(&mut self) -> Result<()> {
        Ok(())
    }

    /// The victim waits: gives it what it waits for. False if it shall wait on.
    fn release(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// The victim is stopped and may go on later: the others work as far as they can, and see that nothing of the
    /// victim's can be taken. True if [`release`](Self::release) may still be needed.
    fn carry_on(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// A second victim comes: the survivors give it their parts.
    fn vacate(&mut self) -> Result<()> {
        Ok(())
    }

    /// The victim has died: survivors go on, newcomers take its place. What was found, the ledger included? With
    /// `unaided`, nobody wakes a sleeper: it must come back by itself, within 150 ms. An error is a violation.
    fn survive(self: Box<Self>, unaided: bool) -> Result<String>;
}

/// The adapter of that kind.
pub fn find(kind: &str) -> Option<&'static dyn Adapter> {
    all().iter().copied().find(|adapter| adapter.kind() == kind)
}

/// All kinds.
pub fn all() -> &'static [&'static dyn Adapter] {
    crate::kill::adapters::ALL
}
