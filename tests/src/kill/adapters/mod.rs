//! The kinds that are killed.

mod spsc;

use crate::kill::adapter::Adapter;

/// Every kind.
pub static ALL: &[&dyn Adapter] = &[&spsc::Spsc];
