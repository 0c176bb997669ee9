//! Commands that look at segments into which somebody has written rubbish.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_core::region::{Region, RegionSlice, SharedCell};
use ipc_core::segment::{HEADER_LEN, HEADER_PAGE, Place, SegmentOptions};
use ipc_core::sync::{Attach, Barrier, Latest, Mutex, RwLock, Semaphore, Sequence};
use ipc_ring::journal::Journal;
use ipc_ring::{Ring, broadcast, broadcast_bytes, bytes, channel, lanes, mpmc, spsc};
use ipc_tests::room::Room;

/// No command may take longer. They take some hundredths of a second.
const PATIENCE: Duration = Duration::from_secs(20);

type Pair = [u64; 2];

const OBJECTS: [&str; 16] = [
    "one",
    "many",
    "all",
    "all-bytes",
    "bytes",
    "lanes",
    "channel",
    "journal",
    "region",
    "slice",
    "mutex",
    "rwlock",
    "latest",
    "permits",
    "barrier",
    "sequence",
];

/// Those that have something to follow.
const FOLLOWED: [&str; 9] = [
    "one",
    "many",
    "all",
    "all-bytes",
    "bytes",
    "lanes",
    "channel",
    "journal",
    "latest",
];

/// Where in an entry of the directory the two parameters are.
const PARAMETERS: usize = 112;

/// A segment with an object of every kind.
fn create(path: &Path) {
    let spec = |kind: &str| match kind {
        "one" => spsc::Ring::<Pair>::spec(8),
        "many" => mpmc::Ring::<Pair>::spec(8),
        "all" => broadcast::Ring::<Pair>::spec(8),
        "all-bytes" => broadcast_bytes::Ring::spec(1024),
        "bytes" => bytes::Ring::spec(1024),
        "lanes" => lanes::Ring::spec(1024),
        "channel" => channel::Ring::<String>::spec(1024),
        "journal" => Journal::spec(4096, 8, false),
        "region" => Ok(Region::<SharedCell<Pair>>::spec()),
        "slice" => RegionSlice::<Pair>::spec(5),
        "mutex" => Mutex::<SharedCell<Pair>>::spec(()),
        "rwlock" => RwLock::<SharedCell<Pair>>::spec(8),
        "latest" => Latest::<Pair>::spec(()),
        "permits" => Semaphore::spec(3),
        "barrier" => Barrier::spec(3),
        _ => Sequence::spec(3),
    };
    let mut options = SegmentOptions::new().participants(8);
    for name in OBJECTS {
        options = options.object(name, spec(name).expect("a size"));
    }
    options
        .create(Place::Path(path.to_owned()))
        .expect("a segment");
}

/// xorshift, so that a seed tells everything.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A number as attackers like them: any, small, or near a limit.
    fn word(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() % 64,
            2 => u64::MAX - self.next() % 64,
            _ => 1 << self.below(64),
        }
    }
}

/// The checksum that header and directory carry: CRC-32, as in zlib.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

/// Where directory and schema text end.
fn contents_end(segment: &[u8]) -> usize {
    let get = |at: usize| u32::from_ne_bytes(segment[at..at + 4].try_into().expect("four"));
    HEADER_PAGE + (get(176) as usize * 128).saturating_add(get(180) as usize)
}

/// Makes the checksums right again: rubbish of somebody who knows the format.
fn sign(segment: &mut [u8]) {
    let end = contents_end(segment).min(segment.len());
    let sum = crc(&segment[HEADER_PAGE..end]);
    segment[20..24].copy_from_slice(&sum.to_ne_bytes());
    segment[16..20].fill(0);
    let sum = crc(&segment[..HEADER_LEN]);
    segment[16..20].copy_from_slice(&sum.to_ne_bytes());
}

