//! `ipc pair` with its real processes.

use std::process::Command;

use ipc_tests::room::{Done, Room, Running, children_of, eventually, exists, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn pair(room: &Room, arguments: &[&str]) -> Command {
    let mut command = room.command(env!("CARGO_BIN_EXE_ipc-under-test"), ["pair"]);
    command.args(["--round-trips", "500"]).args(arguments);
    command
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{}", done.err);
    serde_json::from_slice(&done.out).expect("one JSON object")
}

// Would catch a backing that loses, repeats or damages messages, a figure that contradicts the others, and a segment
// left behind.
#[test]
fn every_backing_carries_every_message() {
    for backing in ["file", "memfd", "anonymous"] {
        let room = Room::new();
        let done = run(&mut pair(
            &room,
            &["--json", "--messages", "30000", "--backing", backing],
        ));
        let report = json(&done);
        assert_eq!(report["schema_version"], 1);
        assert_eq!(report["backing"], backing);
        assert_eq!(report["messages"], 30_000);
        assert_eq!(report["bytes"], 30_000 * 8);
        assert_eq!(report["verified"], true);
        let number = |key: &str| report[key].as_f64().expect("a number");
        let rate = number("messages") / number("seconds");
        assert!((number("messages_per_second") / rate - 1.0).abs() < 1e-6);
        assert!(number("gib_per_second") > 0.0);
        let latency = ["p50", "p99", "p99.9", "max"].map(|key| report["latency_ns"][key].as_f64());
        assert!(latency.is_sorted() && latency[0] > Some(0.0), "{latency:?}");
        assert!(room.names().is_empty(), "{:?}", room.names());
    }
}

// Would catch a size whose messages are not what is compiled for it, and batches that skip or repeat at the seam.
#[test]
fn every_size_alone_and_in_batches() {
    let room = Room::new();
    for size in ["8", "64", "256", "1024", "4096"] {
        for batch in ["1", "7"] {
            let run = run(&mut pair(
                &room,
                &[
                    "--json",
                    "--messages",
                    "5000",
                    "--capacity",
                    "32",
                    "--size",
                    size,
                    "--batch",
                    batch,
                ],
            ));
            let report = json(&run);
            assert_eq!(report["verified"], true);
            assert_eq!(
                report["bytes"].as_u64(),
                size.parse::<u64>().ok().map(|size| size * 5000)
            );
        }
    }
}

// Would catch a waiting that loses a wake-up, in which the pair would hang, or a way of waiting that is not passed on.
#[test]
fn every_way_of_waiting() {
    let room = Room::new();
    for wait in ["spin", "adaptive", "block"] {
        let report = json(&run(&mut pair(
            &room,
            &[
                "--json",
                "--messages",
                "3000",
                "--capacity",
                "8",
                "--wait",
                wait,
            ],
        )));
        assert_eq!(report["verified"], true);
        assert_eq!(report["wait"], wait);
    }
}

// Would catch a message that is lost or given twice when the consumer is killed between any two steps of a stream.
#[test]
fn a_second_consumer_goes_on_where_the_commits_of_the_killed_one_end() {
    for (backing, batch) in [
        ("file", "1"),
        ("memfd", "1"),
        ("anonymous", "1"),
        ("file", "16"),
    ] {
        let room = Room::new();
        let report = json(&run(&mut pair(
            &room,
            &[
                "--json",
                "--messages",
                "400000",
                "--kill-consumer-after",
                "20000",
                "--backing",
                backing,
                "--batch",
                batch,
            ],
        )));
        assert_eq!(report["verified"], true);
        assert_eq!(report["messages"], 400_000);
        let over = &report["taken_over"];
        let position = |key: &str| over[key].as_u64().expect("a position");
        assert!(position("verified_before") >= 20_000);
        assert!(position("committed") >= position("verified_before"));
        assert_eq!(position("resumed_at"), position("committed"));
        assert!(room.names().is_empty());
    }
}

// Would catch processes that outlive an interrupted parent, and a segment that it leaves.
#[test]
fn an_interrupted_pair_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let room = Room::new();
        let mut parent = Running::start(&mut pair(&room, &["--seconds", "60"]));
        eventually("two processes", || children_of(parent.pid()).len() == 2);
        let children = children_of(parent.pid());
        parent.signal(signal);
        let done = parent.end();
        assert_eq!(done.code, None, "it ends by the signal: {}", done.err);
        eventually("no process is left", || {
            !children.iter().any(|pid| exists(*pid))
        });
        assert!(room.names().is_empty(), "{:?}", room.names());
    }
}

