//! This project's rings.

pub mod spsc;
