//! Peers that write rubbish, and those that mean harm: nobody crashes, panics or hangs.
//!
//! The long form: `IPC_TEST_HOSTILE=100000000 cargo test --release -p ipc-tests --test segments hostile` makes so many
//! operations against each mutator; without the variable each runs for part of a second.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_core::MapOptions;
use ipc_core::layout::Schema;
use ipc_core::region::{Region, RegionSlice, RegionView};
use ipc_core::segment::{Segment, SegmentError, SegmentOptions, SegmentView, parse};
use rustix::fs::{FallocateFlags, fallocate};

use crate::drawing::crc32;
use crate::support::{Killed, child, scratch, small, word_spec};

const PAGE: u64 = 4096;

fn writable(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// A segment with something of everything.
fn options() -> SegmentOptions {
    small()
        .object("values", RegionSlice::<u32>::spec(5000).unwrap())
        .object("last", word_spec())
}

#[test]
fn f14_a_file_that_is_cut_short_is_an_error_and_no_signal() {
    // Catches SIGBUS from any operation of a segment or a region when somebody shrinks the file meanwhile.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = options().create(path.as_path()).unwrap();
    let len = segment.header().total_len;
    let word = Region::<AtomicU64>::in_segment(&segment, "word").unwrap();
    let values = RegionSlice::<u32>::in_segment(&segment, "values").unwrap();
    let view = Segment::open_read_only(path.as_path()).unwrap();
    let word_view = RegionView::<AtomicU64>::in_segment(&view, "word").unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = writable(&path);
            let mut cut = 0;
            while !end.load(Relaxed) {
                file.set_len(cut).unwrap();
                file.set_len(len).unwrap();
                cut = (cut + PAGE) % len;
            }
        });
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut all = vec![0; values.len()];
        while Instant::now() < deadline {
            word.fetch_add(1, Relaxed);
            values.write(0, &[7; 5000]);
            values.read(0, &mut all);
            word_view.load(Relaxed);
            word_view.copy();
            let _ = segment.sync();
            let _ = segment.participant();
            for id in segment.participants() {
                segment.life(id);
                view.life(id);
                segment.recover(id);
            }
            let _ = Segment::open(path.as_path()).map(|segment| segment.check());
        }
        end.store(true, Relaxed);
    });
    assert!(
        matches!(segment.check(), Err(SegmentError::CutShort)),
        "{:?}",
        segment.check()
    );
    assert!(
        matches!(segment.sync(), Err(SegmentError::CutShort)),
        "{:?}",
        segment.sync()
    );
}

#[test]
fn f15_a_hole_that_is_punched_reads_as_zeros() {
    // Catches an operation that takes it for impossible that a word it knows becomes zero.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = options().create(path.as_path()).unwrap();
    let len = segment.header().total_len;
    let word = Region::<AtomicU64>::in_segment(&segment, "word").unwrap();
    let values = RegionSlice::<u32>::in_segment(&segment, "values").unwrap();
    segment.participant().unwrap();
    let file = writable(&path);
    for at in (0..len).step_by(PAGE as usize) {
        values.write(0, &[7; 5000]);
        word.store(7, Relaxed);
        fallocate(
            &file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            at,
            PAGE,
        )
        .unwrap();
        assert!(matches!(word.load(Relaxed), 0 | 7));
        assert!(values.to_vec().iter().all(|value| matches!(value, 0 | 7)));
        for id in segment.participants() {
            segment.life(id);
        }
        segment.sync().unwrap();
        segment.check().unwrap();
        assert!(
            at != 0 || Segment::open(path.as_path()).is_err(),
            "there is no header any more"
        );
    }
}

/// What the mutator writes to.
const TARGETS: [&str; 4] = ["everything", "all-but-the-header", "participants", "header"];

#[test]
fn f31_random_bytes_at_full_speed_stop_nobody() {
    // Catches a panic, a signal, or a loop without an end that the bytes of a peer can lead to.
    let operations = std::env::var("IPC_TEST_HOSTILE").unwrap_or_default();
    for target in TARGETS {
        let place = scratch();
        let path = place.path().join(target);
        drop(options().create(path.as_path()).unwrap());
        let mut victim = child("victim", &path);
        victim
            .env("IPC_TEST_HOSTILE", &operations)
            .stderr(Stdio::piped());
        let mut victim = Killed(victim.spawn().unwrap());
        let mut errors = BufReader::new(victim.0.stderr.take().unwrap());
        let mut said = String::new();
        // It has opened the segment while that was whole.
        errors.read_line(&mut said).unwrap();
        let _mutator = Killed(child("mutator", &path).spawn().unwrap());
        said.clear();
        errors.read_to_string(&mut said).unwrap();
        let status = victim.0.wait().unwrap();
        assert!(status.success(), "{target}: {status}\n{said}");
        println!("{target}: {}", said.trim());
    }
}