// Would catch a parent that waits for ever when one of its processes dies under it.
#[test]
fn the_death_of_a_process_is_told() {
    for victim in [0, 1] {
        let room = Room::new();
        let mut parent = Running::start(&mut pair(&room, &["--seconds", "60"]));
        eventually("two processes", || children_of(parent.pid()).len() == 2);
        let children = children_of(parent.pid());
        let pid = Pid::from_raw(children[victim] as i32).expect("a process id");
        kill_process(pid, Signal::KILL).expect("it runs");
        let done = parent.end();
        assert_eq!(done.code, Some(3), "{}", done.err);
        assert!(
            done.err.contains("process was killed by signal 9"),
            "{}",
            done.err
        );
        eventually("no process is left", || {
            !children.iter().any(|pid| exists(*pid))
        });
    }
}

// Would catch an option that is taken although nothing can come of it, and an error that does not say what would do.
#[test]
fn what_cannot_be_is_refused() {
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--size", "9"], 2, "[8, 64, 256, 1024, 4096]"),
        (
            &["--messages", "5", "--seconds", "1"],
            2,
            "cannot be used with",
        ),
        (&["--seconds", "nan"], 2, "a number from 0.001 to 86400"),
        (
            &["--capacity", "1000"],
            1,
            "must be a power of two, such as 1024",
        ),
        (
            &["--capacity", "4611686018427387904"],
            1,
            "would not fit any memory",
        ),
        (
            &["--messages", "10", "--kill-consumer-after", "11"],
            1,
            "there were only 10",
        ),
    ];
    for (arguments, code, message) in cases {
        let room = Room::new();
        let done = run(&mut pair(&room, arguments));
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(message), "{arguments:?}: {}", done.err);
        assert!(done.out.is_empty());
        assert!(room.names().is_empty());
    }
}

// Would catch a pair that polls for a peer that cannot run meanwhile, and a hop that is measured between no two CPUs.
#[test]
fn one_cpu_is_enough() {
    let room = Room::new();
    let allowed = rustix::thread::sched_getaffinity(None).expect("the kernel tells");
    let first = (0..1024).find(|&cpu| allowed.is_set(cpu)).expect("a CPU");
    let ipc = env!("CARGO_BIN_EXE_ipc-under-test");
    let arguments = [
        "-c",
        &first.to_string(),
        ipc,
        "pair",
        "--json",
        "--messages",
        "20000",
    ];
    let mut command = room.command("taskset", arguments);
    let done = match command.args(["--round-trips", "200"]).output() {
        Ok(output) => Done::from(output),
        Err(error) => return println!("skipped: taskset is not here: {error}"),
    };
    let report = json(&done);
    assert_eq!(report["verified"], true);
    assert_eq!(
        (&report["cpus"], &report["hop_ns"]),
        (&Value::Null, &Value::Null)
    );
    assert!(report["latency_ns"]["p50"].as_f64() > Some(0.0));
}

// Would catch a bar where nobody sees it, none where somebody does, and figures that go to the same place.
#[test]
fn a_terminal_gets_a_progress_bar() {
    let room = Room::new();
    let done = run(&mut pair(&room, &["--messages", "1000"]));
    assert_eq!(done.err, "", "nobody sees a bar here");
    let report = String::from_utf8(done.out).expect("text");
    for line in [
        "spsc ring",
        "messages  1,000 in",
        "rate ",
        "latency ",
        "bare hop",
    ] {
        assert!(
            report.lines().any(|found| found.starts_with(line)),
            "{line}: {report}"
        );
    }
    let line = r#""$IPC" pair --seconds 0.3 --round-trips 500 > "$IPC_DIR/out""#;
    let mut command = room.command("script", ["-qec", line, "/dev/null"]);
    let ipc = env!("CARGO_BIN_EXE_ipc-under-test");
    let done = match command.env("IPC", ipc).env("TERM", "xterm").output() {
        Ok(output) => Done::from(output),
        Err(error) => return println!("skipped: script is not here to make a terminal: {error}"),
    };
    let seen = String::from_utf8_lossy(&done.out);
    assert!(
        seen.contains('\u{2588}') && seen.contains(" messages"),
        "{seen:?}"
    );
    let report = std::fs::read_to_string(room.path().join("out")).expect("the report");
    assert!(report.starts_with("spsc ring") && !report.contains('\u{1b}'));
}
