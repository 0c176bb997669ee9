//! A scene in which nobody sleeps: survivors hold what they hold until the victim is dead, and then go on.

use anyhow::Result;

use crate::kill::adapter::{Case, Scene};
use crate::kill::ground::Ground;

/// Newcomers look at a ground: see [`Adapter::inspect`](crate::kill::adapter::Adapter::inspect).
pub(super) type Inspect = fn(&Case, &Ground) -> Result<String>;

/// A ground and those who live on it.
pub(super) struct Still<K> {
    case: Case,
    ground: Ground,
    inspect: Inspect,
    keep: K,
}

impl<K: 'static> Still<K> {
    /// The scene; `keep` is what survivors hold.
    pub(super) fn boxed(case: &Case, ground: Ground, inspect: Inspect, keep: K) -> Box<dyn Scene> {
        Box::new(Self {
            case: case.clone(),
            ground,
            inspect,
            keep,
        })
    }
}

impl<K> Scene for Still<K> {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn survive(self: Box<Self>, _: bool) -> Result<String> {
        let found = (self.inspect)(&self.case, &self.ground);
        drop(self.keep);
        found
    }
}
