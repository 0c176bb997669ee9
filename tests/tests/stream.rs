//! `ipc produce`, `ipc consume` and `ipc rm` with real processes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use ipc_core::segment::{ObjectSpec, SegmentOptions};
use ipc_ring::{Ring as _, spsc};
use ipc_tests::room::{Done, Room, Running, eventually, run};
use rustix::process::Signal;

const IPC: &str = env!("CARGO_BIN_EXE_ipc-under-test");

/// More than a ring and a pipe together hold.
const MUCH: usize = 8 << 20;

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(IPC, arguments)
}

/// Bytes that differ from chunk to chunk.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A file with these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    std::io::Seek::rewind(&mut file).expect("a file can be rewound");
    file
}

/// Starts a producer whose input stays open for as long as the returned value lives.
fn producer_at_work(room: &Room, input: &[u8]) -> Running {
    let mut producer = Running::start(ipc(room, &["produce", "x"]).stdin(Stdio::piped()));
    let mut stdin = producer.child().stdin.take().expect("it was piped");
    stdin.write_all(input).expect("it reads");
    producer.child().stdin = Some(stdin);
    // It catches signals from before it makes the segment.
    eventually("the segment", || room.names() == ["x"]);
    producer
}

/// Starts a consumer, and waits until it has passed on `expected`.
fn consumer_at_work(room: &Room, expected: &[u8]) -> Running {
    let mut consumer = Running::start(&mut ipc(room, &["consume", "x"]));
    let mut got = vec![0; expected.len()];
    let out = consumer.child().stdout.as_mut().expect("it was piped");
    out.read_exact(&mut got).expect("it writes");
    assert_eq!(got, expected);
    consumer
}

fn assert_failed(done: &Done, code: i32, message: &str) {
    assert_eq!(done.code, Some(code), "{}", done.err);
    assert!(
        done.err.contains(message),
        "{:?} is not in {:?}",
        message,
        done.err
    );
    assert_eq!(done.err.lines().count(), 1, "one line: {}", done.err);
}

// Would catch bytes lost at the seam of a chunk, of a batch or of the ring, and a side that needs the other to be there.
#[test]
fn every_length_arrives_whichever_side_starts_first() {
    let room = Room::new();
    for len in [0, 1, 4031, 4032, 4033, 64 * 4032, (1 << 20) + 7, MUCH] {
        for producer_first in [true, false] {
            let sent = bytes(len);
            let produce = || Running::start(ipc(&room, &["produce", "x"]).stdin(file(&sent)));
            let consume = || Running::start(&mut ipc(&room, &["consume", "x"]));
            let created = || eventually("the segment", || room.names() == ["x"]);
            let (producer, consumer) = if producer_first {
                let producer = produce();
                created();
                (producer, consume())
            } else {
                let consumer = consume();
                created();
                (produce(), consumer)
            };
            let (consumed, produced) = (consumer.end(), producer.end());
            assert_eq!(
                (produced.code, consumed.code),
                (Some(0), Some(0)),
                "{}",
                consumed.err
            );
            assert!(consumed.out == sent, "{len} bytes did not arrive whole");
            assert!(produced.out.is_empty());
            assert!(consumed.err.contains("GiB/s") && produced.err.contains("GiB/s"));
            assert!(room.names().is_empty(), "{:?}", room.names());
        }
    }
}

// Would catch a producer that waits for a consumer when everything fits into the ring.
#[test]
fn what_fits_can_be_consumed_after_the_producer_has_ended() {
    let room = Room::new();
    let sent = bytes(500_000);
    let produced = run(ipc(&room, &["produce", "x"]).stdin(file(&sent)));
    assert_eq!(produced.code, Some(0), "{}", produced.err);
    let consumed = run(&mut ipc(&room, &["consume", "x"]));
    assert_eq!(consumed.code, Some(0), "{}", consumed.err);
    assert!(consumed.out == sent);
    assert!(room.names().is_empty());
}

// Would catch output that is not flushed, and an input from a pipe that is not passed on before it is full.
#[test]
fn bytes_arrive_as_they_come() {
    let room = Room::new();
    let mut producer = producer_at_work(&room, b"one\n");
    let mut consumer = consumer_at_work(&room, b"one\n");
    let mut stdin = producer.child().stdin.take().expect("it is open");
    stdin.write_all(b"two\n").expect("it reads");
    let mut got = [0; 4];
    let out = consumer.child().stdout.as_mut().expect("it was piped");
    out.read_exact(&mut got).expect("it writes");
    assert_eq!(&got, b"two\n");
    drop(stdin);
    assert_eq!(consumer.end().code, Some(0));
    assert_eq!(producer.end().code, Some(0));
}

