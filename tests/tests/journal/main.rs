//! The journal: among processes, through kills, laps and power cuts.

mod faults;
mod powercut;
mod processes;
mod rotation;
