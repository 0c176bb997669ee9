//! What the examples share. The examples themselves are in `src/bin`.

pub mod child;
pub mod list;
pub mod roles;

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