// Would catch a stream that is not fit for what streams are for.
#[test]
fn tar_through_a_ring() {
    let room = Room::new();
    let (from, to) = (tempfile::tempdir(), tempfile::tempdir());
    let (from, to) = (from.expect("a directory"), to.expect("a directory"));
    fs::create_dir(from.path().join("sub")).expect("a directory");
    fs::write(from.path().join("sub/large"), bytes(3_000_000)).expect("a file");
    fs::write(from.path().join("empty"), b"").expect("a file");
    let script =
        r#"tar -C "$FROM" -c . | "$IPC" produce x & "$IPC" consume x | tar -C "$TO" -x; wait"#;
    let mut command = room.command("sh", ["-c", script]);
    let done = run(command
        .env("FROM", from.path())
        .env("TO", to.path())
        .env("IPC", IPC));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let large = fs::read(to.path().join("sub/large")).expect("it was unpacked");
    assert!(large == bytes(3_000_000));
    assert_eq!(
        fs::read(to.path().join("empty")).expect("it was unpacked"),
        b""
    );
    assert!(room.names().is_empty());
}

// Would catch a second one that is let in, or that disturbs or removes what the first one works on.
#[test]
fn a_second_producer_and_a_second_consumer_are_refused() {
    let room = Room::new();
    let mut producer = producer_at_work(&room, b"first");
    let refused = run(&mut ipc(&room, &["produce", "x"]));
    let message = format!("has a producer already: process {}", producer.pid());
    assert_failed(&refused, 1, &message);
    let mut consumer = consumer_at_work(&room, b"first");
    let refused = run(&mut ipc(&room, &["consume", "x"]));
    let message = format!("has a consumer already: process {}", consumer.pid());
    assert_failed(&refused, 1, &message);
    drop(producer.child().stdin.take());
    assert_eq!(producer.end().code, Some(0));
    assert_eq!(consumer.end().code, Some(0));
    assert!(room.names().is_empty());
}

// Would catch a consumer that takes an interrupted producer for the end of the input, one that waits for ever, and a
// segment that is left.
#[test]
fn the_end_of_the_producer_is_told_to_the_consumer() {
    for (signal, message) in [
        (
            Signal::INT,
            "stopped before the end of its input; 5 bytes had arrived",
        ),
        (
            Signal::TERM,
            "stopped before the end of its input; 5 bytes had arrived",
        ),
        (Signal::KILL, "the producer of \"x\" has died"),
    ] {
        let room = Room::new();
        let mut producer = producer_at_work(&room, b"first");
        let consumer = consumer_at_work(&room, b"first");
        producer.signal(signal);
        let produced = producer.end();
        assert_eq!(produced.code, None, "it ends by the signal");
        assert_eq!(produced.err, "");
        assert_failed(&consumer.end(), 3, message);
        assert!(room.names().is_empty(), "{:?}", room.names());
    }
}

// Would catch a producer that does not notice, with an input that gives nothing at the moment as well as with one
// that fills the ring.
#[test]
fn the_end_of_the_consumer_is_told_to_the_producer() {
    for (signal, message) in [
        (Signal::INT, "the consumer of \"x\" stopped before the end"),
        (Signal::KILL, "the consumer of \"x\" has died"),
    ] {
        for idle in [true, false] {
            let room = Room::new();
            let producer = if idle {
                producer_at_work(&room, b"first")
            } else {
                let endless = File::open("/dev/zero").expect("zeros");
                Running::start(ipc(&room, &["produce", "x"]).stdin(endless))
            };
            let mut consumer = consumer_at_work(&room, if idle { b"first" } else { &[0; 5] });
            // Its standard output is full by now, or about to be: that must not keep it.
            consumer.signal(signal);
            assert_eq!(consumer.end().code, None, "it ends by the signal");
            assert_failed(&producer.end(), 3, message);
            assert!(room.names().is_empty(), "{:?}", room.names());
        }
    }
}

// Would catch a segment left by a side that gave up before the other one came.
#[test]
fn one_side_alone_leaves_nothing_when_interrupted() {
    for arguments in [["produce", "x"], ["consume", "x"]] {
        let room = Room::new();
        let mut alone = Running::start(ipc(&room, &arguments).stdin(Stdio::piped()));
        eventually("the segment", || room.names() == ["x"]);
        alone.signal(Signal::INT);
        assert_eq!(alone.end().code, None, "it ends by the signal");
        assert!(room.names().is_empty(), "{:?}", room.names());
    }
}