/// Runs a command; fails if it panics, ends by a signal or does not end. Whether it succeeded.
fn must_end_well(room: &Room, arguments: &[&str], story: &str) -> bool {
    let mut command: Command = room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments);
    command.stdout(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
            panic!("{story}: {arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut err = String::new();
    let mut pipe = child.stderr.take().expect("a pipe");
    std::io::Read::read_to_string(&mut pipe, &mut err).expect("text");
    assert!(
        status.code().is_some_and(|code| code <= 4) && !err.contains("panicked"),
        "{story}: {arguments:?} ended as {status:?}: {err}"
    );
    status.success()
}

/// Every command that looks. Whether the segment could be opened.
fn look_in_every_way(room: &Room, story: &str) -> bool {
    let opened = must_end_well(room, &["inspect", "x", "--schema"], story);
    for arguments in [
        &["ls"][..],
        &["inspect", "x", "--fields", "--json"],
        &["top", "x", "-n", "1"],
        &["doctor", "--watch", "0"],
    ] {
        must_end_well(room, arguments, story);
    }
    let to_end = ["-n", "100", "--no-follow"];
    for object in FOLLOWED {
        let tail = ["tail", "x", "--object", object];
        must_end_well(room, &[&tail[..], &to_end].concat(), story);
    }
    let record = ["record", "x", "-", "--object", "many"];
    must_end_well(room, &[&record[..], &to_end].concat(), story);
    opened
}

// Would catch an index, a length or a count from shared memory that a command believes: it would panic, run for ever, or
// end by a signal.
#[test]
fn rubbish_in_a_segment_harms_no_command() {
    let room = Room::new();
    let path = room.path().join("x");
    create(&path);
    let good = fs::read(&path).expect("a file");
    let file = File::options().write(true).open(&path).expect("a file");
    let (directory_end, contents_end) = (HEADER_PAGE + 128 * OBJECTS.len(), contents_end(&good));
    let mut opened = 0;
    for seed in 1..=24 {
        let story = format!("seed {seed}");
        let mut random = Random(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let mut bad = good.clone();
        // The header; the directory; what is behind it: participants and objects; the same, and what the directory says
        // of a few objects.
        let (from, to, count) = match seed % 4 {
            0 => (0, HEADER_LEN, 3),
            1 => (HEADER_PAGE, directory_end, 6),
            _ => (contents_end.next_multiple_of(8), bad.len(), bad.len() / 32),
        };
        for _ in 0..count {
            let at = from + 8 * random.below((to - from) / 8);
            bad[at..at + 8].copy_from_slice(&random.word().to_ne_bytes());
        }
        if seed % 4 == 3 {
            for _ in 0..4 {
                let at = HEADER_PAGE + 128 * random.below(OBJECTS.len()) + PARAMETERS;
                let at = at + 8 * random.below(2);
                bad[at..at + 8].copy_from_slice(&random.word().to_ne_bytes());
            }
        }
        // Else it is rubbish that the checksums tell.
        if seed % 8 != 0 {
            sign(&mut bad);
        }
        // In place, so that it stays the file that it was made in.
        file.write_all_at(&bad, 0).expect("room");
        opened += u32::from(look_in_every_way(&room, &story));
        if seed % 4 == 2 {
            must_end_well(&room, &["doctor", "--fix", "x"], &story);
        }
    }
    assert!(
        opened >= 12,
        "only {opened} of 24 got as far as the objects"
    );
}

// Would catch two looks at the same word that are expected to agree, although somebody writes to it all the time.
#[test]
fn rubbish_that_changes_all_the_time_harms_no_command() {
    let room = Room::new();
    let path = room.path().join("x");
    create(&path);
    let good = fs::read(&path).expect("a file");
    let (behind, len) = (
        contents_end(&good).next_multiple_of(8) as u64,
        good.len() as u64,
    );
    let file = File::options().write(true).open(&path).expect("a file");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            while !stop.load(Relaxed) {
                let at = behind + 8 * (random.next() % ((len - behind) / 8));
                file.write_all_at(&random.word().to_ne_bytes(), at)
                    .expect("room");
                if random.below(64) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let begun = Instant::now();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while begun.elapsed() < Duration::from_secs(3) {
                assert!(look_in_every_way(&room, "live"), "it cannot be opened");
            }
        }));
        stop.store(true, Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

// Would catch a command that dies with the file that it looks at: one cut short while it is mapped.
#[test]
fn a_segment_that_is_cut_short_ends_a_command_with_an_error() {
    let room = Room::new();
    let path = room.path().join("x");
    create(&path);
    let mut follower: Command = room.command(
        env!("CARGO_BIN_EXE_ipc-under-test"),
        ["tail", "x", "--object", "one"],
    );
    let mut child = ipc_tests::room::Running::start(&mut follower);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.child().try_wait().expect("a child of ours").is_none());
    File::options()
        .write(true)
        .open(&path)
        .expect("a file")
        .set_len(4096)
        .expect("a length");
    let done = child.end();
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("cut short"), "{}", done.err);
}
