//! A machine that restarts under a ring on a disk.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ipc_core::region::Region;
use ipc_core::segment::Place;
use ipc_ring::Ring as _;
use ipc_ring::broadcast::Start;
use ipc_ring::{ClaimError, broadcast, broadcast_bytes};
use ipc_tests::adapters::{KINDS, Message, message, number};
use ipc_tests::child::Child;
use ipc_tests::peers::eventually;
use tempfile::TempDir;

/// A directory that outlives the machine: not one in memory. Says why if there is none.
fn on_a_disk() -> Option<TempDir> {
    const TMPFS: i64 = 0x0102_1994;
    let places = [
        std::env::temp_dir(),
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    ];
    let on_disk = |place: &&PathBuf| rustix::fs::statfs(*place).is_ok_and(|fs| fs.f_type != TMPFS);
    let place = places.iter().find(on_disk);
    if place.is_none() {
        println!("skipped: {places:?} are in memory");
    }
    tempfile::tempdir_in(place?).ok()
}

/// The checksum of `docs/layout.md`.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    };
    !bytes.iter().fold(!0, step)
}

/// Makes all that is recorded of processes in the image of a segment that of another boot.
fn of_another_boot(image: &mut [u8]) {
    let word = |image: &[u8], at: usize| u64::from_ne_bytes(image[at..at + 8].try_into().unwrap());
    let (creator, table) = (144, word(image, 168) as usize);
    let rows = u32::from_ne_bytes(image[184..188].try_into().unwrap()) as usize;
    let boots = (0..rows).map(|row| table + 128 * row + 40);
    for at in std::iter::once(creator).chain(boots) {
        let boot = word(image, at);
        if boot != 0 {
            image[at..at + 8].copy_from_slice(&(!boot).to_ne_bytes());
        }
    }
    image[16..20].fill(0);
    let crc = crc32(&image[..256]);
    image[16..20].copy_from_slice(&crc.to_ne_bytes());
}

/// What the machine left in the file when it stopped: what was synced last, by processes of a boot that is over.
fn restart(path: &Path, mut synced: Vec<u8>) {
    of_another_boot(&mut synced);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&synced, 0).unwrap();
    file.sync_all().unwrap();
}

/// Runs `before` in another process up to a sync, takes what is in the file then, lets it run `after`, and kills it.
fn interrupt<T>(path: &Path, before: impl FnOnce() -> T, after: impl FnOnce(&mut T)) -> Vec<u8> {
    let turn = Region::<[AtomicU64; 1]>::create(Place::Anonymous).unwrap();
    let child = Child::run(|| {
        let turn = turn.rejoin().unwrap();
        let mut state = before();
        turn[0].store(1, SeqCst);
        eventually("the image is taken", || turn[0].load(SeqCst) == 2);
        after(&mut state);
        turn[0].store(3, SeqCst);
        std::thread::sleep(Duration::from_secs(60));
    });
    eventually("the ring is synced", || turn[0].load(SeqCst) == 1);
    let synced = std::fs::read(path).unwrap();
    turn[0].store(2, SeqCst);
    eventually("more has happened", || turn[0].load(SeqCst) == 3);
    child.kill();
    synced
}

#[test]
fn a_ring_on_a_disk_goes_on_after_the_machine_has_restarted() {
    // Catches an owner of another boot that is taken for alive, what was synced and is lost, and a ring that cannot be used
    // with what the machine stopped in the middle of.
    let Some(directory) = on_a_disk() else { return };
    for kind in KINDS {
        let path = directory.path().join(kind.name);
        drop((kind.create)(Place::Path(path.clone()), 8).unwrap());
        let open = || (kind.open)(Place::Path(path.clone())).unwrap();
        let before = || {
            let ring = open();
            let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
            producer.push_slice(&[0, 1, 2, 3]).unwrap();
            assert_eq!(consumer.pop(), Ok(0));
            producer.reserve_and_forget().unwrap();
            ring.segment().sync().unwrap();
            (ring, producer, consumer)
        };
        let synced = interrupt(&path, before, |(_, producer, consumer)| {
            producer.push(4).unwrap();
            assert_eq!(consumer.pop(), Ok(1));
        });
        restart(&path, synced);
        let start = Instant::now();
        let ring = open();
        let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
        println!("{}: both ends after {:?}", kind.name, start.elapsed());
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "the dead held it up"
        );
        let deadline = Instant::now() + Duration::from_secs(10);
        if kind.keeps {
            for expected in 1..4 {
                assert_eq!(consumer.pop_until(deadline), Ok(expected), "{}", kind.name);
            }
        }
        for number in 10..40 {
            producer.push_until(number, deadline).unwrap();
            assert_eq!(consumer.pop_until(deadline), Ok(number), "{}", kind.name);
        }
        producer.close();
    }
}

/// Restarts the machine under a lossless reader of a ring that is there: its successor goes on where it stopped.
fn a_reader_goes_on<R: ipc_ring::Ring>(
    path: &Path,
    lossless: fn(&R, Start) -> Result<R::Consumer, ClaimError>,
    push: fn(&mut R::Producer, u64, Instant),
    pop: fn(&mut R::Consumer, Instant) -> u64,
) {
    let open = || R::open(path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = || {
        let ring = open();
        let mut producer = ring.producer().unwrap();
        let mut reader = lossless(&ring, Start::Newest).unwrap();
        for number in 0..6 {
            push(&mut producer, number, deadline);
        }
        assert_eq!(pop(&mut reader, deadline), 0);
        ring.segment().sync().unwrap();
        (producer, reader)
    };
    let synced = interrupt(path, before, |(producer, reader)| {
        assert_eq!(pop(reader, deadline), 1);
        push(producer, 6, deadline);
    });
    restart(path, synced);
    let ring = open();
    let mut successor = lossless(&ring, Start::Successor).unwrap();
    let mut producer = ring.producer().unwrap();
    for expected in 1..6 {
        assert_eq!(pop(&mut successor, deadline), expected);
    }
    for pushed in 6..40 {
        push(&mut producer, pushed, deadline);
        assert_eq!(pop(&mut successor, deadline), pushed);
    }
}

#[test]
fn a_reader_of_a_broadcast_goes_on_after_the_machine_has_restarted() {
    // Catches a lossless reader of another boot that the producer waits for, and one whose successor starts elsewhere.
    let Some(directory) = on_a_disk() else { return };
    let path = directory.path().join("messages");
    let options = broadcast::Ring::<Message>::options().capacity(8);
    drop(options.create(path.clone()).unwrap());
    a_reader_goes_on::<broadcast::Ring<Message>>(
        &path,
        broadcast::Ring::lossless,
        |producer, pushed, deadline| producer.push_until(message(pushed), deadline).unwrap(),
        |reader, deadline| number(&reader.pop_until(deadline).unwrap()),
    );
    let path = directory.path().join("bytes");
    let options = broadcast_bytes::Ring::options().capacity(512);
    drop(options.create(path.clone()).unwrap());
    a_reader_goes_on::<broadcast_bytes::Ring>(
        &path,
        broadcast_bytes::Ring::lossless,
        |producer, pushed, deadline| {
            let record = message(pushed).map(u64::to_ne_bytes).concat();
            producer.push_until(&record, deadline).unwrap();
        },
        |reader, deadline| {
            let mut found = [0; size_of::<Message>()];
            let count = reader.pop_into_until(&mut found, deadline).unwrap();
            assert_eq!(count, found.len());
            number(&bytemuck::must_cast(found))
        },
    );
}