// Would catch a stream that is glued together from the rest of an old one and a new one.
#[test]
fn an_old_stream_is_refused_and_can_be_removed() {
    let room = Room::new();
    let mut producer = producer_at_work(&room, b"first");
    eventually("the first chunk", || {
        spsc_of(&room).is_some_and(|published| published > 0)
    });
    producer.signal(Signal::KILL);
    assert_eq!(producer.end().code, None);
    let refused = run(&mut ipc(&room, &["produce", "x"]));
    assert_failed(
        &refused,
        1,
        "its producer ended in the middle of it (0 of 1 chunks were taken)",
    );
    assert!(refused.err.contains("`ipc rm x`"));
    assert_eq!(run(&mut ipc(&room, &["rm", "x"])).code, Some(0));

    assert_eq!(run(&mut ipc(&room, &["produce", "x"])).code, Some(0));
    let refused = run(&mut ipc(&room, &["produce", "x"]));
    assert_failed(&refused, 1, "its consumer has not taken it to the end");
    assert_eq!(run(&mut ipc(&room, &["consume", "x"])).code, Some(0));
    assert!(room.names().is_empty());
}

/// Chunks that were published in the stream `x`, told by its size alone: the first line of the ring is its tail.
fn spsc_of(room: &Room) -> Option<u64> {
    let segment = ipc_core::segment::Segment::open(room.path().join("x").as_path()).ok()?;
    let object = segment.object(ipc_ring::ONLY).ok()?;
    let tail = object.area().word64(0).ok()?;
    Some(tail.load(std::sync::atomic::Ordering::Acquire))
}

// Would catch a side that waits longer than its user wants to.
#[test]
fn patience_ends_with_its_own_exit_code() {
    let room = Room::new();
    let consumed = run(&mut ipc(&room, &["consume", "x", "--timeout", "0.2"]));
    assert_failed(&consumed, 4, "has not moved for 200ms");
    assert!(room.names().is_empty());
    let endless = File::open("/dev/zero").expect("zeros");
    let produced = run(ipc(&room, &["produce", "x", "--timeout", "0.2"]).stdin(endless));
    assert_failed(&produced, 4, "has not moved for 200ms");
    assert!(room.names().is_empty());
}

// Would catch a message, or worse a panic, when the reader of the output has had enough.
#[test]
fn a_closed_output_is_quiet() {
    let room = Room::new();
    let endless = File::open("/dev/zero").expect("zeros");
    let producer = Running::start(ipc(&room, &["produce", "x"]).stdin(endless));
    let mut consumer = consumer_at_work(&room, &[0; 10]);
    drop(consumer.child().stdout.take());
    let consumed = consumer.end();
    assert_eq!((consumed.code, &*consumed.err), (None, ""));
    assert_failed(&producer.end(), 3, "stopped before the end");
    assert!(room.names().is_empty());
}

// Would catch a failure to write that is taken for done, and a segment left by it.
#[test]
fn a_full_disk_is_told() {
    let room = Room::new();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("it is there");
    assert_eq!(run(&mut ipc(&room, &["produce", "x"])).code, Some(0));
    let nothing = run(ipc(&room, &["consume", "x"]).stdout(full.try_clone().expect("a copy")));
    assert_eq!(
        nothing.code,
        Some(0),
        "nothing was to be written: {}",
        nothing.err
    );
    assert_eq!(
        run(ipc(&room, &["produce", "x"]).stdin(file(b"a"))).code,
        Some(0)
    );
    let consumed = run(ipc(&room, &["consume", "x"]).stdout(full));
    assert_failed(
        &consumed,
        1,
        "cannot write to standard output: No space left on device",
    );
    assert!(room.names().is_empty());
}

// Would catch a name that leads out of the directory, and anything made on the way to the refusal.
#[test]
fn names_that_cannot_be_are_refused() {
    for (name, message) in [
        ("a/b", "it contains a slash"),
        ("../x", "it begins with a dot"),
        ("..", "it begins with a dot"),
        ("", "it is empty"),
        ("a\nb", "it contains a control character"),
    ] {
        for command in ["produce", "consume", "rm"] {
            // `rm` takes paths as well, which have a slash.
            if command == "rm" && name.contains('/') {
                continue;
            }
            let room = Room::new();
            let done = run(&mut ipc(&room, &[command, name]));
            assert_failed(&done, 1, message);
            assert!(room.names().is_empty());
        }
    }
}

