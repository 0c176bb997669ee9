//! A power cut at many moments, with every state that the medium may be in: what was synced is there, in order, and nothing
//! that was not appended.
//!
//! `IPC_TEST_IMAGES=1000000` asks for that many images instead of the quick number.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ipc_core::memory::Area;
use ipc_core::participant::ParticipantId;
use ipc_ring::journal::JournalError;
use ipc_ring::journal::protocol::Log;
use ipc_tests::powercut::{Disk, Logged, Random, wanted};

pub(crate) const ROWS: u16 = 3;
pub(crate) const CAPACITY: u64 = 1 << 13;
/// So that the arena begins in the middle of a page, as it does in a file.
pub(crate) const OFFSET: usize = 2048;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// In the notes, above the position: what is known of it.
const SYNCED: u64 = 1 << 60;
const TO_BE_TRIMMED: u64 = 2 << 60;
const TRIMMED: u64 = 3 << 60;

/// Payloads by position.
pub(crate) type Records = BTreeMap<u64, Vec<u8>>;

pub(crate) fn size() -> usize {
    Log::<Logged>::size(CAPACITY, ROWS).unwrap()
}

pub(crate) fn empty() -> Vec<u64> {
    vec![0; (OFFSET + size()).next_multiple_of(4096) / 8]
}

pub(crate) fn log(disk: &Rc<Disk>, process: u32) -> Log<Logged> {
    let area = Area::new(disk.memory(process), OFFSET, size()).unwrap();
    Log::new(&area, CAPACITY, ROWS, 0, true).unwrap()
}

pub(crate) fn participant(process: u32) -> ParticipantId {
    ParticipantId::new(process.into()).unwrap()
}

/// Nobody that lives is waited for: whoever holds a place in these histories is dead.
pub(crate) fn sync(log: &Log<Logged>, up_to: u64) -> Result<(), JournalError> {
    log.sync(up_to, MINUTE, &|dead| log.recover(dead))
}

/// What can be read from the start on.
pub(crate) fn visible(log: &Log<Logged>) -> Result<Records, JournalError> {
    let (mut records, mut position, mut record) = (Records::new(), log.start(), Vec::new());
    while let Some(at) = log.read(position, &mut record)? {
        records.insert(at.start, record.clone());
        position = at.end;
    }
    Ok(records)
}

/// Lets some processes append, sync, trim and die in random order, noting what is promised. Adds what was appended to
/// `records`.
fn work(
    disk: &Rc<Disk>,
    random: &mut Random,
    steps: u64,
    records: &mut Records,
) -> Result<(), JournalError> {
    let trim = |log: &Log<Logged>, up_to: u64| -> Result<(), JournalError> {
        disk.note(TO_BE_TRIMMED | up_to);
        let start = log.trim(up_to, MINUTE, &|dead| log.recover(dead))?;
        disk.note(TRIMMED | start);
        disk.note(SYNCED | up_to);
        Ok(())
    };
    let logs = [log(disk, 1), log(disk, 2)];
    for (log, process) in logs.iter().zip(1..) {
        log.attach(participant(process), 77, 0)?;
    }
    // In half of the histories records are whole lines, so that one survives or is lost without its neighbours.
    let lines = random.below(2) == 0;
    let payload = |random: &mut Random| {
        let most = if random.below(4) == 0 { 1500 } else { 90 };
        let len = random.below(most) as usize;
        let len = if lines { len / 56 * 56 + 48 } else { len };
        let byte = random.below(256) as u8;
        (0..len).map(|at| byte ^ at as u8).collect::<Vec<u8>>()
    };
    for _ in 0..steps {
        let which = random.below(2) as usize;
        let log = &logs[which];
        let me = participant(which as u32 + 1);
        match random.below(8) {
            0..4 => {
                // Two at a time, which need not be finished in the order of their claims.
                let payloads = [payload(random), payload(random)];
                let (mut begun, mut full) = (Vec::new(), false);
                for payload in payloads {
                    match log.begin(me, payload.len()) {
                        Ok(place) => begun.push((place, payload)),
                        Err(JournalError::Full) => full = true,
                        Err(error) => return Err(error),
                    }
                }
                if random.below(2) == 0 {
                    begun.reverse();
                }
                for (place, payload) in begun {
                    let at = log.finish(place, &payload);
                    records.insert(at.start, payload);
                }
                if full {
                    trim(log, log.end())?;
                }
            }
            4 => {
                // Dies with a place in its hands.
                match log.begin(participant(3), payload(random).len()) {
                    Ok(_) | Err(JournalError::Full) => {}
                    Err(error) => return Err(error),
                }
            }
            5 | 6 => {
                let end = log.end();
                sync(log, end)?;
                disk.note(SYNCED | end);
            }
            _ => {
                let places: Vec<u64> = records.range(log.start()..).map(|(at, _)| *at).collect();
                let up_to = places.get(random.below(places.len() as u64) as usize);
                if let Some(up_to) = up_to {
                    trim(log, *up_to)?;
                }
            }
        }
    }
    Ok(())
}

