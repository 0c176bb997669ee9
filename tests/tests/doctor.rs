//! `ipc doctor`, with patients of every kind.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use ipc_core::region::SharedCell;
use ipc_core::segment::{Place, SegmentOptions};
use ipc_core::sync::{Attach, Mutex};
use ipc_ring::{Ring, spsc};
use ipc_tests::child::Child;
use ipc_tests::room::{Done, Room, Running, eventually, run};
use ipc_tests::shape::shape;
use rustix::process::Signal;
use serde_json::Value;

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

fn examined(room: &Room, arguments: &[&str]) -> (Done, Value) {
    let arguments = [&["doctor", "--json", "--watch", "0.1"], arguments].concat();
    let done = run(&mut ipc(room, &arguments));
    let object = serde_json::from_slice(&done.out).expect("one JSON object");
    (done, object)
}

/// Without what differs from machine to machine.
fn without_the_machine(mut object: Value) -> Value {
    if let Some(findings) = object["findings"].as_array_mut() {
        findings.retain(|finding| finding["kind"] != "machine");
    }
    for (_, check) in object["machine"].as_object_mut().into_iter().flatten() {
        check["problem"] = Value::Null;
    }
    object
}

/// The finding of that kind about that segment.
fn found<'v>(object: &'v Value, kind: &str, segment: &str) -> Option<&'v Value> {
    let findings = object["findings"].as_array().expect("a list");
    findings
        .iter()
        .find(|finding| finding["kind"] == kind && finding["segment"] == segment)
}

fn producer(room: &Room, name: &str) -> Running {
    let zeros = File::open("/dev/zero").expect("/dev/zero");
    Running::start(ipc(room, &["produce", name]).stdin(Stdio::from(zeros)))
}

// Would catch a healthy place that is called ill, and a machine that is not looked at.
#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let room = Room::new();
    spsc::Ring::<u64>::options()
        .create(room.path().join("good").as_path())
        .expect("a ring");
    let done = run(&mut ipc(&room, &["doctor"]));
    let page = String::from_utf8(done.out).expect("text");
    for check in [
        "room",
        "tmpfs",
        "huge pages",
        "membarrier",
        "/proc",
        "1 looked at",
    ] {
        assert!(page.contains(check), "{check} is missing:\n{page}");
    }
    let (_, object) = examined(&room, &["good"]);
    assert_eq!(object["schema_version"], 1);
    let about = object["findings"].as_array().expect("a list");
    assert!(
        about.iter().all(|finding| finding["level"] == "note"),
        "{about:?}"
    );
}

// Would catch a dead process that is not found, one that is not cleared up after, and a mend that is told and not done.
#[test]
fn the_dead_are_found_and_cleared_up_after() {
    let room = Room::new();
    let mut killed = producer(&room, "x");
    eventually("a full ring", || {
        found(&examined(&room, &[]).1, "full", "x").is_some()
    });
    let (done, object) = examined(&room, &[]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("left"), "{}", done.err);
    let full = found(&object, "full", "x").expect("nobody takes anything");
    assert_eq!(
        full["mend"],
        "start the consumer, or give up what is in it: ipc rm --force x"
    );

    let pid = killed.pid();
    killed.signal(Signal::KILL);
    assert_eq!(killed.end().code, None);
    let (_, object) = examined(&room, &[]);
    let dead = found(&object, "dead", "x").expect("it died while it was attached");
    assert!(
        dead["what"]
            .as_str()
            .is_some_and(|what| what.contains(&format!("process {pid} died")))
    );
    assert_eq!(
        (&dead["mend"], &dead["mended"]),
        (&"ipc doctor --fix x".into(), &false.into())
    );
    insta::assert_json_snapshot!("doctor", shape(&without_the_machine(object)));

    let (_, object) = examined(&room, &["--fix", "x"]);
    assert_eq!(
        found(&object, "dead", "x").expect("it was there")["mended"],
        true
    );
    let (_, object) = examined(&room, &[]);
    assert_eq!(found(&object, "dead", "x"), None);
    assert!(found(&object, "stale", "x").is_some());
}

// Would catch a stopped process that is not named as the one who holds others up, with what lets it go on.
#[test]
fn a_stopped_process_is_named_as_the_one_who_blocks() {
    let room = Room::new();
    let mut waiting = producer(&room, "x");
    eventually("a full ring", || {
        found(&examined(&room, &[]).1, "full", "x").is_some()
    });
    let mut consumer = Running::start(&mut ipc(&room, &["consume", "x"]));
    let pid = consumer.pid();
    // Its output is a pipe that nobody reads, so that it takes the role and then stands still.
    eventually("both attached", || {
        let done = run(&mut ipc(&room, &["inspect", "x", "--json"]));
        let seen: Value = serde_json::from_slice(&done.out).unwrap_or_default();
        seen["waits"][0]["on"][0] == 2
    });
    consumer.signal(Signal::STOP);
    eventually("the one who blocks", || {
        let (_, object) = examined(&room, &[]);
        found(&object, "stuck", "x")
            .is_some_and(|stuck| stuck["mend"] == format!("kill -CONT {pid}"))
    });
    for process in [&mut consumer, &mut waiting] {
        process.signal(Signal::KILL);
    }
}

