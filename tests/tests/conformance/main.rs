//! What every kind of ring promises, asked of all of them through one adapter each.

mod backing;
mod counters;
mod deaths;
mod hostile;
mod loans;
mod model;
mod observers;
mod processes;
mod restart;
