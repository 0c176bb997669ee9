//! The consumer of a pair: follows what `journal_producer` appends, and sees nothing that a power cut could take back.
//!
//! `--role both` starts the producer too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_core::segment::Segment;
use ipc_ring::journal::Journal;

/// How long the producer may pause.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let producer = ipc_examples::roles::other("journal_producer")?;

    // Whoever comes first creates the journal; the others open it.
    let journal = Journal::open_or_create("example-journal", 16 << 20)?;
    // A consumer that goes on where another one ended would begin at the position that was noted.
    let mut reader = journal.reader_from(journal.start())?.durable_only();
    let mut record = Vec::new();
    let mut taken = 0;
    loop {
        let at = reader.read_until(&mut record, Instant::now() + PATIENCE)?;
        at.context("the producer has gone")?;
        if record.is_empty() {
            break;
        }
        taken += 1;
        ensure!(
            record == format!("entry {taken}").as_bytes(),
            "{:?} came for entry {taken}",
            String::from_utf8_lossy(&record)
        );
    }
    println!("consumer: read {taken} entries, all of them durable");
    // Whoever needs the journal has it open.
    Segment::unlink("example-journal")?;

    ipc_examples::roles::wait_for(producer)
}
