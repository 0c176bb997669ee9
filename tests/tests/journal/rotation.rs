//! Journals in several files: among processes, through kills and a full disk, and under power cuts that spare or take the names
//! of files, too.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use ipc_core::event::{Event, Waiters};
use ipc_core::memory::{Area, LockByte, Words};
use ipc_core::participant::ParticipantId;
use ipc_ring::journal::JournalError;
use ipc_ring::journal::protocol::Log;
use ipc_ring::journal::protocol::chain::{Chain, Cursor, Files};
use ipc_ring::journal::rotating::RotatingJournal;
use ipc_tests::child::Child;
use ipc_tests::powercut::{Disk, Logged, Random, wanted};

use crate::processes::{self, soon};

fn payload(number: u64) -> Vec<u8> {
    number.to_ne_bytes().repeat(1 + (number % 37) as usize)
}

fn number(record: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(record[..8].try_into().unwrap());
    assert_eq!(record, payload(number), "a record that nobody wrote");
    number
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "head").collect();
    names.sort();
    names
}

// Records that are lost or doubled where one file ends and the next begins, a position that means another place when it is
// used again, a trim that takes too much, or files that stay for ever.
#[test]
fn positions_go_on_from_file_to_file() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("rotating");
    let journal = RotatingJournal::open_or_create(&path, 4096).unwrap();
    let mut live = journal.reader_from(0).unwrap();
    let (mut record, mut places) = (Vec::new(), Vec::new());
    for n in 0..500 {
        let at = journal.append(&payload(n)).unwrap();
        assert_eq!(live.try_read(&mut record).unwrap(), Some(at.clone()));
        assert_eq!(number(&record), n);
        places.push(at);
    }
    assert_eq!(live.try_read(&mut record).unwrap(), None);
    journal.sync(places[499].end).unwrap();
    assert_eq!(journal.durable_position().unwrap(), journal.end().unwrap());
    let before = files(&path);
    assert!(before.len() > 10, "{before:?}");
    drop((live, journal));

    let journal = RotatingJournal::open_or_create(&path, 1 << 20).unwrap();
    assert_eq!(
        journal.capacity(),
        4096,
        "one that exists keeps its capacity"
    );
    assert_eq!(journal.end().unwrap(), places[499].end);
    for from in [0, 1, 77, 250, 499] {
        let mut reader = journal
            .reader_from(places[from].start)
            .unwrap()
            .durable_only();
        for (n, at) in places.iter().enumerate().skip(from) {
            assert_eq!(reader.try_read(&mut record).unwrap().as_ref(), Some(at));
            assert_eq!(number(&record), n as u64);
        }
    }
    let mut behind = journal.reader_from(0).unwrap();
    let start = journal.trim(places[250].start).unwrap();
    assert!(start <= places[250].start && start + 4096 > places[250].start);
    assert_eq!(start, journal.start().unwrap());
    assert!(files(&path)[0] == format!("{:012}", start / 4096));
    assert!(matches!(
        behind.try_read(&mut record),
        Err(JournalError::Trimmed { start: told }) if told == start
    ));
    assert!(matches!(
        journal.reader_from(0),
        Err(JournalError::Trimmed { .. })
    ));
    let beyond = journal.end().unwrap() + 16;
    assert!(matches!(
        journal.reader_from(beyond),
        Err(JournalError::Beyond { .. })
    ));
    assert!(matches!(
        journal.sync(beyond + 8192),
        Err(JournalError::Beyond { .. })
    ));
    // All of it: the newest file stays, and with it the numbers.
    let end = journal.end().unwrap();
    let start = journal.trim(end).unwrap();
    assert_eq!((files(&path).len(), start / 4096), (1, end / 4096));
    assert_eq!(journal.append(b"more").unwrap().start, end);
}

