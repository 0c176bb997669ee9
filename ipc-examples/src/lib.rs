//! What the examples share. The examples themselves are in `src/bin`.

pub mod child;
