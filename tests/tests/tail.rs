//! `ipc tail`: what goes through each kind of ring, seen by one who takes no part.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use ipc_core::Layout;
use ipc_core::segment::Segment;
use ipc_core::sync::{Attach, Latest};
use ipc_ring::journal::Journal;
use ipc_ring::{Ring, broadcast, broadcast_bytes, bytes, lanes, mpmc, spsc};
use ipc_tests::room::{Done, Room, Running, eventually, run};
use ipc_tests::shape::shape;
use rustix::process::Signal;
use serde_json::Value;

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    seq: u64,
    price: f64,
}

fn tick(seq: u64) -> Tick {
    Tick {
        seq,
        price: seq as f64 / 2.0,
    }
}

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

/// What is there now.
fn tail(room: &Room, name: &str) -> String {
    let done = run(&mut ipc(room, &["tail", name, "--no-follow"]));
    text(&done)
}

fn text(done: &Done) -> String {
    assert_eq!((done.code, &*done.err), (Some(0), ""));
    String::from_utf8(done.out.clone()).expect("text")
}

const TICKS: &str = "0  seq=1 price=0.5\n1  seq=2 price=1\n2  seq=3 price=1.5\n";

// Would catch a kind of ring that cannot be followed, values that are not those pushed, and an observer who takes
// something: what it has seen is still there for the consumer.
#[test]
fn every_kind_is_followed_and_nothing_is_taken() {
    let room = Room::new();
    let path = |name: &str| room.path().join(name);
    let ticks = [tick(1), tick(2), tick(3)];

    let ring = spsc::Ring::<Tick>::options()
        .capacity(8)
        .create(path("one").as_path());
    let ring = ring.expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push_slice(&ticks).expect("room");
    assert_eq!(tail(&room, "one"), TICKS);
    let mut consumer = ring.consumer().expect("a consumer");
    assert_eq!(consumer.pop().expect("the first").seq, 1);
    // Taken, and still whole.
    assert_eq!(tail(&room, "one").lines().next(), Some("1  seq=2 price=1"));

    let ring = mpmc::Ring::<Tick>::options()
        .capacity(8)
        .create(path("many").as_path());
    let ring = ring.expect("a ring");
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    assert_eq!(tail(&room, "many"), TICKS);
    assert_eq!(
        ring.consumer()
            .expect("a consumer")
            .pop()
            .expect("the first")
            .seq,
        1
    );

    // With a patience, which shares a parameter with the stride.
    let ring = broadcast::Ring::<Tick>::options()
        .capacity(8)
        .patience(Duration::from_secs(1))
        .create(path("all").as_path());
    let ring = ring.expect("a ring");
    ring.producer()
        .expect("a producer")
        .push_slice(&ticks)
        .expect("room");
    assert_eq!(tail(&room, "all"), TICKS);

    let ring = broadcast_bytes::Ring::options()
        .capacity(4096)
        .create(path("all-bytes").as_path());
    let ring = ring.expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push(b"hello").expect("room");
    producer.push(b"world").expect("room");
    let seen = tail(&room, "all-bytes");
    assert!(
        seen.contains("|hello|\n16  5 bytes\n") && seen.contains("|world|\n"),
        "{seen}"
    );

    let ring = bytes::Ring::options()
        .capacity(4096)
        .create(path("bytes").as_path());
    let ring = ring.expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push(b"hello").expect("room");
    producer.push(&[7; 20]).expect("room");
    let seen = tail(&room, "bytes");
    assert!(
        seen.starts_with("0  5 bytes\n  00000000  68 65 6c 6c 6f "),
        "{seen}"
    );
    assert!(seen.contains("|hello|\n16  20 bytes\n"), "{seen}");
    assert!(seen.contains("\n  00000010  07 07 07 07 "), "{seen}");
    let mut record = Vec::new();
    assert_eq!(ring.consumer().expect("a consumer").pop(&mut record), Ok(5));

    let ring = lanes::Ring::options()
        .capacity(4096)
        .lanes(2)
        .create(path("lanes").as_path());
    let ring = ring.expect("a ring");
    let (mut a, mut b) = (ring.producer().expect("a"), ring.producer().expect("b"));
    a.push(b"from a").expect("room");
    b.push(b"from b").expect("room");
    let seen = tail(&room, "lanes");
    assert!(
        seen.contains("0:0  6 bytes\n") && seen.contains("|from b|"),
        "{seen}"
    );

    let journal = Journal::create(path("journal").as_path(), 4096).expect("a journal");
    journal.append(b"first").expect("room");
    journal.append(b"second").expect("room");
    let seen = tail(&room, "journal");
    assert!(
        seen.contains("|first|") && seen.contains("|second|"),
        "{seen}"
    );

    let newest = Latest::<Tick>::create(path("newest").as_path(), ()).expect("a register");
    newest.set(&tick(4)).expect("a writer");
    newest.set(&tick(5)).expect("a writer");
    assert_eq!(tail(&room, "newest"), "2  seq=5 price=2.5\n");
}

