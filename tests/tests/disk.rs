//! Ids and journals on file systems of the kernel: with the power cut in mid-traffic, on a disk that fails, and on a full one.
//!
//! `IPC_TEST_CUTS=1000` asks for that many power cuts instead of the quick number.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::Mapped;
use ipc_core::ids::{Ids, IdsError};
use ipc_core::memory::Word64;
use ipc_core::segment::{Object, ObjectSpec, Place, SegmentOptions};
use ipc_ring::journal::rotating::RotatingJournal;
use ipc_ring::journal::{Journal, JournalError};
use ipc_tests::child::Child;
use ipc_tests::mount::Mount;
use ipc_tests::powercut::Random;

const WORKERS: usize = 3;

/// What is known of a worker: the highest id that it was given; then, for each journal, the record that it has attempted and the
/// one that it knows to be durable.
const WORDS: usize = 5;

struct Ledger(Object);

impl Ledger {
    fn new() -> Self {
        let spec = ObjectSpec {
            kind: *b"ledger\0\0",
            version: 1,
            len: WORKERS * WORDS * 8,
            schema: String::new(),
            parameters: [0; 2],
        };
        let options = SegmentOptions::new().object("ledger", spec);
        let segment = options.create(Place::Anonymous).unwrap();
        Self(segment.object("ledger").unwrap())
    }

    fn word(&self, worker: usize, word: usize) -> Word64<Mapped> {
        self.0.area().word64((worker * WORDS + word) * 8).unwrap()
    }

    /// The last record of each worker in each journal that is known to be durable.
    fn durable(&self) -> [[u64; WORKERS]; 2] {
        [0, 1].map(|journal| {
            std::array::from_fn(|worker| self.word(worker, 2 + 2 * journal).load(Acquire))
        })
    }

    /// Takes back what was told after `promised` was noted.
    fn forget_all_but(&self, promised: [[u64; WORKERS]; 2]) {
        for (journal, promised) in promised.iter().enumerate() {
            for (worker, promised) in promised.iter().enumerate() {
                self.word(worker, 2 + 2 * journal).store(*promised, Release);
            }
        }
    }
}

fn record(worker: usize, number: u64) -> Vec<u8> {
    let record = [worker as u64, number].map(u64::to_ne_bytes).concat();
    record.repeat(1 + (number % 30) as usize)
}

/// Checks a record that was read, against those of its worker before it.
fn check(record: &[u8], last: &mut [u64; WORKERS], ledger: &Ledger, journal: usize) {
    let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
    let (worker, number) = (word(0) as usize, word(8));
    assert_eq!(
        record,
        self::record(worker, number),
        "a record that nobody wrote"
    );
    assert!(number > last[worker], "{number} after {}", last[worker]);
    assert!(number <= ledger.word(worker, 1 + 2 * journal).load(Acquire));
    last[worker] = number;
}

/// Draws, appends and syncs until the disk is gone, and notes what was promised.
fn work(root: &Path, worker: usize, ledger: &Ledger) -> Option<()> {
    let ids = Ids::open(root.join("ids")).ok()?;
    let mut lease = ids.lease().ok()?;
    let plain = Journal::open(root.join("plain")).ok()?;
    let rotating = RotatingJournal::open(root.join("rotating")).ok()?;
    let word = |word| ledger.word(worker, word);
    loop {
        // So many at once that the mark moves often.
        let drawn = ids.take(300_000).ok()?;
        word(0).store(drawn.end - 1, Release);
        let leased = lease.next().ok()?;
        word(0).store(word(0).load(Relaxed).max(leased), Release);
        for journal in 0..2 {
            let number = word(1 + 2 * journal).load(Relaxed) + 1;
            word(1 + 2 * journal).store(number, Release);
            let record = record(worker, number);
            let end = if journal == 0 {
                let at = plain.append(&record).ok()?;
                plain.sync(at.end).ok()?;
                at.end
            } else {
                let at = rotating.append(&record).ok()?;
                rotating.sync(at.end).ok()?;
                at.end
            };
            assert!(end > 0);
            word(2 + 2 * journal).store(number, Release);
        }
    }
}

/// What the test has seen, from one cut to the next.
#[derive(Default)]
struct Seen {
    positions: [u64; 2],
    last: [[u64; WORKERS]; 2],
    lost: u64,
    records: u64,
}

