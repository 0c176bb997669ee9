//! The journal among processes.

use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use ipc_core::event::SLICE;
use ipc_core::memory::Word64;
use ipc_core::segment::{ObjectSpec, Place, SegmentOptions};
use ipc_core::{Mapped, segment::Object};
use ipc_ring::journal::rotating::RotatingJournal;
use ipc_ring::journal::{Journal, JournalError};
use ipc_tests::child::Child;
use ipc_tests::powercut::Random;

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Words in memory that survive those who write them.
pub(crate) struct Words(Object);

impl Words {
    pub(crate) fn new(count: usize) -> Self {
        let spec = ObjectSpec {
            kind: *b"ledger\0\0",
            version: 1,
            len: count * 8,
            schema: String::new(),
            parameters: [0; 2],
        };
        let options = SegmentOptions::new().object("ledger", spec);
        let segment = options.create(Place::Anonymous).unwrap();
        Self(segment.object("ledger").unwrap())
    }

    pub(crate) fn at(&self, index: usize) -> Word64<Mapped> {
        self.0.area().word64(index * 8).unwrap()
    }
}

// A sync that does not wake those who wait for what it makes durable: they would learn of it at their next look around only.
#[test]
fn a_sync_wakes_those_who_wait_for_what_is_durable() {
    const ROUNDS: usize = 21;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("one");
    let one = Journal::create(path.as_path(), 1 << 16).unwrap();
    let many = RotatingJournal::open_or_create(parent.path().join("many"), 4096).unwrap();
    let mut reader = one.reader_from(0).unwrap().durable_only();
    let mut rotating = many.reader_from(0).unwrap().durable_only();

    let median = |read: &mut (dyn FnMut() -> Instant + Send), publish: &dyn Fn() -> Instant| {
        let mut delays: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(&mut *read);
                    let synced = publish();
                    waiting.join().unwrap().saturating_duration_since(synced)
                })
            })
            .collect();
        delays.sort();
        delays[ROUNDS / 2]
    };
    // After the append it looks, sees nothing that is durable, and goes to sleep again; the pause lets it.
    let pause = || std::thread::sleep(Duration::from_millis(5));
    let record = [7; 40];
    let mut found = Vec::new();
    let mut read = || {
        reader.read_until(&mut found, soon()).unwrap().unwrap();
        Instant::now()
    };
    let publish = || {
        let at = one.append(&record).unwrap();
        pause();
        one.sync(at.end).unwrap();
        Instant::now()
    };
    let of_one = median(&mut read, &publish);
    let mut found = Vec::new();
    let mut read = || {
        rotating.read_until(&mut found, soon()).unwrap().unwrap();
        Instant::now()
    };
    let publish = || {
        let at = many.append(&record).unwrap();
        pause();
        many.sync(at.end).unwrap();
        Instant::now()
    };
    let of_many = median(&mut read, &publish);
    let limit = SLICE / 2;
    assert!(of_one < limit && of_many < limit, "{of_one:?}, {of_many:?}");
}

// The plainest use: a record that another process has appended and synced is read as it was, live, and again later.
#[test]
fn one_process_appends_and_another_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain");
    let journal = Journal::create(path.as_path(), 1 << 17).unwrap();
    let records: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; usize::from(n) * 3]).collect();
    let writer = Child::run(|| {
        let journal = Journal::open(path.as_path()).unwrap();
        for record in &records {
            let at = journal.append(record).unwrap();
            journal.sync(at.end).unwrap();
            assert!(journal.durable_position() >= at.end);
        }
    });
    let mut reader = journal.reader_from(0).unwrap();
    let (mut found, mut middle) = (Vec::new(), 0);
    for record in &records {
        let at = reader.read_until(&mut found, soon()).unwrap();
        assert_eq!(&found, record, "{at:?}");
        if found.len() == 300 {
            middle = reader.position();
        }
    }
    writer.join();
    assert_eq!(reader.try_read(&mut found).unwrap(), None);
    drop((reader, journal));
    let journal = Journal::open(path.as_path()).unwrap();
    let mut reader = journal.reader_from(middle).unwrap().durable_only();
    for record in &records[101..] {
        reader.try_read(&mut found).unwrap().expect("a record");
        assert_eq!(&found, record);
    }
    assert_eq!(journal.durable_position(), journal.end());
}