// Would catch a stream shown as the numbers of its bytes, which nobody can read, and bytes that a terminal would obey.
#[test]
fn a_stream_is_shown_as_what_went_in() {
    let room = Room::new();
    let mut producer = Running::start(ipc(&room, &["produce", "x"]).stdin(Stdio::piped()));
    let mut input = producer.child().stdin.take().expect("a pipe");
    let mut said = |bytes: &[u8]| {
        let before = tail(&room, "x");
        input.write_all(bytes).expect("a reader");
        eventually("a chunk", || {
            let done = run(&mut ipc(&room, &["tail", "x", "--no-follow"]));
            done.out.len() > before.len()
        });
    };
    eventually("a ring", || room.path().join("x").exists());
    said("hello\nwörld\n".as_bytes());
    said(b"\x1b[2J\0");
    drop(input);
    eventually("the end", || tail(&room, "x").contains("the last"));
    assert_eq!(
        tail(&room, "x"),
        "0  13 bytes\n  \"hello\\n\"\n  \"wörld\\n\"\n1  5 bytes\n  00000000  1b 5b 32 4a 00                                    |.[2J.|\n2  0 bytes, the last\n"
    );
    let done = run(&mut ipc(&room, &["tail", "x", "--no-follow", "--json"]));
    let lines: Vec<Value> = text(&done)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    assert_eq!(
        (&lines[1]["hex"], &lines[1]["bytes"], &lines[2]["is_last"]),
        (&"1b5b324a00".into(), &5.into(), &true.into())
    );
    insta::assert_json_snapshot!("tail_stream", shape(&lines[0]));
    let done = run(&mut ipc(&room, &["tail", "x", "--hex", "-n", "1"]));
    assert!(text(&done).starts_with("0  4096 bytes\n"));
    let done = run(&mut ipc(&room, &["consume", "x"]));
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(producer.end().code, Some(0));
}

// Would catch a follower that does not see what comes while it runs, or does not end with the ring.
#[test]
fn it_follows_until_the_ring_is_closed() {
    let room = Room::new();
    let ring = spsc::Ring::<Tick>::options()
        .capacity(64)
        .create(room.path().join("x").as_path());
    let ring = ring.expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push(tick(1)).expect("room");
    let follower = Running::start(&mut ipc(&room, &["tail", "x", "--json"]));
    for seq in 2..=20 {
        producer.push(tick(seq)).expect("room");
        std::thread::sleep(Duration::from_millis(5));
    }
    producer.close();
    let lines: Vec<Value> = text(&follower.end())
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    assert_eq!(lines.len(), 20);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["position"], index);
        assert_eq!(line["fields"]["seq"], (index + 1).to_string());
        assert_eq!(line["schema_version"], 1);
    }
    insta::assert_json_snapshot!("tail", shape(&lines[0]));
}

// Would catch an observer that shows what was overwritten while it copied, or hides that it has missed something: with a
// consumer and a producer at full speed it is overtaken all the time.
#[test]
fn what_is_shown_was_pushed_and_what_was_missed_is_told() {
    let room = Room::new();
    let ring = mpmc::Ring::<Tick>::options()
        .capacity(64)
        .create(room.path().join("x").as_path());
    let ring = ring.expect("a ring");
    let follower = Running::start(&mut ipc(&room, &["tail", "x", "--json", "-n", "2000"]));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = ring.producer().expect("a producer");
            let mut consumer = ring.consumer().expect("a consumer");
            let mut seq = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                producer.push(tick(seq)).expect("room");
                assert_eq!(consumer.pop().expect("a message").seq, seq);
                seq += 1;
            }
        });
        let done = follower.end();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        done
    });
    let mut next = None;
    for line in text(&done).lines() {
        let line: Value = serde_json::from_str(line).expect("one JSON object a line");
        if let Some(missed) = line["missed"].as_u64() {
            next = next.map(|next: u64| next + missed);
            continue;
        }
        let position = line["position"].as_u64().expect("a position");
        // This ring's messages carry their position.
        assert_eq!(line["fields"]["seq"], position.to_string());
        assert_eq!(position, next.unwrap_or(position));
        next = Some(position + 1);
    }
}