impl Seen {
    /// Opens what a cut has left, reads on, and compares it with what was promised before it.
    fn verify(&mut self, root: &Path, ledger: &Ledger, promised: [[u64; WORKERS]; 2]) {
        let given = (0..WORKERS).map(|worker| ledger.word(worker, 0).load(Acquire));
        let given = given.max().unwrap();
        let next = Ids::open(root.join("ids")).unwrap().next().unwrap();
        assert!(next > given, "id {next} after {given}");

        let (mut found, [mut plain_last, mut rotating_last]) = (Vec::new(), self.last);
        let plain = Journal::open(root.join("plain")).unwrap();
        let mut reader = plain.reader_from(self.positions[0]).unwrap().durable_only();
        while reader.try_read(&mut found).unwrap().is_some() {
            check(&found, &mut plain_last, ledger, 0);
            self.records += 1;
        }
        // What is appended next is the next to be read: between the two there are places that were skipped, at most.
        let behind = plain.append(b"behind").unwrap();
        plain.sync(behind.end).unwrap();
        assert_eq!(reader.try_read(&mut found).unwrap(), Some(behind));
        assert_eq!(found, b"behind");
        self.positions[0] = reader.position();
        plain.trim(reader.position()).unwrap();

        let rotating = RotatingJournal::open(root.join("rotating")).unwrap();
        let reader = rotating.reader_from(self.positions[1]).unwrap();
        let mut reader = reader.durable_only();
        while reader.try_read(&mut found).unwrap().is_some() {
            check(&found, &mut rotating_last, ledger, 1);
            self.records += 1;
        }
        self.positions[1] = reader.position();
        rotating.trim(reader.position()).unwrap();

        self.last = [plain_last, rotating_last];
        for (journal, last) in self.last.iter().enumerate() {
            for (worker, last) in last.iter().enumerate() {
                let attempted = ledger.word(worker, 1 + 2 * journal).load(Acquire);
                let durable = promised[journal][worker];
                assert!(
                    *last >= durable,
                    "journal {journal}: record {durable} of {worker} was synced, and {last} is the last one there"
                );
                self.lost += attempted - last;
            }
        }
    }
}

fn cut_in_mid_traffic(mount: &Mount) {
    let cuts = std::env::var("IPC_TEST_CUTS").ok();
    let cuts = cuts.and_then(|cuts| cuts.parse().ok()).unwrap_or(12);
    let root = mount.path();
    drop(Ids::create(root.join("ids")).unwrap());
    drop(Journal::create(root.join("plain"), 1 << 20).unwrap());
    drop(RotatingJournal::open_or_create(root.join("rotating"), 4096).unwrap());
    let (ledger, mut seen, mut random) = (Ledger::new(), Seen::default(), Random::seeded());
    let (mut forgotten, mut syncs, mut late) = (0, 0, 0);
    for _ in 0..cuts {
        let start = |worker| {
            Child::run(|| {
                let _ = work(root, worker, &ledger);
            })
        };
        let workers: Vec<Child> = (0..WORKERS).map(start).collect();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        // What nobody syncs must be lost now and then, or the cut is none.
        fs::write(root.join("unsynced"), b"gone").unwrap();
        // A power cut ends the machine at once; the ioctl takes its time, and an msync that comes meanwhile can return success
        // for a block whose extent the file system no longer notes as written. That is nobody's promise any more, neither
        // after this cut nor after the next one.
        let promised = ledger.durable();
        mount.cut_the_power();
        workers.into_iter().for_each(Child::kill);
        late += u64::from(promised != ledger.durable());
        ledger.forget_all_but(promised);
        mount.remount();
        forgotten += usize::from(fs::read(root.join("unsynced")).unwrap_or_default() != b"gone");
        let _ = fs::remove_file(root.join("unsynced"));
        syncs = promised.as_flattened().iter().sum::<u64>();
        seen.verify(root, &ledger, promised);
    }
    println!(
        "{cuts} power cuts, {late} of them while somebody was told of a sync, {syncs} records known to be durable, {} read, {} attempted and lost, {} bytes in rotation",
        seen.records, seen.lost, seen.positions[1]
    );
    assert!(forgotten > 0, "the power was not cut");
    assert!(syncs > 0 && seen.positions[1] > 4096, "no traffic");
}

// A missing msync, one of the wrong range, or a missing fsync of the directory: the real kernel and its journal decide what is
// there afterwards.
#[test]
fn f22_what_was_promised_survives_power_cuts_on_ext4() {
    if let Some(mount) = Mount::ext4_with_a_journal() {
        cut_in_mid_traffic(&mount);
    }
}

#[test]
fn f22_what_was_promised_survives_power_cuts_on_xfs() {
    if let Some(mount) = Mount::xfs() {
        cut_in_mid_traffic(&mount);
    }
}