// A file with a name so high that its positions would be none must not take the journal along.
#[test]
fn a_planted_name_is_none_of_the_journals_files() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("rotating");
    let journal = RotatingJournal::open_or_create(&path, 4096).unwrap();
    let planted = path.join(u64::MAX.to_string());
    std::fs::copy(path.join("000000000000"), &planted).unwrap();
    let mut reader = journal.reader_from(0).unwrap();
    let mut record = Vec::new();
    for n in 0..100 {
        let at = journal.append(&payload(n)).unwrap();
        assert_eq!(reader.try_read(&mut record).unwrap(), Some(at));
    }
    let end = journal.end().unwrap();
    assert!(end > 4096);
    assert_eq!(journal.trim(end).unwrap(), end / 4096 * 4096);
    drop((journal, reader));
    assert_eq!(RotatingJournal::open(&path).unwrap().end().unwrap(), end);
    assert!(planted.exists());
}

// A reader that sleeps at the end of a file must hear of the next one, and one process must find the files of another.
#[test]
fn one_process_appends_and_another_follows() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("followed");
    let journal = RotatingJournal::open_or_create(&path, 4096).unwrap();
    let writer = Child::run(|| {
        assert!(matches!(journal.append(b"no"), Err(JournalError::Forked)));
        let journal = journal.rejoin().unwrap();
        for n in 0..300 {
            let at = journal.append(&payload(n)).unwrap();
            if n % 20 == 0 {
                journal.sync(at.end).unwrap();
            }
        }
        journal.sync(journal.end().unwrap()).unwrap();
    });
    let mut reader = journal.reader_from(0).unwrap().durable_only();
    let mut record = Vec::new();
    for n in 0..300 {
        reader
            .read_until(&mut record, soon())
            .unwrap()
            .expect("a record");
        assert_eq!(number(&record), n);
        if n % 50 == 0 {
            journal.trim(reader.position()).unwrap();
        }
    }
    writer.join();
    assert!(files(&path).len() < 5);
}

/// Appends, syncs and trims for ever; notes what is attempted and what is durable.
fn work(path: &Path, worker: usize, ledger: &processes::Words) {
    let journal = RotatingJournal::open(path).expect("open");
    let (attempted, durable) = (ledger.at(2 * worker), ledger.at(2 * worker + 1));
    let mut number = attempted.load(Acquire) + 1;
    loop {
        attempted.store(number, Release);
        let record = [worker as u64, number].map(u64::to_ne_bytes).concat();
        let record = record.repeat(1 + (number % 40) as usize);
        let at = journal.append(&record).expect("append");
        if number % 3 != 0 {
            journal.sync(at.end).expect("sync");
            durable.store(number, Release);
        }
        number += 1;
    }
}

// A kill in the middle of a rotation or a trim: between the sync of one file and the name of the next, between the name and its
// sync, between two removals. Files are small, so that most kills hit one.
#[test]
fn what_was_synced_survives_kills_in_the_middle_of_rotations() {
    const WORKERS: usize = 3;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("kills");
    let journal = RotatingJournal::open_or_create(&path, 4096).unwrap();
    let ledger = processes::Words::new(2 * WORKERS);
    let mut random = Random::seeded();
    let start = |worker: usize| Child::run(|| work(&path, worker, &ledger));
    let mut workers: Vec<Option<Child>> = (0..WORKERS).map(start).map(Some).collect();
    let mut reader = journal.reader_from(0).unwrap();
    let (mut last, mut seen, mut kills, mut found) = ([0_u64; WORKERS], 0_u64, 0, Vec::new());
    let mut read = |deadline: Instant, last: &mut [u64; WORKERS]| {
        let got = reader.read_until(&mut found, deadline).unwrap().is_some();
        if got {
            let word = |at: usize| u64::from_ne_bytes(found[at..at + 8].try_into().unwrap());
            let (worker, number) = (word(0) as usize, word(8));
            assert_eq!(found.len(), 16 * (1 + (number % 40) as usize));
            assert!(found.chunks(16).all(|piece| piece == &found[..16]));
            assert!(number > last[worker], "{number} after {}", last[worker]);
            assert!(number <= ledger.at(2 * worker).load(Acquire));
            last[worker] = number;
            seen += 1;
            if seen % 20 == 0 {
                journal.trim(reader.position()).unwrap();
            }
        }
        got
    };
    let end = Instant::now() + Duration::from_secs(60);
    while kills < 60 {
        assert!(Instant::now() < end, "{kills} kills in a minute");
        let deadline = Instant::now() + Duration::from_micros(random.below(20_000));
        while Instant::now() < deadline {
            read(deadline, &mut last);
        }
        let worker = random.below(WORKERS as u64) as usize;
        workers[worker].take().into_iter().for_each(Child::kill);
        kills += 1;
        workers[worker] = Some(start(worker));
    }
    workers.into_iter().flatten().for_each(Child::kill);
    while read(Instant::now() + Duration::from_millis(200), &mut last) {}
    for (worker, last) in last.iter().enumerate() {
        let durable = ledger.at(2 * worker + 1).load(Acquire);
        assert!(
            *last >= durable,
            "{durable} of {worker} was synced and is not there"
        );
    }
    let rotations = journal.end().unwrap() / 4096;
    println!("{kills} kills, {seen} records, {rotations} rotations");
    assert!(
        seen > 100 && rotations > 20,
        "{seen} records, {rotations} rotations"
    );
    // Nothing half made is left, and the next rotation works.
    for n in 0..40 {
        journal.append(&payload(n)).unwrap();
    }
    assert!(
        files(&path).iter().all(|name| name.len() == 12),
        "{:?}",
        files(&path)
    );
}