// Would catch mistakes that end in silence, and ends without their exit code.
#[test]
fn its_ends_have_their_exit_codes() {
    let room = Room::new();
    let done = run(&mut ipc(&room, &["tail", "nothing"]));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("there is no segment at"), "{}", done.err);

    let path = room.path().join("x");
    let _ring = spsc::Ring::<Tick>::options()
        .create(path.as_path())
        .expect("a ring");
    let done = run(&mut ipc(&room, &["tail", "x", "--timeout", "0.2"]));
    assert_eq!(done.code, Some(4));
    assert!(
        done.err.contains("nothing has come through \"x\""),
        "{}",
        done.err
    );

    let follower = Running::start(&mut ipc(&room, &["tail", "x"]));
    std::thread::sleep(Duration::from_millis(300));
    Segment::unlink(path.as_path()).expect("it is there");
    let done = follower.end();
    assert_eq!(done.code, Some(3));
    assert!(
        done.err.contains("somebody has removed \"x\""),
        "{}",
        done.err
    );

    let _ring = spsc::Ring::<Tick>::options()
        .create(path.as_path())
        .expect("a ring");
    let mut follower = Running::start(&mut ipc(&room, &["tail", "x"]));
    // Nobody reads what it prints: it ends without a word, though nothing comes.
    drop(follower.child().stdout.take());
    let done = follower.end();
    assert_eq!((done.code, &*done.err), (None, ""));

    let mut follower = Running::start(ipc(&room, &["tail", "x"]).stdout(Stdio::piped()));
    std::thread::sleep(Duration::from_millis(300));
    follower.signal(Signal::INT);
    let done = follower.end();
    assert_eq!((done.code, &*done.err), (None, ""));
}

// Would catch an observer that shows a record over which the next one is being written: its place was free, the observer had
// not come to it yet, and what says so is published only with the next record.
#[test]
fn what_is_being_written_over_is_not_shown() {
    let room = Room::new();
    let ring = bytes::Ring::options()
        .capacity(4096)
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let (mut producer, mut consumer) = (
        ring.producer().expect("a producer"),
        ring.consumer().expect("a consumer"),
    );
    let mut follower = Running::start(&mut ipc(&room, &["tail", "x"]));
    let mut out = BufReader::new(follower.child().stdout.take().expect("a pipe"));
    let mut line = String::new();
    producer.push(b"").expect("room");
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "0  0 bytes\n");
    // It has come to position 8, and looks no further.
    follower.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", follower.pid());
    eventually("it is stopped", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    let mut record = Vec::new();
    assert_eq!(consumer.pop(&mut record), Ok(0));
    // Half the ring, the last byte of it included; then one more, which begins anew at the start of the arena.
    for len in [96, 960, 960] {
        producer.push(&vec![b'a'; len]).expect("room");
        assert_eq!(consumer.pop(&mut record), Ok(len));
    }
    let mut next = producer.reserve(2048).expect("room");
    // What it writes over is a payload, and not its header.
    next.write_at(16, &[b'b'; 2032]);
    follower.signal(Signal::CONT);
    let all = std::thread::spawn(move || {
        let mut all = String::new();
        out.read_to_string(&mut all).map(|_| all)
    });
    // So long that it looks; it sleeps 20 ms at most.
    std::thread::sleep(Duration::from_millis(200));
    next.commit().expect("it is ours");
    producer.close();
    let done = follower.end();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let all = all.join().expect("no panic").expect("text");
    assert!(all.starts_with("2048  2048 bytes\n"), "{all}");
    assert!(done.err.contains("missed 3"), "{}", done.err);
}

// Would catch a push that came too late, and is shown as a message that never was.
#[test]
fn nothing_is_shown_that_was_refused_by_a_closed_ring() {
    let room = Room::new();
    let ring = mpmc::Ring::<Tick>::options()
        .capacity(8)
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push(tick(1)).expect("room");
    ring.close();
    for seq in 2..6 {
        let refused = producer.push(tick(seq));
        assert!(refused.is_err(), "it is closed");
    }
    let done = run(&mut ipc(&room, &["tail", "x"]));
    let out = String::from_utf8(done.out).expect("text");
    assert_eq!(
        (done.code, &*out),
        (Some(0), "0  seq=1 price=0.5\n"),
        "{}",
        done.err
    );
}