// A file that is used under a name that whoever gave it has not synced: after a power cut the promises are there, and nobody
// finds them.
#[test]
fn f22_a_name_that_its_giver_did_not_sync_is_synced_before_it_is_used() {
    let Some(mount) = Mount::ext4_with_a_journal() else {
        return;
    };
    let root = mount.path();
    drop(Journal::create(root.join("old"), 4096).unwrap());
    drop(Ids::create(root.join("old ids")).unwrap());
    mount.remount();
    for (old, new) in [("old", "new"), ("old ids", "new ids")] {
        fs::rename(root.join(old), root.join(new)).unwrap();
    }
    // The giver was killed here.
    drop(Journal::open(root.join("new")).unwrap());
    mount.cut_the_power();
    mount.remount();
    assert!(root.join("new").exists() && !root.join("old").exists());
    // As both were renamed, one sync has saved both; now the ids alone.
    fs::rename(root.join("new ids"), root.join("newer ids")).unwrap();
    drop(Ids::open(root.join("newer ids")).unwrap());
    mount.cut_the_power();
    mount.remount();
    assert!(root.join("newer ids").exists() && !root.join("new ids").exists());
}

// A failed write that a later call hides, or that other processes do not hear of; and a file that is lost for good with it.
#[test]
fn f21_a_disk_that_fails_fails_for_all_until_it_is_mounted_anew() {
    let Some(mount) = Mount::ext4_on_a_full_disk() else {
        return;
    };
    let root = mount.path();
    let journal = Journal::create(root.join("journal"), 1 << 23).unwrap();
    let ids = Ids::create(root.join("ids")).unwrap();
    let kept = journal.append(b"kept").unwrap();
    journal.sync(kept.end).unwrap();
    mount.fill_the_disk();
    // The loop device calls a request done of which it could write the first pages alone. So this is more than one request
    // takes: the second one begins where the disk has no page.
    let lost = journal.append(&vec![7; 3 << 20]).unwrap();
    let error = journal.sync(lost.end).unwrap_err();
    assert!(matches!(error, JournalError::Failed(Some(_))), "{error}");
    let error = ids.next().unwrap_err();
    assert!(matches!(error, IdsError::Failed(Some(_))), "{error}");
    mount.empty_the_disk();
    let check = || {
        let (journal, ids) = (
            Journal::open(root.join("journal")),
            Ids::open(root.join("ids")),
        );
        let (journal, ids) = (journal.unwrap(), ids.unwrap());
        assert!(matches!(
            journal.sync(lost.end),
            Err(JournalError::Failed(_))
        ));
        assert!(matches!(
            journal.append(b"no"),
            Err(JournalError::Failed(_))
        ));
        assert!(matches!(ids.next(), Err(IdsError::Failed(_))));
        assert_eq!(journal.durable_position(), kept.end);
    };
    check();
    Child::run(check).join();
    drop((journal, ids));
    mount.remount();
    let journal = Journal::open(root.join("journal")).unwrap();
    let mut record = Vec::new();
    let mut reader = journal.reader_from(0).unwrap();
    assert_eq!(reader.try_read(&mut record).unwrap(), Some(kept));
    assert_eq!(record, b"kept");
    let at = journal.append(b"anew").unwrap();
    journal.sync(at.end).unwrap();
    assert_eq!(Ids::open(root.join("ids")).unwrap().next().unwrap(), 1);
}

// A rotation on a full disk that leaves a file half made, loses what was there, or breaks the journal for good.
#[test]
fn f16_a_full_disk_stops_a_rotation_and_nothing_else() {
    let Some(mount) = Mount::tmpfs(1 << 20) else {
        return;
    };
    let path = mount.path().join("rotating");
    let journal = RotatingJournal::open_or_create(&path, 1 << 17).unwrap();
    let mut count = 0_u64;
    let error = loop {
        match journal.append(&count.to_ne_bytes().repeat(40)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("free"), "{error}");
    println!("{count} records, then: {error}");
    assert!(journal.append(b"no").is_err());
    let names = || {
        fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
    };
    assert!(names().all(|name| name == "head" || name.len() == 12));
    let end = journal.end().unwrap();
    journal.sync(end).unwrap();
    let (mut reader, mut record) = (journal.reader_from(0).unwrap(), Vec::new());
    for number in 0..count {
        reader.try_read(&mut record).unwrap().expect("a record");
        assert_eq!(record, number.to_ne_bytes().repeat(40));
    }
    // A file that somebody reads keeps its blocks for so long.
    drop(reader);
    assert!(journal.trim(end).unwrap() > 0);
    assert_eq!(journal.append(b"again").unwrap().start % (1 << 17), 0);
}

// Bytes that lie on private pages, since the file beneath them is gone, must not be called durable.
#[test]
fn f14_nothing_is_durable_in_a_file_that_was_cut_short() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("short");
    let journal = Journal::create(path.as_path(), 1 << 16).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(8192)
        .unwrap();
    let at = journal.append(&[7; 9000]).unwrap();
    let error = journal.sync(at.end).unwrap_err();
    assert!(matches!(error, JournalError::Failed(Some(_))), "{error}");

    let path = directory.path().join("ids");
    let ids = Ids::create(path.as_path()).unwrap();
    assert_eq!(ids.next().unwrap(), 1);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let error = ids.next().unwrap_err();
    assert!(matches!(error, IdsError::Failed(Some(_))), "{error}");
}