/// Writes random bytes for ever, to the part that the last part of the path names.
pub fn mutator(path: &Path) {
    let file = writable(path);
    let (header, _) = parse(&std::fs::read(path).unwrap()).unwrap();
    let table = header.participants_offset
        ..header.participants_offset + 128 * u64::from(header.participants);
    let range = match path.file_name().unwrap().to_str().unwrap() {
        "everything" => 0..header.total_len,
        "all-but-the-header" => 256..header.total_len,
        "participants" => table,
        "header" => 0..table.start,
        other => panic!("{other}"),
    };
    let mapping = MapOptions::new()
        .len(header.total_len as usize)
        .map_file(&file)
        .unwrap();
    let whole = mapping.to_vec(..).unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for turn in 0_u64.. {
        // Xorshift, by Marsaglia.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let len = (random >> 48) % 16 + 1;
        let at = range.start + (random >> 8) % (range.end - range.start - len);
        mapping
            .write_at(at as usize, &random.to_ne_bytes()[..(len as usize).min(8)])
            .unwrap();
        if turn % 4096 == 0 && range.start == 0 {
            // Now and then the header is whole again, so that there is something to open.
            mapping
                .write_at(0, &whole[..range.end.min(1 << 14) as usize])
                .unwrap();
        }
    }
}

/// Does all that can be done with a segment, over and over. Panics if a round takes longer than it may.
pub fn victim(path: &Path) {
    const LONGEST: Duration = Duration::from_secs(5);
    let operations = std::env::var("IPC_TEST_HOSTILE")
        .ok()
        .and_then(|number| number.parse::<u64>().ok());
    let held = Held::open(path).unwrap();
    held.segment.participant().unwrap();
    eprintln!("open");
    let deadline = Instant::now() + Duration::from_millis(600);
    let ended = |done: u64| {
        operations.map_or_else(
            || Instant::now() >= deadline,
            |operations| done >= operations,
        )
    };
    let (mut done, mut opened, mut refused, mut longest) = (0, 0_u64, 0_u64, Duration::ZERO);
    while !ended(done) {
        let start = Instant::now();
        done += held.round();
        match Held::open(path) {
            Ok(held) => {
                done += held.round();
                opened += 1;
            }
            Err(_) => refused += 1,
        }
        longest = longest.max(start.elapsed());
        assert!(longest < LONGEST, "a round took {longest:?}");
    }
    eprintln!(
        "{done} operations, opened {opened} times, refused {refused} times, the longest round {longest:?}"
    );
    std::process::exit(0);
}

/// A segment that was opened once, and what is in it.
struct Held {
    segment: Segment,
    view: SegmentView,
    word: Region<AtomicU64>,
    values: RegionSlice<u32>,
    last: RegionView<AtomicU64>,
}

impl Held {
    fn open(path: &Path) -> Result<Self, SegmentError> {
        let segment = Segment::open(path)?;
        let view = Segment::open_read_only(path)?;
        for entry in segment.entries() {
            let _ = Schema::parse(&entry.schema);
        }
        Ok(Self {
            word: Region::in_segment(&segment, "word")?,
            values: RegionSlice::in_segment(&segment, "values")?,
            last: RegionView::in_segment(&view, "last")?,
            segment,
            view,
        })
    }

    /// Tells how many operations it made.
    fn round(&self) -> u64 {
        let Self {
            segment,
            view,
            word,
            values,
            last,
        } = self;
        let mut done = 0;
        let mut some = [0; 100];
        for turn in 0..500 {
            word.fetch_add(1, Relaxed);
            word.compare_exchange(turn, turn + 1, Relaxed, Relaxed)
                .unwrap_or_default();
            values.write(turn as usize, &some);
            values.read(turn as usize, &mut some);
            values[0].set(values[4999].get());
            last.load(Relaxed);
            last.copy();
            done += 7;
        }
        for id in segment.participants() {
            segment.life(id);
            view.life(id);
            segment.recover(id);
            done += 3;
        }
        // Joins anew and leaves again. The table may be full of what looks like the living.
        let again = segment.rejoin().unwrap();
        let _ = again.participant();
        let _ = segment.check();
        let _ = view.check();
        let _ = segment.sync();
        done + 5
    }
}

#[test]
fn f32_a_header_that_changes_while_it_is_read_is_never_half_believed() {
    // Catches a field that is fetched again after it was checked.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = options().create(path.as_path()).unwrap();
    let good = std::fs::read(&path).unwrap();
    // As good a header, but for a table of participants that is larger, and objects that lie elsewhere.
    let mut other = good.clone();
    other[184..188].copy_from_slice(&2_u32.to_ne_bytes());
    other[64..80].fill(0xEE);
    other[16..20].fill(0);
    let crc = crc32(&other[..256]);
    other[16..20].copy_from_slice(&crc.to_ne_bytes());
    let mapping = MapOptions::new().map_file(&writable(&path)).unwrap();
    let end = AtomicBool::new(false);
    let mut seen = [0_u32; 3];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Relaxed) {
                mapping.write_at(0, &other[..256]).unwrap();
                mapping.write_at(0, &good[..256]).unwrap();
            }
        });
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline {
            match Segment::open(path.as_path()) {
                Ok(opened) => {
                    let is_good = opened.header() == segment.header();
                    assert!(
                        is_good || opened.header().uuid == [0xEE; 16],
                        "a mixture: {:?}",
                        opened.header()
                    );
                    assert_eq!(opened.participants().count(), if is_good { 4 } else { 2 });
                    seen[usize::from(is_good)] += 1;
                }
                Err(SegmentError::Checksum { .. }) => seen[2] += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        end.store(true, Relaxed);
    });
    println!(
        "{} of the one, {} of the other, {} torn",
        seen[1], seen[0], seen[2]
    );
    assert!(seen[0] + seen[1] > 0, "{seen:?}");
}