const ROWS: u16 = 3;
const CAPACITY: u64 = 1 << 12;
const MINUTE: Duration = Duration::from_secs(60);
/// Bytes of the head, of the names, and of each file; the name of file n is word 8 n behind the head: a line each, which a
/// power cut spares or takes on its own.
const PAGE: usize = 4096;
const FILES: u64 = 12;

/// Files side by side on a simulated disk.
#[derive(Clone, Debug)]
struct Shelf {
    process: u32,
    area: Area<Logged>,
    names: Words<Logged>,
}

fn file_len() -> usize {
    Log::<Logged>::size(CAPACITY, ROWS)
        .unwrap()
        .next_multiple_of(PAGE)
}

fn shelf_len() -> usize {
    2 * PAGE + FILES as usize * file_len()
}

fn participant(process: u32) -> ParticipantId {
    ParticipantId::new(process.into()).unwrap()
}

impl Shelf {
    fn new(disk: &Rc<Disk>, process: u32) -> Self {
        let area = Area::new(disk.memory(process), 0, shelf_len()).unwrap();
        let names = area.slots(PAGE, 64, 64).unwrap().words(0).unwrap();
        Self {
            process,
            area,
            names,
        }
    }

    fn at(number: u64) -> usize {
        2 * PAGE + number as usize * file_len()
    }
}

impl Files for Shelf {
    type Memory = Logged;
    type File = Log<Logged>;

    fn numbers(&self) -> Result<Vec<u64>, JournalError> {
        let named = |number: &u64| self.names.load(*number, Acquire) != 0;
        Ok((0..FILES).filter(named).collect())
    }

    fn open(&self, number: u64) -> Result<Option<Log<Logged>>, JournalError> {
        if self.names.load(number, Acquire) == 0 {
            return Ok(None);
        }
        let area = self.area.part(Self::at(number), file_len())?;
        let log = Log::new(&area, CAPACITY, ROWS, 1000 * (number + 1), true)?;
        log.attach(participant(self.process), 77 + number, 0)?;
        Ok(Some(log))
    }

    fn create(&self, number: u64) -> Result<Log<Logged>, JournalError> {
        if number >= FILES {
            return Err(JournalError::Segment(
                ipc_core::segment::SegmentError::Object("the shelf is full".into()),
            ));
        }
        // Whole and on disk before it has its name, as the segments of the real one. What lay there was another file.
        for at in (Self::at(number)..Self::at(number + 1)).step_by(8) {
            let word = self.area.word64(at)?;
            if word.load(Acquire) != 0 {
                word.store(0, Release);
            }
        }
        let synced = self.area.sync(Self::at(number), file_len());
        synced.map_err(|error| JournalError::Failed(Some(error)))?;
        self.names.store(number, 1, Release);
        Ok(self.open(number)?.expect("it has its name"))
    }

    fn remove(&self, number: u64) -> Result<(), JournalError> {
        self.names.store(number, 0, Release);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.area.sync(PAGE, PAGE)
    }

    fn log<'f>(&self, file: &'f Log<Logged>) -> (&'f Log<Logged>, ParticipantId) {
        (file, participant(self.process))
    }

    fn recover(&self, file: &Log<Logged>, dead: ParticipantId) {
        file.recover(dead);
    }
}

