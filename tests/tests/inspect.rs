//! `ipc ls` and `ipc inspect`, looking at real processes.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytemuck::{Pod, Zeroable};
use ipc_core::region::{Region, RegionSlice, SharedCell};
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_core::sync::{Attach, Latest, Mutex};
use ipc_core::{Layout, Shared};
use ipc_ring::{Ring, broadcast, lanes, mpmc, spsc};
use ipc_tests::room::{Done, Room, Running, eventually, run};
use ipc_tests::shape::shape;
use ipc_tests::terminal::Terminal;
use rustix::process::Signal;
use serde_json::Value;

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

fn text(done: &Done) -> String {
    assert_eq!((done.code, &*done.err), (Some(0), ""));
    String::from_utf8(done.out.clone()).expect("text")
}

fn json(room: &Room, arguments: &[&str]) -> Value {
    let object: Value =
        serde_json::from_str(&text(&run(&mut ipc(room, arguments)))).expect("one JSON object");
    assert_eq!(object["schema_version"], 1);
    object
}

/// A producer that has filled its ring, and sleeps.
fn full(room: &Room, name: &str) -> Running {
    let mut producer = Running::start(ipc(room, &["produce", name]).stdin(Stdio::from(
        std::fs::File::open("/dev/zero").expect("/dev/zero"),
    )));
    let pid = producer.pid();
    eventually("a producer that waits", || {
        let done = run(&mut ipc(room, &["inspect", name, "--json"]));
        let seen: Value = serde_json::from_slice(&done.out).unwrap_or_default();
        seen["waits"][0]["pid"] == pid
    });
    producer
}

// Would catch a sleeper that is not seen, one who is waited for that is not named, and a dead one taken for alive.
#[test]
fn inspect_tells_who_waits_for_whom() {
    let room = Room::new();
    let mut producer = full(&room, "x");
    let pid = producer.pid();
    let page = text(&run(&mut ipc(&room, &["inspect", "x"])));
    assert!(page.starts_with("x  in use\n"), "{page}");
    assert!(page.contains("256 of 256 messages (100%)"), "{page}");
    assert!(page.contains("participants  1 of 64"), "{page}");
    assert!(page.contains("of struct ipc.Chunk size 4096"), "{page}");
    assert!(page.contains("consumer  nobody yet"), "{page}");

    // A consumer that is stopped holds the producer up. It has taken nothing: its output is a pipe that nobody reads.
    let mut consumer = Running::start(&mut ipc(&room, &["consume", "x"]));
    let other = consumer.pid();
    eventually("both attached", || {
        let seen = json(&room, &["inspect", "x", "--json"]);
        seen["participants"]
            .as_array()
            .is_some_and(|list| list.len() == 2)
            && seen["waits"][0]["on"][0] == 2
    });
    consumer.signal(Signal::STOP);
    eventually("a stopped consumer", || {
        let page = text(&run(&mut ipc(&room, &["inspect", "x"])));
        page.contains(&format!(
            "process {pid} (ipc-under-test) waits for room in ring, which is up to process {other} (ipc-under-test), which is stopped"
        ))
    });
    consumer.signal(Signal::KILL);
    assert_eq!(consumer.end().code, None);
    producer.signal(Signal::KILL);
    assert_eq!(producer.end().code, None);
    let seen = json(&room, &["inspect", "x", "--json"]);
    assert_eq!(seen["state"], "stale");
    assert_eq!(seen["participants"][0]["life"], "dead");
    assert_eq!(run(&mut ipc(&room, &["rm", "x"])).code, Some(0));
}

