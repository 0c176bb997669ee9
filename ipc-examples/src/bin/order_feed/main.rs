//! A small exchange that stays right when any part of it is killed: a feed of orders, workers that fill them, a board with
//! the newest price, ids that never come twice, and a journal of what was done.
//!
//! ```text
//! order_feed                       all of it, with a process killed now and then; checks what came of it
//! order_feed feed DIRECTORY COUNT  each of these in a terminal of its own; kill what you like
//! order_feed worker DIRECTORY
//! order_feed board
//! order_feed close
//! order_feed check DIRECTORY
//! ```
//!
//! The guide of the book explains each file.

mod board;
mod check;
mod feed;
mod shared;
mod supervise;
mod worker;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => supervise::run(),
        ["feed", directory, count] => feed::run(Path::new(directory), count.parse()?),
        ["worker", directory] => worker::run(Path::new(directory)),
        ["board"] => board::run(),
        ["close"] => shared::close(),
        ["check", directory] => check::run(Path::new(directory)),
        _ => bail!(
            "usage: order_feed [feed DIRECTORY COUNT | worker DIRECTORY | board | close | check DIRECTORY]"
        ),
    }
}
