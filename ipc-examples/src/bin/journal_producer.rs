//! The producer of a pair: appends a hundred thousand entries to a journal, which `journal_consumer` follows.
//!
//! `--role both` starts a consumer too.

use anyhow::Result;
use ipc_ring::journal::Journal;

const ENTRIES: u64 = 100_000;

fn main() -> Result<()> {
    let consumer = ipc_examples::roles::other("journal_consumer")?;

    // Whoever comes first creates the journal; the others open it. With a path on a disk in the place of the name, what
    // was synced survives a power cut as well.
    let journal = Journal::open_or_create("example-journal", 16 << 20)?;
    for number in 1..=ENTRIES {
        let at = journal.append(format!("entry {number}").as_bytes())?;
        // Every thousandth time, and at the end: each sync covers all that was appended before.
        if number % 1000 == 0 {
            journal.sync(at.end)?;
        }
    }
    // A journal has no end of its own. This one ends with an empty record.
    let end = journal.append(b"")?.end;
    journal.sync(end)?;
    println!("producer: appended {ENTRIES} entries");

    ipc_examples::roles::wait_for(consumer)
}