// Would catch bytes taken for a stream that are none, a message that does not say what they are, and any change to them.
#[test]
fn what_is_no_stream_is_refused_and_left_as_it_was() {
    let room = Room::new();
    let x = room.path().join("x");
    let spec = |kind: &[u8; 8]| ObjectSpec {
        kind: *kind,
        version: 1,
        len: 4096,
        schema: String::new(),
        parameters: [0; 2],
    };
    type Maker<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Maker<'_>); 6] = [
        (
            "it has 5 bytes",
            Box::new(|| fs::write(&x, b"hello").expect("a file")),
        ),
        (
            "not a segment: it begins with",
            Box::new(|| fs::write(&x, [b'a'; 8192]).expect("a file")),
        ),
        (
            "holds no object \"ring\"",
            Box::new(|| {
                let options = SegmentOptions::new().object("board", spec(b"latest\0\0"));
                drop(options.create(x.as_path()).expect("a segment"));
            }),
        ),
        (
            "is of kind \"latest\", not \"spsc\"",
            Box::new(|| {
                let options = SegmentOptions::new().object("ring", spec(b"latest\0\0"));
                drop(options.create(x.as_path()).expect("a segment"));
            }),
        ),
        (
            "laid out otherwise",
            Box::new(|| {
                let options = spsc::Ring::<u64>::options().capacity(8);
                drop(options.create(x.as_path()).expect("a ring"));
            }),
        ),
        (
            "format version",
            Box::new(|| {
                drop(
                    spsc::Ring::<u64>::options()
                        .create(x.as_path())
                        .expect("a ring"),
                );
                let mut bytes = fs::read(&x).expect("its bytes");
                bytes[8] = bytes[8].wrapping_add(1);
                fs::write(&x, bytes).expect("a file");
            }),
        ),
    ];
    for (message, make) in cases {
        make();
        let before = fs::read(&x).expect("its bytes");
        for command in ["produce", "consume"] {
            let done = run(&mut ipc(&room, &[command, "x"]));
            assert_eq!(done.code, Some(1), "{message}: {}", done.err);
            assert!(
                done.err.contains(message),
                "{message:?} is not in {:?}",
                done.err
            );
            assert!(done.out.is_empty());
            assert!(
                fs::read(&x).expect("its bytes") == before,
                "{message}: it was changed"
            );
            assert_eq!(room.names(), ["x"]);
        }
        fs::remove_file(&x).expect("it is there");
    }
}

// Would catch a segment that is begun where it has no room, and dies of SIGBUS, or leaves a part of it.
#[test]
fn no_room_is_told_before_anything_is_made() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount a small file system");
        return;
    }
    let room = Room::new();
    // In a mount namespace of its own: nobody else sees it, and it goes with the process.
    let script = r#"mount -t tmpfs -o size=64k,mode=700 none "$IPC_DIR" && "$IPC" produce x < /dev/null; code=$?
        ls -A "$IPC_DIR"; exit $code"#;
    let mut command = room.command("unshare", ["--mount", "sh", "-c", script]);
    let done = run(command.env("IPC", IPC));
    if done.err.contains("unshare failed") || done.err.contains("permission denied") {
        println!("skipped: {}", done.err);
        return;
    }
    assert_failed(&done, 1, "needs 1064960 bytes");
    assert_eq!(done.out, b"", "something was left");
}

// Would catch a name taken from under those who use it, and a file that is removed although it is no segment.
#[test]
fn rm_removes_only_what_nobody_uses() {
    let room = Room::new();
    let done = run(&mut ipc(&room, &["rm", "x"]));
    assert_failed(&done, 1, "there is no segment at");
    fs::write(room.path().join("note"), [b'a'; 8192]).expect("a file");
    assert_failed(&run(&mut ipc(&room, &["rm", "note"])), 1, "not a segment");
    fs::remove_file(room.path().join("note")).expect("it is still there");

    let mut producer = producer_at_work(&room, b"first");
    let done = run(&mut ipc(&room, &["rm", "x"]));
    assert_failed(&done, 1, &format!("process {} uses \"x\"", producer.pid()));
    assert_eq!(room.names(), ["x"]);
    assert_eq!(run(&mut ipc(&room, &["rm", "--force", "x"])).code, Some(0));
    assert!(room.names().is_empty());
    // Its consumer can never come now.
    drop(producer.child().stdin.take());
    assert_eq!(producer.end().code, Some(0), "what it had fits in");
}
