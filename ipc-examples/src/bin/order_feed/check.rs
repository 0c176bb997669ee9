//! What came of it: each confirmed order is in the journal, and none is there twice.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::{shared, worker};

/// Takes the confirmations of the feeds from standard input.
pub(crate) fn run(directory: &Path) -> Result<()> {
    let confirmed = io::stdin()
        .lock()
        .lines()
        .map(|line| Ok(line?.parse()?))
        .collect::<Result<Vec<u64>>>()?;
    println!("{}", against(&confirmed, directory)?);
    Ok(())
}

/// Compares what was confirmed with the journal.
pub(crate) fn against(confirmed: &[u64], directory: &Path) -> Result<String> {
    let mut filled = BTreeSet::new();
    for fill in worker::all(&shared::fills(directory)?)? {
        let (fill, _) = fill?;
        ensure!(
            filled.insert(fill.order),
            "order {} was filled twice",
            fill.order
        );
    }
    let mut seen = BTreeSet::new();
    for id in confirmed {
        ensure!(seen.insert(id), "the id {id} was given twice");
        ensure!(
            filled.contains(id),
            "order {id} was confirmed and never filled"
        );
    }
    Ok(format!(
        "{} orders confirmed, {} filled: none lost, none twice",
        confirmed.len(),
        filled.len()
    ))
}
