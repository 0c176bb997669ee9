//! What every kind of ring promises, asked of all of them through one adapter each.

mod backing;
mod deaths;
mod hostile;
mod loans;
mod model;
mod processes;
mod restart;
