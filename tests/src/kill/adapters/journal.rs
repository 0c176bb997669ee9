//! Records that are appended, synced, trimmed and read.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::Mapped;
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_ring::journal::{self, Journal, JournalError, ONLY, protocol::Log};

use super::company::Company;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;
use crate::kill::parcel::Parcel;

/// Bytes of the journal.
const CAPACITY: usize = 4096;

/// How often a record says what it says: so often that it takes several units.
const TIMES: usize = 6;

/// Bytes of a record in the journal, which takes three units.
pub(super) const RECORD: u64 = 192;

/// Records that fit in.
pub(super) const MOST: u64 = CAPACITY as u64 / RECORD;

/// Rows of the table.
const ROWS: u16 = 4;

/// What a victim appends, and a second one.
pub(super) const NEW: u64 = 100;
pub(super) const OTHER: u64 = 200;

/// What newcomers append at last.
pub(super) const LAST: u64 = 9000;

/// Where in the object it is noted of which run of the machine and of the mount its words are, and of which run of the machine.
const INSTANCE: usize = 280;
const BOOT: usize = 312;

const PATIENCE: Duration = Duration::from_secs(10);

/// The adapter.
pub(super) struct Records;

impl Adapter for Records {
    fn kind(&self) -> &'static str {
        "journal"
    }

    fn account(&self) -> &'static str {
        "The place of an appender that died before it published is skipped by whoever is held up by it: a reader that \
         waits, a call to `sync`. What was published stays. The lock of those who sync and trim is the kernel's: the next \
         one to take it finishes what was cut short. Nobody is told. After a power cut, whoever attaches first keeps what \
         is whole; if it dies in the middle of that, the next one does it again. The rows show the records that are left, \
         and, where that is what the operation changes, which are on disk."
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        let all = "1 to 21";
        vec![
            case("append", "empty", &["nothing", "100"]),
            case("append", "one", &["1", "1 100"]),
            case("append", "at the seam", &["20 21", "20 21 100"]),
            case("append", "full", &[all]),
            case("append", "appender dead", &["1", "1 100"]),
            case("append", "reader asleep", &["nothing", "100"]),
            case("sync", "two", &["1 2, none synced", "1 2, all synced"]),
            case("sync", "all synced", &["1 2, all synced"]),
            case(
                "sync",
                "appender dead",
                &["1, none synced", "1, all synced"],
            )
            .blocking(),
            case("trim", "full", &[all, "17 to 21"]),
            case("trim", "too little", &["1 2"]),
            case("read", "two", &["1 2"]),
            case("read", "nothing there", &["nothing", "60"]).blocking(),
            case("attach", "never used", &["nothing"]),
            case("attach", "beside others", &["1 2"]),
            case("attach", "after a power cut", &["1 2"]),
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
                "one",
                &["1", "1 100", "1 200", "1 100 200", "1 200 100"],
            ),
            pair(
                "sync",
                "append",
                "two",
                &[
                    "1 2, none synced",
                    "1 2, all synced",
                    "1 2 100, none synced",
                    "1 2 100, some synced",
                    "1 2 100, all synced",
                ],
            ),
            pair("attach", "attach", "after a power cut", &["1 2"]),
        ]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let options = SegmentOptions::new()
            .participants(ROWS)
            .object(ONLY, Journal::spec(CAPACITY, ROWS, true)?);
        let ground = Ground::Region(options.create(Place::Memfd("kill".into()))?);
        let company = |ground| Company::new(case, ground, inspect);
        if case.state == "never used" {
            return Ok(company(ground).boxed());
        }
        let journal = Journal::in_segment(ground.segment(), ONLY)?;
        let count = match case.state {
            "empty" | "nothing there" | "reader asleep" => 0,
            "one" | "appender dead" => 1,
            "at the seam" | "full" => MOST,
            _ => 2,
        };
        let mut last = 0..0;
        for number in 1..=count {
            last = append(&journal, number)?;
        }
        Ok(match case.state {
            "at the seam" => {
                journal.trim(last.end - 2 * RECORD)?;
                company(ground).boxed()
            }
            "full" => {
                let more = append(&journal, LAST);
                ensure!(more.is_err(), "more than {MOST} records fit in");
                company(ground).boxed()
            }
            "all synced" => {
                journal.sync(last.end)?;
                company(ground).boxed()
            }
            "appender dead" => {
                log(ground.segment())?.begin(ground.segment().participant()?, LEN)?;
                company(ground.copy()?).boxed()
            }
            "after a power cut" => {
                // Synced, so that it must be there again; what comes behind it was not, and is cut off.
                journal.sync(last.end)?;
                log(ground.segment())?.begin(ground.segment().participant()?, LEN)?;
                append(&journal, 3)?;
                let copy = ground.copy()?;
                cut(copy.segment())?;
                company(copy).boxed()
            }
            "reader asleep" => {
                let mut reader = journal.reader_from(0)?;
                company(ground)
                    .asleep(
                        move || {
                            let mut record = Vec::new();
                            let read = reader.read_until(&mut record, Instant::now() + PATIENCE)?;
                            read.context("a record")?;
                            Ok(number(&record)?.to_string())
                        },
                        |ground| {
                            let journal = Journal::in_segment(ground.segment(), ONLY)?;
                            match journal.reader_from(0)?.try_read(&mut Vec::new()) {
                                Ok(read) => Ok(read.is_some()),
                                Err(JournalError::Pending(_)) => Ok(false),
                                Err(error) => Err(error.into()),
                            }
                        },
                    )
                    .boxed()
            }
            "nothing there" => Box::new(Appender(company(ground))),
            _ => company(ground).boxed(),
        })
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let segment = ground.segment().clone();
        if case.operation == "attach" {
            // Joining is another kind's operation.
            segment.participant()?;
            let mut held = Vec::new();
            return Ok(Box::new(move || {
                held.push(Journal::in_segment(&segment, ONLY)?);
                Ok(())
            }));
        }
        let journal = Journal::in_segment(&segment, ONLY)?;
        let end = journal.end();
        let full = case.state == "full";
        let mut record = Vec::with_capacity(LEN);
        Ok(match case.operation {
            "append" | "append other" => {
                let number = if case.operation == "append" {
                    NEW
                } else {
                    OTHER
                };
                let message = message(number);
                Box::new(
                    move || match journal.append(bytemuck::cast_slice(&message)) {
                        Ok(_) => Ok(()),
                        Err(JournalError::Full) if full => Ok(()),
                        Err(error) => Err(error.into()),
                    },
                )
            }
            "sync" => Box::new(move || Ok(journal.sync(end)?)),
            "trim" if full => Box::new(move || {
                journal
                    .trim((MOST - 5) * RECORD)
                    .map(drop)
                    .map_err(Into::into)
            }),
            "trim" => Box::new(move || journal.trim(RECORD).map(drop).map_err(Into::into)),
            "read" => {
                let mut reader = journal.reader_from(0)?;
                let until = Instant::now() + PATIENCE;
                Box::new(move || {
                    let read = reader.read_until(&mut record, until)?;
                    read.context("a record")?;
                    number(&record).map(drop)
                })
            }
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        ground.segment().learn(&[journal::KIND]);
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

/// A survivor that appends what the victim waits for.
struct Appender(Company);

impl Scene for Appender {
    fn ground(&self) -> &Ground {
        self.0.ground()
    }

    fn release(&mut self) -> Result<bool> {
        append(&Journal::in_segment(self.ground().segment(), ONLY)?, 60)?;
        Ok(true)
    }

    fn survive(self: Box<Self>, unaided: bool) -> Result<String> {
        Box::new(self.0).survive(unaided)
    }
}

/// Bytes of a payload.
const LEN: usize = size_of::<Message>();

/// What a record holds.
type Message = [Parcel; TIMES];

/// The payload of a record.
pub(super) fn message(number: u64) -> Message {
    [Parcel::new(number); TIMES]
}

fn append(journal: &Journal, number: u64) -> Result<Range<u64>> {
    Ok(journal.append(bytemuck::cast_slice(&message(number)))?)
}

/// The protocol itself, to be stopped where no call of the journal stops.
fn log(segment: &Segment) -> Result<Log<Mapped>> {
    let object = segment.object(ONLY)?;
    let lock = object.entry().offset / 64;
    Ok(Log::new(object.area(), CAPACITY as u64, ROWS, lock, true)?)
}

/// What is in the segment now is what the disk has kept: another run of the machine begins.
pub(super) fn cut(segment: &Segment) -> Result<()> {
    let object = segment.object(ONLY)?;
    object.area().word64(INSTANCE)?.store(0, Relaxed);
    object.area().word64(BOOT)?.store(0, Relaxed);
    Ok(())
}

pub(super) fn number(record: &[u8]) -> Result<u64> {
    ensure!(record.len() == LEN, "a record of {} bytes", record.len());
    let (one, rest) = record.split_at(size_of::<Parcel>());
    ensure!(
        rest.chunks(one.len()).all(|other| other == one),
        "a torn record"
    );
    bytemuck::try_pod_read_unaligned::<Parcel>(one)
        .map_err(|error| anyhow::anyhow!("a record that is no message: {error}"))?
        .open()
}

/// All records from the start on, and where the last one ends.
fn records(journal: &Journal) -> Result<(Vec<u64>, u64)> {
    let mut reader = journal.reader_from(journal.start())?;
    let (mut all, mut record) = (Vec::new(), Vec::new());
    let patience = Instant::now() + PATIENCE;
    loop {
        match reader.try_read(&mut record) {
            Ok(Some(_)) => all.push(number(&record)?),
            Ok(None) => break,
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
    Ok((all, reader.position()))
}

/// Newcomers read what is there, append, sync, and trim where it is full; after a power cut all of it is there again.
fn inspect(case: &Case, ground: &Ground) -> Result<String> {
    let segment = ground.segment();
    let journal = Journal::in_segment(segment, ONLY)?;
    let (all, end) = records(&journal).context("what is there")?;
    let durable = journal.durable_position();
    let mut found = show(&all);
    if case.operation == "sync" {
        found += match durable {
            0 => ", none synced",
            durable if durable >= all.len() as u64 * RECORD => ", all synced",
            _ => ", some synced",
        };
    }
    if case.state == "full" {
        // Also where the victim was about to give up space: that is finished on the way.
        journal.trim(end - 2 * RECORD).context("the next trim")?;
    }
    let mut last = 0..0;
    for number in LAST..LAST + 3 {
        last = append(&journal, number).context("the next record")?;
    }
    journal.sync(last.end).context("the next sync")?;
    let (now, _) = records(&journal).context("what newcomers appended")?;
    ensure!(
        now.ends_with(&[LAST, LAST + 1, LAST + 2]),
        "newcomers append three records and read {now:?}"
    );
    let copy = ground.copy()?;
    cut(copy.segment())?;
    let (after, _) = records(&Journal::in_segment(copy.segment(), ONLY)?)?;
    ensure!(
        now == after,
        "after a power cut {after:?} are left of {now:?}"
    );
    Ok(found)
}

/// Many records in a row by the first and the last.
pub(super) fn show(all: &[u64]) -> String {
    let runs = all.chunk_by(|one, next| *next == one + 1);
    let words: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] if run.len() > 4 => format!("{first} to {last}"),
            few => crate::kill::parcel::show(few),
        })
        .collect();
    if words.is_empty() {
        return "nothing".into();
    }
    words.join(" ")
}