// Would catch counts that are not shown, or those of one end at the other, and a reader without a role that nobody sees.
#[test]
fn inspect_tells_what_was_counted() {
    let room = Room::new();
    let ring = spsc::Ring::<u64>::options()
        .capacity(4)
        .create(room.path().join("x").as_path())
        .expect("a ring");
    let (mut producer, mut consumer) = (
        ring.producer().expect("a producer"),
        ring.consumer().expect("a consumer"),
    );
    for message in 0..4 {
        producer.push(message).expect("room");
    }
    assert!(producer.try_push(4).is_err());
    for message in 0..4 {
        assert_eq!(consumer.pop(), Ok(message));
    }
    assert!(consumer.try_pop().is_err() && consumer.try_pop().is_err());
    let seen = json(&room, &["inspect", "x", "--json"]);
    let counted = &seen["objects"][0]["counted"];
    let of = |end: &str| {
        let counts = &counted[end];
        ["messages", "bytes", "full", "empty", "lagged"].map(|what| counts[what].as_u64())
    };
    assert_eq!(of("produced"), [4, 32, 1, 0, 0].map(Some), "{counted}");
    assert_eq!(of("consumed"), [4, 32, 0, 2, 0].map(Some), "{counted}");
    assert_eq!(counted["parties"][1]["end"], "consumer");
    assert_eq!(counted["parties"][1]["participant"], 1);
    let page = text(&run(&mut ipc(&room, &["inspect", "x"])));
    let numbers = |line: &str| {
        let line = page
            .lines()
            .find(|text| text.trim_start().starts_with(line));
        let line = line.unwrap_or_else(|| panic!("not in {page}"));
        let words: Vec<_> = line.split_whitespace().skip(2).map(str::to_owned).collect();
        words.join(" ")
    };
    assert_eq!(
        numbers("COUNTED BY"),
        "MESSAGES BYTES REFUSED WAITS WAKE-UPS LAGGED RECOVERED"
    );
    assert!(numbers("all producers").starts_with("4 32 B 1 "), "{page}");
    assert!(numbers("all consumers").starts_with("4 32 B 2 "), "{page}");

    // A lossy reader has no role, and nobody waits for it: its seat alone tells of it.
    let ring = broadcast::Ring::<u64>::options()
        .capacity(4)
        .create(room.path().join("all").as_path())
        .expect("a ring");
    let mut reader = ring.lossy(broadcast::Start::Oldest).expect("a reader");
    let mut producer = ring.producer().expect("a producer");
    for message in 0..10 {
        producer.push(message).expect("room");
    }
    assert!(reader.try_pop().is_err(), "it has missed some");
    let seen = json(&room, &["inspect", "all", "--json"]);
    let counted = &seen["objects"][0]["counted"];
    assert!(
        counted["consumed"]["lagged"].as_u64() >= Some(6),
        "{counted}"
    );
}

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
struct Level {
    price: f64,
    symbol: [u8; 8],
}

#[derive(Layout, Shared)]
#[repr(C)]
struct Board {
    updates: AtomicU64,
    best: SharedCell<Level>,
}

/// A segment with an object of many kinds, each with something in it.
fn gallery(room: &Room) -> Segment {
    let level = Level {
        price: 2.5,
        symbol: *b"ACME\0\0\0\0",
    };
    let segment = SegmentOptions::new()
        .participants(8)
        .object("board", Region::<Board>::spec())
        .object("levels", RegionSlice::<Level>::spec(3).expect("a size"))
        .object(
            "lock",
            Mutex::<SharedCell<Level>>::spec(()).expect("a size"),
        )
        .object("newest", Latest::<Level>::spec(()).expect("a size"))
        .object("many", mpmc::Ring::<Level>::spec(8).expect("a size"))
        .object("all", broadcast::Ring::<Level>::spec(8).expect("a size"))
        .object("lanes", lanes::Ring::spec(4096).expect("a size"))
        .create(Place::Path(room.path().join("gallery")))
        .expect("a segment");
    let board = Region::<Board>::in_segment(&segment, "board").expect("the board");
    board.updates.store(7, Relaxed);
    board.best.set(level);
    let newest = Latest::<Level>::in_segment(&segment, "newest").expect("the register");
    newest.set(&level).expect("a writer");
    let many = mpmc::Ring::<Level>::in_segment(&segment, "many").expect("the ring");
    let mut producer = many.producer().expect("a producer");
    producer.push(level).expect("room");
    producer.push(level).expect("room");
    segment
}