// A full journal must say so and lose nothing; space that was trimmed must be used again, over many laps and seams.
#[test]
fn a_full_journal_refuses_until_it_is_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path().join("full"), 8192).unwrap();
    let mut reader = journal.reader_from(0).unwrap();
    let (mut next, mut expected, mut found) = (0_u64, 0_u64, Vec::new());
    let record = |n: u64| n.to_ne_bytes().repeat(1 + (n % 37) as usize);
    for _ in 0..40 {
        loop {
            match journal.append(&record(next)) {
                Ok(_) => next += 1,
                Err(JournalError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let (before, first) = (journal.start(), expected);
        while reader.try_read(&mut found).unwrap().is_some() {
            assert_eq!(found, record(expected));
            expected += 1;
            if expected == first + 1 {
                assert_eq!(journal.trim(reader.position()).unwrap(), before);
            }
        }
        assert_eq!(expected, next);
        assert_eq!(journal.trim(reader.position()).unwrap(), reader.position());
        assert!(journal.durable_position() >= reader.position());
    }
    assert!(next > 400 && journal.end() > 30 * 8192);
    assert!(matches!(
        journal.reader_from(0),
        Err(JournalError::Trimmed { start }) if start == journal.start()
    ));
    let beyond = journal.end() + 8192;
    assert!(matches!(
        journal.reader_from(beyond),
        Err(JournalError::Beyond { .. })
    ));
    assert!(matches!(
        journal.sync(beyond),
        Err(JournalError::Beyond { .. })
    ));
    let long = vec![0; 4096];
    assert!(matches!(
        journal.append(&long),
        Err(JournalError::TooLong {
            len: 4096,
            max: 3576
        })
    ));
    journal.append(&long[..3576]).unwrap();
}

// A position that no record begins at must be an error, and never a record made of payload bytes.
#[test]
fn a_position_in_the_middle_of_a_record_is_refused() {
    let journal = Journal::create(Place::Memfd("journal".into()), 4096).unwrap();
    let at = journal.append(&[2; 64]).unwrap();
    assert!(matches!(
        journal.reader_from(at.start + 16),
        Err(JournalError::Corrupt(16))
    ));
    let mut reader = journal.reader_from(at.start + 64).unwrap();
    assert!(matches!(
        reader.try_read(&mut Vec::new()),
        Err(JournalError::Corrupt(64))
    ));
}

/// Appends and syncs for ever; notes in the ledger which record is attempted, and which one is durable.
fn work(path: &Path, worker: usize, ledger: &Words) {
    let journal = Journal::open(path).expect("open");
    let (attempted, durable) = (ledger.at(2 * worker), ledger.at(2 * worker + 1));
    let mut number = attempted.load(Acquire) + 1;
    loop {
        attempted.store(number, Release);
        let record = [worker as u64, number].map(u64::to_ne_bytes).concat();
        let record = record.repeat(1 + (number % 20) as usize);
        let at = loop {
            match journal.append(&record) {
                Ok(at) => break at,
                Err(JournalError::Full) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        // Some are left to the next sync, of whomever.
        if number % 3 != 0 {
            journal.sync(at.end).expect("sync");
            durable.store(number, Release);
        }
        number += 1;
    }
}

// A place that a killed appender leaves must not hold up anybody, nor a lock that it held; nothing durable may be lost,
// nothing appear twice, and nobody's records change their order.
#[test]
fn what_was_synced_survives_kills_of_any_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kills");
    let journal = Journal::create(path.as_path(), 1 << 15).unwrap();
    const WORKERS: usize = 4;
    let ledger = Words::new(2 * WORKERS);
    let mut random = Random::seeded();
    let start = |worker: usize| Child::run(|| work(&path, worker, &ledger));
    let mut workers: Vec<Option<Child>> = (0..WORKERS).map(start).map(Some).collect();
    let mut reader = journal.reader_from(0).unwrap();
    let (mut last, mut seen, mut kills, mut found) = ([0_u64; WORKERS], 0_u64, 0, Vec::new());
    // What was durable before a record was looked for, and is not seen yet.
    let mut read = |deadline: Instant, last: &mut [u64; WORKERS]| {
        let got = reader.read_until(&mut found, deadline).unwrap().is_some();
        if got {
            let word = |at: usize| u64::from_ne_bytes(found[at..at + 8].try_into().unwrap());
            let (worker, number) = (word(0) as usize, word(8));
            assert_eq!(found.len(), 16 * (1 + (number % 20) as usize));
            assert!(found.chunks(16).all(|piece| piece == &found[..16]));
            assert!(number > last[worker], "{number} after {}", last[worker]);
            assert!(number <= ledger.at(2 * worker).load(Acquire));
            last[worker] = number;
            seen += 1;
            if seen % 50 == 0 {
                journal.trim(reader.position()).unwrap();
            }
        }
        got
    };
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let pause = Duration::from_micros(random.below(10_000));
        let deadline = Instant::now() + pause;
        while Instant::now() < deadline {
            read(deadline, &mut last);
        }
        let worker = random.below(WORKERS as u64) as usize;
        workers[worker].take().into_iter().for_each(Child::kill);
        kills += 1;
        workers[worker] = Some(start(worker));
    }
    workers.into_iter().flatten().for_each(Child::kill);
    // What the last ones left is resolved by whoever waits for it.
    while read(Instant::now() + Duration::from_millis(200), &mut last) {}
    for (worker, last) in last.iter().enumerate() {
        let durable = ledger.at(2 * worker + 1).load(Acquire);
        assert!(
            *last >= durable,
            "{durable} of {worker} was synced and is not there"
        );
    }
    println!("{kills} kills, {seen} records, {} syncs", journal.syncs());
    assert!(kills > 20 && seen > 100, "{kills} kills, {seen} records");
    let at = journal.append(b"the last one").unwrap();
    journal.sync(at.end).unwrap();
}

// An inherited handle would append under the parent's name, and its death would not be noticed.
#[test]
fn a_forked_child_is_refused_and_joins_anew() {
    let journal = Journal::create(Place::Anonymous, 4096).unwrap();
    let child = Child::run(|| {
        assert!(matches!(journal.append(b"no"), Err(JournalError::Forked)));
        assert!(matches!(journal.sync(0), Err(JournalError::Forked)));
        journal.rejoin().unwrap().append(b"yes").unwrap();
    });
    child.join();
    let mut record = Vec::new();
    let mut reader = journal.reader_from(0).unwrap();
    reader.try_read(&mut record).unwrap();
    assert_eq!(record, b"yes");
}

// Rubbish anywhere in the object must give errors: a panic, a record that nobody wrote, or a walk without end would be found
// here.
#[test]
fn f31_hostile_words_end_every_call() {
    let mut random = Random::seeded();
    let (mut errors, mut found) = (0, Vec::new());
    for _ in 0..300 {
        let journal = Journal::create(Place::Memfd("journal".into()), 4096).unwrap();
        for n in 0..random.below(40) {
            let _ = journal.append(&vec![n as u8; random.below(200) as usize]);
        }
        let object = journal.segment().object("journal").unwrap();
        for _ in 0..1 + random.below(4) {
            // The events aside, whose words are their own.
            let at = match random.below(3) {
                0 => [0, 256, 264, 272, 296][random.below(5) as usize],
                1 => 384 + random.below(32) * 8,
                _ => 1024 + random.below(512) * 8,
            };
            let word = object.area().word64(at as usize).unwrap();
            let value = match random.below(3) {
                0 => random.below(u64::MAX),
                1 => word.load(Acquire) ^ 1 << random.below(64),
                _ => random.below(8192) * 16,
            };
            word.store(value, Release);
        }
        let start = Instant::now();
        let own = Duration::from_millis(5);
        errors += usize::from(journal.append(b"one more").is_err());
        if let Ok(mut reader) = journal.reader_from(journal.start()) {
            for _ in 0..300 {
                match reader.try_read(&mut found) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        errors += 1;
                        break;
                    }
                }
            }
            let _ = reader.read_until(&mut found, Instant::now() + own);
        }
        let log = ipc_ring::journal::protocol::Log::new(object.area(), 4096, 64, 1 << 20, false);
        let log = log.unwrap();
        let ask = |dead| log.recover(dead);
        errors += usize::from(log.sync(journal.end(), own, &ask).is_err());
        errors += usize::from(log.trim(journal.end(), own, &ask).is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(errors > 50, "{errors} errors: the rubbish was not met");
}

/// Appends a second with so many writers for a while.
fn rate(journal: &Journal, writers: usize, each: impl Fn(&Journal) + Sync) -> f64 {
    let (start, time) = (Instant::now(), Duration::from_millis(500));
    let count = std::thread::scope(|scope| {
        let writer = || {
            let mut count = 0_u64;
            while start.elapsed() < time {
                each(journal);
                count += 1;
            }
            count
        };
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(writer)).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum::<u64>()
    });
    count as f64 / start.elapsed().as_secs_f64()
}

// Group commit: 8 writers that each wait for the disk must not pay 8 times.
#[test]
fn many_callers_share_one_msync() {
    let directory = tempfile::tempdir().unwrap();
    let create = |name: &str| Journal::create(directory.path().join(name), 1 << 26).unwrap();
    let (alone, shared) = (create("alone"), create("shared"));
    let record = [7; 64];
    let turn = std::sync::Mutex::new(());
    let append = |journal: &Journal| {
        let at = journal.append(&record).unwrap();
        journal.sync(at.end).unwrap();
    };
    // In turns, since the disk is not alone with us; the best of each.
    let (mut single, mut one_each, mut together) = (0_f64, 0_f64, 0_f64);
    for _ in 0..3 {
        single = single.max(rate(&alone, 1, append));
        let in_turn = |journal: &Journal| {
            let _mine = turn.lock().unwrap();
            append(journal);
        };
        one_each = one_each.max(rate(&alone, 8, in_turn));
        together = together.max(rate(&shared, 8, append));
    }
    let appends = shared.end() / 128;
    println!(
        "one msync of a dirty page: {:.0} us; appends a second by 8 writers: {one_each:.0} with one msync each, \
         {together:.0} with group commit ({:.1} appends a sync): {:.1} times",
        1e6 / single,
        appends as f64 / shared.syncs() as f64,
        together / one_each
    );
    assert_eq!(alone.end() / 128, alone.syncs());
    assert!(
        shared.syncs() * 2 < appends,
        "{} syncs for {appends} appends",
        shared.syncs()
    );
}
