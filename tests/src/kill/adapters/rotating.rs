//! A journal in several files: going on to the next one, and giving up the first ones.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::Segment;
use ipc_ring::journal::JournalError;
use ipc_ring::journal::rotating::{HEAD, RotatingJournal};

use super::company::Company;
use super::journal::{self, LAST, MOST, NEW, OTHER, RECORD, message, number, show};
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::{Ground, scratch_directory};

/// Bytes of records in each file; of these, a few at the end stay empty.
const CAPACITY: usize = 4096;

const PATIENCE: Duration = Duration::from_secs(10);

/// The adapter.
pub(super) struct Rotation;

impl Adapter for Rotation {
    fn kind(&self) -> &'static str {
        "rotating"
    }

    fn account(&self) -> &'static str {
        "What holds for `journal` holds in each of its files. Whoever dies on the way to the next file leaves the full one \
         synced or not, and the next one whole or not there; the next appender does what is left of it. Whoever dies in a \
         trim has removed some of the files, the oldest first. The lock of those who rotate and trim is the kernel's. Nobody \
         is told."
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        vec![
            case("open or create", "no journal", &["nothing"]),
            case("open or create", "beside others", &["1 2"]),
            case("append", "file full", &["1 to 21", "1 to 21 100"]),
            case("append", "reader asleep", &["1 to 21", "1 to 21 100"]),
            case("sync", "two files", &["1 to 22"]),
            case("read", "two files", &["1 to 22"]),
            case("trim", "three files", &["1 to 43", "22 to 43", "43"]),
            case("trim", "one file", &["1 2"]),
        ]
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |first, second, state, outcomes: &[&str]| Pair {
            first: Case::new(first, state, &[]),
            second: Case::new(second, state, &[]),
            outcomes: outcomes.iter().map(ToString::to_string).collect(),
        };
        vec![
            pair(
                "append",
                "append other",
                "file full",
                &[
                    "1 to 21",
                    "1 to 21 100",
                    "1 to 21 200",
                    "1 to 21 100 200",
                    "1 to 21 200 100",
                ],
            ),
            pair(
                "open or create",
                "open or create",
                "no journal",
                &["nothing"],
            ),
        ]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let ground = Ground::of_directory(scratch_directory()?);
        let count = match case.state {
            "no journal" => return Ok(Company::new(case, ground, inspect).boxed()),
            "file full" | "reader asleep" => MOST,
            "two files" => MOST + 1,
            "three files" => 2 * MOST + 1,
            _ => 2,
        };
        let journal = RotatingJournal::open_or_create(ground.path(), CAPACITY)?;
        for number in 1..=count {
            journal.append(bytemuck::cast_slice(&message(number)))?;
        }
        let company = Company::new(case, ground, inspect);
        if case.state != "reader asleep" {
            return Ok(company.boxed());
        }
        let mut reader = journal.reader_from(journal.end()?)?;
        let asleep = move || {
            let mut record = Vec::new();
            match reader.read_until(&mut record, Instant::now() + PATIENCE) {
                Ok(read) => read.context("a record").and_then(|_| number(&record))?,
                // Newcomers have been quicker, and have trimmed already.
                Err(JournalError::Trimmed { .. }) => 0,
                Err(error) => return Err(error.into()),
            };
            Ok(WOKEN.into())
        };
        Ok(company.asleep(asleep, |_| Ok(false)).boxed())
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let path = ground.path();
        let mut held = Vec::new();
        if case.operation == "open or create" {
            return Ok(Box::new(move || {
                held.push(RotatingJournal::open_or_create(&path, CAPACITY)?);
                Ok(())
            }));
        }
        let journal = RotatingJournal::open(path)?;
        Ok(match case.operation {
            "append" | "append other" => {
                let number = if case.operation == "append" {
                    NEW
                } else {
                    OTHER
                };
                let message = message(number);
                Box::new(move || Ok(journal.append(bytemuck::cast_slice(&message)).map(drop)?))
            }
            "sync" => Box::new(move || Ok(journal.sync(CAPACITY as u64 + RECORD)?)),
            "trim" => {
                let up_to = journal.end()?.min(2 * CAPACITY as u64);
                Box::new(move || Ok(journal.trim(up_to).map(drop)?))
            }
            "read" => {
                let mut reader = journal.reader_from((MOST - 1) * RECORD)?;
                let mut record = Vec::with_capacity(256);
                Box::new(move || {
                    for expected in [MOST, MOST + 1] {
                        reader.try_read(&mut record)?.context("a record")?;
                        ensure!(number(&record)? == expected, "not record {expected}");
                    }
                    Ok(())
                })
            }
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, _: &Ground) -> Result<()> {
        Ok(())
    }

    fn cleaner(&self) -> Case {
        Case::new("open or create", "beside others", &[])
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

/// Whatever the sleeper got: what is there is looked at as well.
const WOKEN: &str = "woken";

/// All records, and where the last one ends.
fn records(journal: &RotatingJournal) -> Result<(Vec<u64>, u64)> {
    let mut reader = journal.reader_from(journal.start()?)?;
    let (mut all, mut record) = (Vec::new(), Vec::new());
    let patience = Instant::now() + PATIENCE;
    loop {
        match reader.try_read(&mut record) {
            Ok(Some(_)) => all.push(number(&record)?),
            Ok(None) => return Ok((all, reader.position())),
            // Whoever waits looks, before it gives up, whether the appender lives.
            Err(JournalError::Pending(_)) if Instant::now() < patience => {
                let soon = Instant::now() + Duration::from_millis(1);
                if reader.read_until(&mut record, soon)?.is_some() {
                    all.push(number(&record)?);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Newcomers read what is there, append until a file is full and some more, sync and trim; after a power cut all of it is
/// there again, and nothing else is left in the directory.
fn inspect(_: &Case, ground: &Ground) -> Result<String> {
    let journal = RotatingJournal::open_or_create(ground.path(), CAPACITY)?;
    let (all, _) = records(&journal).context("what is there")?;
    for number in LAST..=LAST + MOST {
        let appended = journal.append(bytemuck::cast_slice(&message(number)));
        appended.context("the next record")?;
    }
    let (now, end) = records(&journal).context("what newcomers appended")?;
    let (before, new) = now.split_at(all.len().min(now.len()));
    ensure!(
        before == all && new.iter().copied().eq(LAST..=LAST + MOST),
        "newcomers append to {all:?} and read {now:?}"
    );
    journal.sync(end).context("the next sync")?;
    journal.trim(end).context("the next trim")?;
    let (now, _) = records(&journal).context("what is left")?;
    let copy = ground.copy()?;
    for file in files(&copy)? {
        cut(file)?;
    }
    let (after, _) = records(&RotatingJournal::open(copy.path())?)?;
    ensure!(
        now == after,
        "after a power cut {after:?} are left of {now:?}"
    );
    Ok(show(&all))
}

/// The files of records, and nothing else is there but the head.
fn files(ground: &Ground) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in ground.path().read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().context("a name")?;
        if name == HEAD {
            continue;
        }
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(digits, "left in the directory: {name}");
        files.push(entry.path());
    }
    Ok(files)
}

/// What is in the file now is what the disk has kept: another run of the machine begins.
fn cut(file: PathBuf) -> Result<()> {
    journal::cut(&Segment::open(file)?)
}