// Would catch values that are not those in memory, and a layout that takes the program that wrote it to be read.
#[test]
fn fields_are_read_by_the_layout_in_the_segment() {
    let room = Room::new();
    let _segment = gallery(&room);
    let page = text(&run(&mut ipc(&room, &["inspect", "gallery", "--fields"])));
    for line in [
        "board  region\n  updates      7\n  best.price   2.5\n  best.symbol  \"ACME\"\n",
        "levels  slice\n  [0].price   0",
        "newest  latest\n  price   2.5\n",
        "lock  mutex\n",
    ] {
        assert!(page.contains(line), "{line:?} is missing:\n{page}");
    }
    let seen = json(&room, &["inspect", "gallery", "--fields", "--json"]);
    assert_eq!(seen["fields"]["board"]["best.symbol"], "\"ACME\"");
    let one = json(&room, &["inspect", "gallery", "--object", "many", "--json"]);
    assert_eq!(one["objects"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["objects"][0]["ring"]["used"], 2);
    let done = run(&mut ipc(&room, &["inspect", "gallery", "--object", "none"]));
    assert_eq!(done.code, Some(1));
    assert!(
        done.err
            .contains("holds no object \"none\", but board, levels"),
        "{}",
        done.err
    );
}

// Would catch a member of the JSON that is renamed, missing, or of another type, without a new schema version.
#[test]
fn the_json_keeps_its_shape() {
    let room = Room::new();
    let _segment = gallery(&room);
    let producer = full(&room, "x");
    insta::assert_json_snapshot!("ls", shape(&json(&room, &["ls", "--json"])));
    insta::assert_json_snapshot!(
        "inspect",
        shape(&json(&room, &["inspect", "gallery", "--json"]))
    );
    insta::assert_json_snapshot!(
        "inspect_ring",
        shape(&json(&room, &["inspect", "x", "--json"]))
    );
    drop(producer);
}

// Would catch an observer that takes a place, changes a byte, or needs to write.
#[test]
fn looking_changes_nothing() {
    let room = Room::new();
    drop(gallery(&room));
    let path = room.path().join("gallery");
    let before = std::fs::read(&path).expect("a file");
    let mut mode = std::fs::metadata(&path).expect("a file").permissions();
    mode.set_readonly(true);
    std::fs::set_permissions(&path, mode).expect("a mode");
    for arguments in [
        &["ls"][..],
        &["inspect", "gallery"],
        &["inspect", "gallery", "--fields"],
    ] {
        text(&run(&mut ipc(&room, arguments)));
    }
    assert!(before == std::fs::read(&path).expect("a file"));
}

// Would catch columns that are not those asked for, a table that does not fit its terminal, and colours where they are
// not wanted.
#[test]
fn ls_keeps_to_its_columns_and_to_its_terminal() {
    let room = Room::new();
    drop(gallery(&room));
    let table = text(&run(&mut ipc(
        &room,
        &["ls", "-o", "state,name,objects,mode"],
    )));
    assert_eq!(
        table,
        "STATE   NAME     OBJECTS  MODE\nunused  gallery        7  0600\n"
    );
    let done = run(&mut ipc(&room, &["ls", "-o", "nothing"]));
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.contains("possible values: name, kind, size"),
        "{}",
        done.err
    );

    for columns in [40, 80, 200] {
        let mut terminal = Terminal::start(ipc(&room, &["ls"]), 10, columns);
        assert_eq!(terminal.end(), Some(0));
        let screen = terminal.text();
        assert_eq!(screen.lines().count(), 2, "{columns} columns:\n{screen}");
        assert!(screen.contains("NAME"), "{screen}");
        assert!(terminal.written().contains("\x1b[1mNAME"), "no colour");
    }
    let mut command = ipc(&room, &["ls"]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(command, 10, 80);
    assert_eq!(terminal.end(), Some(0));
    assert!(
        !terminal.written().contains('\x1b'),
        "{}",
        terminal.written()
    );
}