/// Appends what a cut has taken once more, with other bytes, so that places come to lie where they lay.
fn repeat(disk: &Rc<Disk>, lost: &[Vec<u8>], records: &mut Records) -> Result<(), JournalError> {
    let log = log(disk, 1);
    log.attach(participant(1), 99, 0)?;
    for payload in lost.iter().take(1) {
        let other: Vec<u8> = payload.iter().map(|byte| !byte).collect();
        match log.append(participant(1), &other) {
            Ok(at) => records.insert(at.start, other),
            Err(JournalError::Full) => break,
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// The highest position that was noted so, before a moment.
fn noted(disk: &Rc<Disk>, moment: usize, what: u64) -> Option<u64> {
    let notes = disk.notes_before(moment);
    let note = notes.range(what..what + (1 << 60)).next_back();
    note.map(|note| note - what)
}

/// What is promised when the power fails at a moment.
struct Promise {
    synced: u64,
    start: std::ops::RangeInclusive<u64>,
}

impl Promise {
    fn at(disk: &Rc<Disk>, moment: usize, before: u64) -> Self {
        let trimmed = noted(disk, moment, TRIMMED).unwrap_or(0).max(before);
        let trimming = noted(disk, moment, TO_BE_TRIMMED).unwrap_or(0);
        let synced = noted(disk, moment, SYNCED).unwrap_or(0);
        Self {
            synced,
            start: trimmed..=trimming.max(trimmed),
        }
    }

    /// Recovers an image and checks J1 to J3. Gives what is visible, and where it begins.
    fn check(
        &self,
        disk: &Rc<Disk>,
        random: &mut Random,
        records: &Records,
    ) -> Result<(Records, u64), String> {
        let log = log(disk, 1);
        // Whoever joins may have to clear up after the dead of before the cut first.
        if random.below(2) == 0 {
            (1..=3).for_each(|dead| log.recover(participant(dead)));
        }
        let attached = log.attach(participant(1), 99, 0);
        attached.map_err(|error| format!("attach: {error}"))?;
        let (start, end) = (log.start(), log.end());
        if !self.start.contains(&start) {
            return Err(format!("begins at {start}, not in {:?}", self.start));
        }
        if end < self.synced {
            return Err(format!("ends at {end}, {} was synced", self.synced));
        }
        let found = visible(&log).map_err(|error| format!("reading: {error}"))?;
        let expected: Records = records
            .range(start..end)
            .map(|(at, payload)| (*at, payload.clone()))
            .collect();
        if found == expected {
            Ok((found, start))
        } else {
            let places: [Vec<&u64>; 2] = [found.keys().collect(), expected.keys().collect()];
            Err(format!("found and expected: {places:?}"))
        }
    }
}

/// Cuts the power at moments of many histories, goes on with some of what is left, and cuts that too, the recovery
/// included. Gives the number of images and the first promise that was broken.
fn cut(
    make: fn(Vec<u64>, u64) -> Rc<Disk>,
    images: usize,
    random: &mut Random,
) -> (usize, Option<String>) {
    let (mut done, mut broken) = (0, None);
    while done < images && broken.is_none() {
        let disk = make(empty(), 1);
        let mut history = Records::new();
        let steps = 2 + random.below(60);
        if let Err(error) = work(&disk, random, steps, &mut history) {
            return (done, Some(format!("before the cut: {error}")));
        }
        let syncs = disk.syncs();
        for turn in 0..24 {
            // Anywhere, and a few steps before a sync returns.
            let anywhere = random.below(disk.moments() as u64) as usize;
            let sync = syncs.get(random.below(syncs.len() as u64) as usize);
            let before = sync.map_or(anywhere, |at| at.saturating_sub(random.below(6) as usize));
            let moment = if turn % 2 == 0 { anywhere } else { before };
            let promise = Promise::at(&disk, moment, 0);
            let mut order = random.clone();
            random.below(2);
            let mut seconds = Vec::new();
            done += disk.images(moment, 24, random, |image| {
                let after = make(image.clone(), 2);
                match promise.check(&after, &mut order, &history) {
                    Ok((left, start)) if order.below(16) == 0 => seconds.push((image, left, start)),
                    Ok(_) => {}
                    Err(error) => broken = broken.take().or(Some(error)),
                }
            });
            for (image, mut records, start) in seconds {
                let behind = records.keys().next_back().map_or(start, |last| last + 1);
                let lost: Vec<Vec<u8>> =
                    history.range(behind..).map(|(_, it)| it.clone()).collect();
                let disk = make(image, 2);
                let worked = if random.below(2) == 0 {
                    repeat(&disk, &lost, &mut records)
                } else {
                    work(&disk, random, 6, &mut records)
                };
                if let Err(error) = worked {
                    return (done, Some(format!("after the cut: {error}")));
                }
                for turn in 0..8 {
                    let last = disk.moments() - 1;
                    let moment = random.below(last as u64 + 1) as usize;
                    let moment = if turn == 0 { last } else { moment };
                    // What was synced before the first cut stays, too; what was merely found may be older than that.
                    let mut second = Promise::at(&disk, moment, 0);
                    second.synced = second.synced.max(promise.synced);
                    second.start = start..=*second.start.end().max(&start);
                    done += disk.images(moment, 8, random, |image| {
                        let again = make(image, 3);
                        if let Err(error) = second.check(&again, &mut order, &records) {
                            broken = broken.take().or(Some(format!("second cut: {error}")));
                        }
                    });
                }
            }
        }
    }
    (done, broken)
}

// A sync that leaves something out, space that is used again before the mark is on disk, a torn record taken for a whole
// one, or one that turns up again behind the tail that was cut.
#[test]
fn f22_what_was_synced_survives_a_power_cut_and_nothing_else_appears() {
    let mut random = Random::seeded();
    let (images, broken) = cut(Disk::new, wanted(), &mut random);
    println!("{images} images recovered");
    assert_eq!(broken, None);
    assert!(images >= wanted());
}

// The control: a disk that does not keep what it says it has kept must be found out, or the test above proves nothing.
#[test]
fn a_disk_that_lies_is_found_out() {
    let (_, broken) = cut(Disk::lying, wanted(), &mut Random::seeded());
    let broken = broken.expect("a broken promise");
    println!("{broken}");
}

// After a failed msync nobody knows what the disk holds: a later one that succeeds proves nothing.
#[test]
fn f21_a_failed_sync_is_for_good() {
    let disk = Disk::new(empty(), 1);
    let (first, second) = (log(&disk, 1), log(&disk, 2));
    first.attach(participant(1), 77, 0).unwrap();
    second.attach(participant(2), 77, 0).unwrap();
    let kept = first.append(participant(1), b"kept").unwrap();
    sync(&first, kept.end).unwrap();
    let lost = first.append(participant(1), b"lost").unwrap();
    disk.fail();
    assert!(matches!(
        sync(&first, lost.end),
        Err(JournalError::Failed(Some(_)))
    ));
    for log in [&first, &second] {
        for position in [kept.end, lost.end] {
            assert!(matches!(
                sync(log, position),
                Err(JournalError::Failed(None))
            ));
        }
        assert!(matches!(
            log.append(participant(1), b"more"),
            Err(JournalError::Failed(None))
        ));
    }
    assert_eq!(first.durable(), kept.end);
    assert_eq!(visible(&second).unwrap().len(), 2, "reading still works");
}

// Both slots rubbish: starting at zero would take old records for new ones, or lose all.
#[test]
fn a_damaged_mark_is_not_taken_for_an_empty_one() {
    let disk = Disk::new(empty(), 1);
    let first = log(&disk, 1);
    first.attach(participant(1), 77, 0).unwrap();
    let at = first.append(participant(1), b"record").unwrap();
    sync(&first, at.end).unwrap();
    disk.images(disk.moments() - 1, 1, &mut Random::seeded(), |mut image| {
        image[(OFFSET + 384) / 8 + 1] ^= 1 << 20;
        image[(OFFSET + 512) / 8 + 1] ^= 1 << 20;
        let disk = Disk::new(image, 2);
        let refused = log(&disk, 1).attach(participant(1), 77, 0);
        assert!(matches!(refused, Err(JournalError::Damaged)));
    });
}