fn chain(disk: &Rc<Disk>, process: u32) -> Result<Chain<Shelf>, JournalError> {
    let shelf = Shelf::new(disk, process);
    let event = Event::new(&shelf.area, 0, Waiters::Many)?;
    Chain::open(shelf, CAPACITY, event, LockByte::Object(0))
}

/// Payloads by position.
type Records = BTreeMap<u64, Vec<u8>>;

/// In the notes, above the position: what is known of it.
const SYNCED: u64 = 1 << 60;
const TO_BE_TRIMMED: u64 = 2 << 60;
const TRIMMED: u64 = 3 << 60;

/// Appends, syncs, trims and dies in random order, noting what is promised, until the shelf is full.
fn simulate(
    disk: &Rc<Disk>,
    random: &mut Random,
    steps: u64,
    records: &mut Records,
) -> Result<(), JournalError> {
    let chains = [chain(disk, 1)?, chain(disk, 2)?];
    for _ in 0..steps {
        let chain = &chains[random.below(2) as usize];
        match random.below(10) {
            0..6 => {
                let most = if random.below(3) == 0 { 1700 } else { 200 };
                let len = random.below(most);
                let byte = random.below(256) as u8;
                let payload: Vec<u8> = (0..len).map(|at| byte ^ at as u8).collect();
                match chain.append(&payload) {
                    Ok(at) => drop(records.insert(at.start, payload)),
                    Err(JournalError::Segment(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            6 => {
                // Dies with a place in its hands.
                let shelf = Shelf::new(disk, 3);
                let newest = shelf.numbers()?.last().copied().unwrap_or(0);
                let log = shelf.open(newest)?.expect("the newest is there");
                match log.begin(participant(3), random.below(300) as usize) {
                    Ok(_) | Err(JournalError::Full) => {}
                    Err(error) => return Err(error),
                }
            }
            7 | 8 => {
                let end = chain.end()?;
                chain.sync(end, MINUTE)?;
                disk.note(SYNCED | end);
            }
            _ => {
                let end = chain.end()?;
                let up_to = records.range(chain.start()?..end).map(|(at, _)| *at);
                let up_to: Vec<u64> = up_to.collect();
                // Half of the trims take all they can: several files at once.
                let some = random.below(2 * up_to.len() as u64 + 1) as usize;
                if let Some(up_to) = up_to.get(some).or(up_to.last()) {
                    disk.note(TO_BE_TRIMMED | up_to);
                    let start = chain.trim(*up_to, MINUTE)?;
                    disk.note(TRIMMED | start);
                    disk.note(SYNCED | up_to);
                }
            }
        }
    }
    Ok(())
}

fn noted(disk: &Rc<Disk>, moment: usize, what: u64) -> u64 {
    let notes = disk.notes_before(moment);
    let note = notes.range(what..what + (1 << 60)).next_back();
    note.map_or(0, |note| note - what)
}

/// What is promised when the power fails at a moment.
#[derive(Debug)]
struct Promise {
    synced: u64,
    start: RangeInclusive<u64>,
}

impl Promise {
    fn at(disk: &Rc<Disk>, moment: usize) -> Self {
        let trimmed = noted(disk, moment, TRIMMED);
        let trimming = noted(disk, moment, TO_BE_TRIMMED).max(trimmed);
        Self {
            synced: noted(disk, moment, SYNCED),
            start: trimmed..=trimming,
        }
    }

    /// Recovers an image and checks that what was synced is there, in order, and nothing else. Gives what is visible.
    fn check(&self, disk: &Rc<Disk>, records: &Records) -> Result<(Records, u64), String> {
        let told = |what: &'static str| move |error| format!("{what}: {error}");
        let chain = chain(disk, 1).map_err(told("open"))?;
        let start = chain.start().map_err(told("start"))?;
        let end = chain.end().map_err(told("end"))?;
        if !self.start.contains(&start) {
            return Err(format!("begins at {start}, not in {:?}", self.start));
        }
        if end < self.synced {
            return Err(format!("ends at {end}, {} was synced", self.synced));
        }
        let (mut found, mut cursor, mut record) = (Records::new(), Cursor::new(start), Vec::new());
        while let Some(at) = chain
            .read(&mut cursor, &mut record, true)
            .map_err(told("read"))?
        {
            found.insert(at.start, record.clone());
        }
        let expected = records.range(start..end);
        let expected: Records = expected.map(|(at, it)| (*at, it.clone())).collect();
        if found != expected {
            let places: [Vec<&u64>; 2] = [found.keys().collect(), expected.keys().collect()];
            return Err(format!("found and expected: {places:?}"));
        }
        Ok((found, start))
    }
}

/// Cuts the power in the middle of many histories, goes on with some of what is left, and cuts that too, the recovery
/// included. Gives the number of images and the first promise that was broken.
fn cut(
    make: fn(Vec<u64>, u64) -> Rc<Disk>,
    images: usize,
    random: &mut Random,
) -> (usize, Option<String>) {
    let (mut done, mut broken) = (0, None);
    while done < images && broken.is_none() {
        let disk = make(vec![0; shelf_len() / 8], 1);
        let mut history = Records::new();
        let steps = 10 + random.below(60);
        if let Err(error) = simulate(&disk, random, steps, &mut history) {
            return (done, Some(format!("before the cut: {error}")));
        }
        let syncs = disk.syncs();
        // That of the directory, which ends a trim: before it returns, any of the removed names may be back.
        let trims = disk.moments_of(|what| what & TRIMMED == TRIMMED);
        let trims = trims
            .iter()
            .filter_map(|end| syncs.iter().rfind(|at| *at < end).copied());
        let trims: Vec<usize> = trims.collect();
        for turn in 0..32 {
            let anywhere = random.below(disk.moments() as u64) as usize;
            let sync = syncs.get(random.below(syncs.len() as u64) as usize);
            // Just before a sync returns, and just after.
            let near = sync.map_or(anywhere, |at| {
                (at + 3).saturating_sub(random.below(6) as usize)
            });
            let trim = trims.get(random.below(trims.len().max(1) as u64) as usize);
            let moment = match turn % 4 {
                0 => anywhere,
                1 => trim.copied().unwrap_or(near),
                _ => near,
            };
            let moment = moment.min(disk.moments() - 1);
            let promise = Promise::at(&disk, moment);
            let mut seconds = Vec::new();
            let mut order = random.clone();
            random.below(2);
            done += disk.images(moment, 16, random, |image| {
                match promise.check(&make(image.clone(), 2), &history) {
                    Ok((left, start)) if order.below(16) == 0 => seconds.push((image, left, start)),
                    Ok(_) => {}
                    Err(error) => broken = broken.take().or(Some(error)),
                }
            });
            for (image, mut records, start) in seconds {
                let disk = make(image, 2);
                if let Err(error) = simulate(&disk, random, 12, &mut records) {
                    return (done, Some(format!("after the cut: {error}")));
                }
                for turn in 0..6 {
                    let last = disk.moments() - 1;
                    let moment = random.below(last as u64 + 1) as usize;
                    let moment = if turn == 0 { last } else { moment };
                    let mut second = Promise::at(&disk, moment);
                    second.synced = second.synced.max(promise.synced);
                    second.start =
                        start.max(*second.start.start())..=start.max(*second.start.end());
                    done += disk.images(moment, 8, random, |image| {
                        if let Err(error) = second.check(&make(image, 3), &records) {
                            broken = broken.take().or(Some(format!("second cut: {error}")));
                        }
                    });
                }
            }
        }
    }
    (done, broken)
}

// A file that is used before its name is on disk, one that is made before the one before it is, a trim that takes what it must
// not, and a torn tail in any file but the last.
#[test]
fn f22_what_was_synced_survives_a_power_cut_in_the_middle_of_a_rotation() {
    let mut random = Random::seeded();
    let (images, broken) = cut(Disk::new, wanted(), &mut random);
    println!("{images} images recovered");
    assert_eq!(broken, None);
    assert!(images >= wanted());
}

// The control: a disk that does not keep what it says it has kept must be found out, or the test above proves nothing.
#[test]
fn a_disk_that_lies_about_rotations_is_found_out() {
    let (_, broken) = cut(Disk::lying, wanted(), &mut Random::seeded());
    println!("{}", broken.expect("a broken promise"));
}
