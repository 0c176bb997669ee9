//! `ipc record` and `ipc replay`: a ring to a file and back.

use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};
use ipc_core::Layout;
use ipc_ring::journal::Journal;
use ipc_ring::{PopError, Ring, broadcast, broadcast_bytes, bytes, lanes, mpmc, spsc};
use ipc_tests::room::{Done, Room, Running, eventually, run};
use ipc_tests::shape::shape;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Layout, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    seq: u64,
    price: f64,
}

fn tick(seq: u64) -> Tick {
    Tick { seq, price: 0.5 }
}

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

/// Records what is in the ring `from`, into a file, and gives what the command told.
fn record(room: &Room, from: &str, file: &str) -> Value {
    let done = run(&mut ipc(
        room,
        &["record", from, file, "--no-follow", "--json"],
    ));
    assert_eq!((done.code, done.out.len()), (Some(0), 0), "{}", done.err);
    serde_json::from_str(&done.err).expect("one JSON object")
}

fn replay(room: &Room, arguments: &[&str]) -> Done {
    run(&mut ipc(room, &[&["replay"], arguments].concat()))
}

// Would catch a kind that cannot be recorded or replayed, and messages that come back otherwise than they went.
#[test]
fn what_is_recorded_comes_back() {
    let room = Room::new();
    let path = |name: &str| room.path().join(name);
    let file = path("recording");
    let file = file.to_str().expect("text");
    let ticks: Vec<Tick> = (0..5).map(tick).collect();

    let ring = spsc::Ring::<Tick>::options()
        .capacity(8)
        .create(path("one").as_path())
        .expect("a ring");
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    let told = record(&room, "one", file);
    assert_eq!(
        (&told["messages"], &told["bytes"], &told["missed"]),
        (&5.into(), &80.into(), &0.into())
    );
    insta::assert_json_snapshot!("record", shape(&told));
    // The ring is made like the one that was recorded.
    let done = replay(&room, &[file, "one-again", "--fast", "--close", "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let told: Value = serde_json::from_slice(&done.out).expect("one JSON object");
    insta::assert_json_snapshot!("replay", shape(&told));
    let ring = spsc::Ring::<Tick>::open(path("one-again").as_path()).expect("a ring");
    let mut consumer = ring.consumer().expect("a consumer");
    assert_eq!(consumer.drain().collect::<Vec<_>>(), ticks);
    assert_eq!(consumer.pop(), Err(PopError::Closed));
    fs::remove_file(file).expect("it is there");

    let ring = mpmc::Ring::<Tick>::options()
        .capacity(8)
        .create(path("many").as_path())
        .expect("a ring");
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    record(&room, "many", file);
    assert_eq!(replay(&room, &[file, "many-again", "--fast"]).code, Some(0));
    let ring = mpmc::Ring::<Tick>::open(path("many-again").as_path()).expect("a ring");
    assert_eq!(
        ring.consumer()
            .expect("a consumer")
            .drain()
            .collect::<Vec<_>>(),
        ticks
    );
    fs::remove_file(file).expect("it is there");

    let ring = broadcast::Ring::<Tick>::options()
        .capacity(8)
        .create(path("all").as_path())
        .expect("a ring");
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    record(&room, "all", file);
    assert_eq!(replay(&room, &[file, "all-again", "--fast"]).code, Some(0));
    let done = run(&mut ipc(&room, &["tail", "all-again", "--no-follow"]));
    assert_eq!(String::from_utf8_lossy(&done.out).lines().count(), 5);
    fs::remove_file(file).expect("it is there");

    let ring = bytes::Ring::options()
        .capacity(4096)
        .create(path("bytes").as_path())
        .expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    for len in [0, 1, 100, 2000] {
        producer.push(&vec![b'x'; len]).expect("room");
    }
    record(&room, "bytes", file);
    assert_eq!(
        replay(&room, &[file, "bytes-again", "--fast"]).code,
        Some(0)
    );
    let ring = bytes::Ring::open(path("bytes-again").as_path()).expect("a ring");
    let (mut consumer, mut record_) = (ring.consumer().expect("a consumer"), Vec::new());
    for len in [0, 1, 100, 2000] {
        assert_eq!(consumer.try_pop(&mut record_), Ok(len));
    }
    fs::remove_file(file).expect("it is there");

    let ring = lanes::Ring::options()
        .capacity(4096)
        .create(path("lanes").as_path())
        .expect("a ring");
    ring.producer()
        .expect("a producer")
        .push(b"hello")
        .expect("room");
    record(&room, "lanes", file);
    assert_eq!(
        replay(&room, &[file, "lanes-again", "--fast"]).code,
        Some(0)
    );
    let ring = lanes::Ring::open(path("lanes-again").as_path()).expect("a ring");
    assert_eq!(
        ring.consumer().expect("a consumer").try_pop(&mut record_),
        Ok(5)
    );
    fs::remove_file(file).expect("it is there");

    let ring = broadcast_bytes::Ring::options()
        .capacity(4096)
        .create(path("all-bytes").as_path())
        .expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    for record in [&b"hello"[..], b"", b"world"] {
        producer.push(record).expect("room");
    }
    record(&room, "all-bytes", file);
    assert_eq!(replay(&room, &[file, "again", "--fast"]).code, Some(0));
    let ring = broadcast_bytes::Ring::open(path("again").as_path()).expect("a ring");
    let reader = ring.lossy(broadcast_bytes::Start::Oldest);
    let mut reader = reader.expect("a reader");
    for len in [5, 0, 5] {
        assert_eq!(reader.try_pop(&mut record_), Ok(len));
    }
    assert_eq!(record_, b"world");
}

// Would catch a replay that does not keep to its rate, a full ring that loses messages, and a patience without end.
#[test]
fn the_rate_is_kept_and_a_full_ring_is_waited_for() {
    let room = Room::new();
    let file = room.path().join("recording");
    let file = file.to_str().expect("text");
    let ring = spsc::Ring::<Tick>::options()
        .capacity(64)
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let ticks: Vec<Tick> = (0..40).map(tick).collect();
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    record(&room, "x", file);

    let begun = Instant::now();
    let done = replay(&room, &[file, "y", "--rate", "100", "--json"]);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        seconds > 0.38,
        "{seconds} s for 40 messages at 100 a second"
    );

    let small = spsc::Ring::<Tick>::options()
        .capacity(16)
        .create(room.path().join("z").as_path())
        .expect("a ring");
    let done = replay(&room, &[file, "z", "--fast", "--timeout", "0.2"]);
    assert_eq!(done.code, Some(4));
    assert!(
        done.err.contains("\"z\" has been full for 200ms"),
        "{}",
        done.err
    );
    let mut consumer = small.consumer().expect("a consumer");
    assert_eq!(consumer.drain().count(), 16);
    let slow = Running::start(&mut ipc(&room, &["replay", file, "z", "--fast"]));
    let mut seen = Vec::new();
    eventually("all of them", || {
        seen.extend(consumer.drain());
        seen.len() == 40
    });
    assert_eq!(slow.end().code, Some(0));
    assert_eq!(seen, ticks);
}

// Would catch a recording that a Ctrl-C or a kill spoils, one that is written over, and files that are none.
#[test]
fn recordings_end_well_and_others_are_refused() {
    let room = Room::new();
    let file = room.path().join("recording");
    let name = file.to_str().expect("text");
    let ring = spsc::Ring::<Tick>::options()
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    let mut recorder = Running::start(&mut ipc(&room, &["record", "x", name]));
    producer
        .push_slice(&[tick(1), tick(2), tick(3)])
        .expect("room");
    eventually("a recording", || {
        fs::metadata(&file).is_ok_and(|file| file.len() > 3 * 32)
    });
    recorder.signal(Signal::INT);
    let done = recorder.end();
    assert_eq!(done.code, Some(0));
    assert!(done.err.contains("3 messages, 48 B"), "{}", done.err);

    let done = run(&mut ipc(&room, &["record", "x", name, "--no-follow"]));
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("choose another name, or remove it first"),
        "{}",
        done.err
    );

    // As a recorder leaves it that is killed in the middle of a write.
    let bytes = fs::read(&file).expect("it is there");
    fs::write(&file, &bytes[..bytes.len() - 5]).expect("room");
    let done = replay(&room, &[name, "y", "--fast"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("its recorder was killed"), "{}", done.err);
    assert!(done.err.contains("2 messages"), "{}", done.err);

    // A ring of another layout.
    mpmc::Ring::<u64>::options()
        .create(room.path().join("other").as_path())
        .expect("a ring");
    let done = replay(&room, &[name, "other"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("is of kind \"mpmc\", not \"spsc\""),
        "{}",
        done.err
    );

    fs::write(&file, "rubbish\n").expect("room");
    let done = replay(&room, &[name, "z"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("it is no recording"), "{}", done.err);
    assert!(!room.path().join("z").exists());

    // One made by a program of another time, or by hand.
    let head = String::from_utf8_lossy(&bytes).replace("\"version\":2", "\"version\":1");
    fs::write(
        &file,
        head.lines().next().expect("a line").to_owned() + "\n",
    )
    .expect("room");
    let done = replay(&room, &[name, "z"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("it is of version 1 of the kind \"spsc\""),
        "{}",
        done.err
    );
    assert!(!room.path().join("z").exists());
}

// Would catch a recorder that waits for the next message of an idle ring although nobody reads what it writes.
#[test]
fn a_recording_that_nobody_reads_any_more_ends() {
    let room = Room::new();
    let _ring = spsc::Ring::<Tick>::options()
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let mut recorder = Running::start(&mut ipc(&room, &["record", "x", "-"]));
    let mut out = recorder.child().stdout.take().expect("a pipe");
    let mut head = [0; 1];
    out.read_exact(&mut head).expect("the head comes at once");
    drop(out);
    let done = recorder.end();
    assert_eq!((done.code, &*done.err), (None, ""));
}

// Would catch a replay that only SIGKILL ends while its recording comes from a pipe, and nothing does.
#[test]
fn a_replay_that_waits_for_its_recording_can_be_interrupted() {
    let room = Room::new();
    let pipe = room.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a named pipe");
    for (file, opened) in [
        ("-", false),
        (pipe.to_str().expect("text"), false),
        (pipe.to_str().expect("text"), true),
    ] {
        // Held open for reading and writing by us, it is opened at once and gives nothing.
        let both = opened.then(|| fs::File::options().read(true).write(true).open(&pipe));
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let mut replay = Running::start(ipc(&room, &["replay", file, "x"]).stdin(reader));
        let pid = replay.pid();
        eventually("it sleeps", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") S ")
        });
        replay.signal(Signal::INT);
        let done = replay.end();
        assert_eq!((done.code, &*done.err), (None, ""), "{file}");
        drop(both);
    }
    assert_eq!(room.names(), ["pipe"]);
}

// Would catch a segment that stays behind, of no use to anybody, when the recording that it was made for is damaged.
#[test]
fn a_damaged_recording_leaves_nothing_behind() {
    let room = Room::new();
    let path = |name: &str| room.path().join(name);
    let file = path("recording");
    let name = file.to_str().expect("text");
    let ring = spsc::Ring::<Tick>::options().create(path("one").as_path());
    let mut producer = ring.as_ref().expect("a ring").producer().expect("an end");
    producer.push_slice(&[tick(1)]).expect("room");
    let ring = mpmc::Ring::<Tick>::options().create(path("many").as_path());
    let mut producer = ring.as_ref().expect("a ring").producer().expect("an end");
    producer.push_slice(&[tick(1)]).expect("room");
    let ring = broadcast::Ring::<Tick>::options().create(path("all").as_path());
    let mut producer = ring.as_ref().expect("a ring").producer().expect("an end");
    producer.push_slice(&[tick(1)]).expect("room");
    let ring = broadcast_bytes::Ring::options().create(path("all-bytes").as_path());
    let mut producer = ring.as_ref().expect("a ring").producer().expect("an end");
    producer.push(b"hello").expect("room");
    let ring = lanes::Ring::options().create(path("lanes").as_path());
    let mut producer = ring.as_ref().expect("a ring").producer().expect("an end");
    producer.push(b"hello").expect("room");
    let journal = Journal::create(path("journal").as_path(), 4096).expect("a journal");
    journal.append(b"hello").expect("room");

    for kind in ["one", "many", "all", "all-bytes", "lanes", "journal"] {
        record(&room, kind, name);
        let bytes = fs::read(&file).expect("it is there");
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a head");
        let head: Value = serde_json::from_slice(&bytes[..end]).expect("JSON");
        let damaged = |member: &str, value: Value| {
            let mut head = head.clone();
            head[member] = value;
            [head.to_string().as_bytes(), &bytes[end..]].concat()
        };
        let second = &head["parameters"][1];
        let mut cases = vec![
            damaged("len", 0.into()),
            damaged("len", 128.into()),
            damaged("len", (1_u64 << 62).into()),
            damaged("len", u64::MAX.into()),
            damaged("parameters", json!([3, second])),
            damaged("parameters", json!([u64::MAX, second])),
            damaged("parameters", json!([1_u64 << 62, second])),
            damaged("object", "".into()),
            damaged("object", "x".repeat(64).into()),
            damaged("kind", json!([0, 1, 2, 3, 4, 5, 6, 7])),
            // No length of a message.
            [&bytes[..end + 9], &[0xff; 24]].concat(),
        ];
        if ["one", "many", "all"].contains(&kind) {
            cases.push(damaged("schema", "rubbish".into()));
            cases.push(damaged("schema", "".into()));
            // A message of four bytes.
            let frame = [&[0; 8][..], &[4, 0, 0, 0], &[0; 8]].concat();
            cases.push([&bytes[..=end], &frame].concat());
        }
        let before = room.names();
        for (case, bytes) in cases.iter().enumerate() {
            fs::write(&file, bytes).expect("room");
            let done = replay(&room, &[name, "new", "--fast"]);
            assert_eq!(done.code, Some(1), "{kind}, case {case}: {}", done.err);
            assert!(done.err.starts_with("ipc: cannot "), "{}", done.err);
            assert_eq!(done.err.lines().count(), 1, "{}", done.err);
            assert_eq!(room.names(), before, "{kind}, case {case}: {}", done.err);
        }
        fs::remove_file(&file).expect("it is there");
    }
}