// Would catch two processes that wait for each other's locks and are not seen to.
#[test]
fn processes_that_wait_for_each_other_are_found() {
    let room = Room::new();
    let path = room.path().join("locks");
    let lock = || Mutex::<SharedCell<u64>>::spec(()).expect("a size");
    let made = SegmentOptions::new()
        .object("a", lock())
        .object("b", lock())
        .object("met", ipc_core::sync::Barrier::spec(2).expect("a size"))
        .create(Place::Path(path.clone()))
        .expect("a segment");
    drop(made);
    let takes = |first: &'static str, second: &'static str| {
        let path = path.clone();
        Child::run(move || {
            let segment = ipc_core::segment::Segment::open(path.as_path()).expect("it is there");
            let lock = |name| Mutex::<SharedCell<u64>>::in_segment(&segment, name).expect("a lock");
            let (first, second) = (lock(first), lock(second));
            let met = ipc_core::sync::Barrier::in_segment(&segment, "met").expect("a barrier");
            let _first = first.lock().expect("nobody has it");
            met.sit().expect("a seat").wait().expect("the other one");
            let _ = second.lock();
        })
    };
    let children = [takes("a", "b"), takes("b", "a")];
    eventually("a deadlock", || {
        let (_, object) = examined(&room, &[]);
        let findings = object["findings"].as_array().expect("a list");
        findings.iter().any(|finding| {
            finding["kind"] == "deadlock"
                && finding["what"]
                    .as_str()
                    .is_some_and(|what| what.contains("wait for each other"))
        })
    });
    children.into_iter().for_each(Child::kill);
}

// Would catch damage of one kind that is taken for another, and a mend that destroys what a person should decide about.
#[test]
fn each_kind_of_damage_has_its_finding() {
    let room = Room::new();
    let place = |name: &str| room.path().join(name);
    spsc::Ring::<u64>::options()
        .create(place("good").as_path())
        .expect("a ring");
    let good = fs::read(place("good")).expect("a file");
    fs::write(place("note"), b"not a segment").expect("a file");
    fs::write(place("short"), &good[..5000]).expect("a file");
    fs::write(place("copy"), &good).expect("a file");
    let mut newer = good.clone();
    newer[8] = 99;
    fs::write(place("newer"), newer).expect("a file");
    fs::write(place(".good.0123456789abcdef.new"), b"").expect("a file");
    spsc::Ring::<u64>::options()
        .create(place("open").as_path())
        .expect("a ring");
    fs::set_permissions(place("open"), Permissions::from_mode(0o666)).expect("a mode");
    fs::create_dir(place("drawer")).expect("a directory");
    spsc::Ring::<u64>::options()
        .create(place("a b").as_path())
        .expect("a ring");

    let (done, object) = examined(&room, &["--fix"]);
    assert_eq!(done.code, Some(1));
    for (kind, segment, part) in [
        ("foreign", "note", "not a segment"),
        ("foreign", "drawer", "a directory"),
        ("broken", "short", "cut short"),
        ("broken", "copy", "is a copy of a segment"),
        ("version", "newer", "format version 99"),
        ("mode", "open", "chmod o-w"),
    ] {
        let finding = found(&object, kind, segment);
        let what = finding.and_then(|finding| finding["what"].as_str());
        assert!(
            what.is_some_and(|what| what.contains(part)),
            "{segment}: {object}"
        );
        assert_eq!(finding.expect("it was found")["mended"], false);
    }
    assert_eq!(
        room.names(),
        [
            "a b", "copy", "drawer", "good", "newer", "note", "open", "short"
        ]
    );
    // A name that a shell would take apart is quoted in the command that is told.
    let stale = found(&object, "stale", "a b").expect("nobody is attached");
    assert_eq!(stale["mend"], "if nobody will come: ipc rm 'a b'");
}

// Would catch a directory that others can write to, which nobody is told of, and one that --fix leaves as it is.
#[test]
fn the_directory_is_examined_as_well() {
    let room = Room::new();
    fs::set_permissions(room.path(), Permissions::from_mode(0o755)).expect("a mode");
    let (done, object) = examined(&room, &[]);
    assert_eq!(
        (done.code, &object["findings"][0]["kind"]),
        (Some(1), &"mode".into())
    );
    let (done, _) = examined(&room, &["--fix"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let mode = fs::metadata(room.path())
        .expect("a directory")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
}
