//! The comparison: what it gives to programs and to people. Not what it measures.

use std::collections::BTreeSet;
use std::process::Command;

use ipc_tests::room::{Done, Room, run};
use ipc_tests::shape::shape;
use serde_json::Value;

fn benches(room: &Room, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_ipc-benches-under-test");
    room.command(program, arguments.iter().copied())
}

/// Whether a pair of processes has a CPU each.
fn two_cpus() -> bool {
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2);
    if !two {
        println!("skipped: there is one CPU, and nothing can be measured between two");
    }
    two
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{}", done.err);
    serde_json::from_slice(&done.out).expect("one JSON object")
}

/// A run of some suites and subjects that takes a moment.
fn short(room: &Room, suites: &str, subjects: &str) -> Value {
    let done = run(&mut benches(
        room,
        &[
            "--json",
            "--quick",
            "--seconds",
            "1",
            "--payloads",
            "8",
            "--suites",
            suites,
            "--subjects",
            subjects,
        ],
    ));
    json(&done)
}

// Would catch a figure that programs look for and that has another name, or none.
#[test]
fn a_report_has_the_shape_that_programs_rely_on() {
    if !two_cpus() {
        return;
    }
    let room = Room::new();
    let report = short(&room, "throughput", "spsc,handover,pipe");
    assert_eq!(report["schema_version"], 1);
    insta::assert_json_snapshot!("bench", shape(&report));
    let rows = report["rows"].as_array().expect("rows");
    let ratios = report["ratios"].as_array().expect("ratios");
    assert!(!rows.is_empty() && !ratios.is_empty());
    let common = [
        "suite",
        "payload_bytes",
        "batch",
        "processes",
        "metric",
        "regime",
    ];
    let expected =
        |more: &[&'static str]| -> BTreeSet<&str> { common.iter().chain(more).copied().collect() };
    for row in rows {
        let more = [
            "subject", "side", "median", "low", "high", "min", "max", "rounds",
        ];
        assert_eq!(keys(row), expected(&more));
        let number = |key: &str| row[key].as_f64().expect("a number");
        assert!(number("min") <= number("median") && number("median") <= number("max"));
        assert!(number("min") > 0.0 && number("rounds") >= 1.0, "{row}");
        assert_eq!(
            (&row["suite"], &row["processes"]),
            (&"throughput".into(), &2.into())
        );
    }
    for ratio in ratios {
        let more = ["ours", "peer", "times_faster", "low", "high", "rounds"];
        assert_eq!(keys(ratio), expected(&more));
        assert_eq!(ratio["ours"], "spsc");
        let number = |key: &str| ratio[key].as_f64().expect("a number");
        assert!(number("low") <= number("times_faster"));
        assert!(number("times_faster") <= number("high") && number("low") > 0.0);
    }
    let names = |list: &[Value], key: &str| -> BTreeSet<String> {
        let name = |entry: &Value| entry[key].as_str().expect("a name").to_owned();
        list.iter().map(name).collect()
    };
    let subjects = ["handover", "pipe", "spsc", "spsc-again"].map(String::from);
    assert_eq!(names(rows, "subject"), BTreeSet::from(subjects));
    // In place, a pipe cannot take part.
    assert!(names(ratios, "peer").is_superset(&["pipe", "spsc-again"].map(String::from).into()));
}

// Would catch an `ipc bench` that measures something else, or tells it in another way, than the harness itself.
#[test]
fn the_command_gives_the_same_report() {
    if !two_cpus() {
        return;
    }
    let room = Room::new();
    let program = env!("CARGO_BIN_EXE_ipc-under-test");
    let part = ["--suites", "throughput", "--subjects", "spsc,handover,pipe"];
    let how = ["bench", "--json", "--quick", "--seconds", "1", "--payloads"];
    let report = json(&run(
        &mut room.command(program, how.iter().chain(&["8"]).chain(&part).copied())
    ));
    insta::assert_json_snapshot!("bench", shape(&report));
}

// Would catch a suite that fails, and a subject that takes no part where it should or is not known by its name.
#[test]
fn every_suite_and_every_subject_takes_part() {
    if !two_cpus() {
        return;
    }
    let room = Room::new();
    let cases = [
        (
            "latency",
            "spsc,mpmc,bytes,lanes,broadcast,channel,hop,pipe,unix-socket,posix-mq",
        ),
        ("throughput", "spsc,memcpy,handover"),
        ("mpmc", "mpmc,fetch-add"),
        ("broadcast", "broadcast"),
        ("wake", "spsc,futex"),
        (
            "ids",
            "ids-leased,ids-durable,ids-strict,local-counter,fetch-add",
        ),
        ("locks", "mutex,pthread-mutex,compare-exchange"),
        ("latest", "latest"),
        ("cold", "spsc,bytes"),
        ("cpu", "spsc"),
    ];
    for (suite, subjects) in cases {
        let payload = if suite == "latest" { "56" } else { "8" };
        let done = run(&mut benches(
            &room,
            &[
                "--json",
                "--quick",
                "--seconds",
                "1",
                "--payloads",
                payload,
                "--suites",
                suite,
                "--subjects",
                subjects,
            ],
        ));
        let report = json(&done);
        assert_eq!(report["skipped"], Value::Array(vec![]), "{suite}");
        let rows = report["rows"].as_array().expect("rows");
        for subject in subjects.split(',') {
            // A round that the machine spoiled is thrown away.
            let discarded = report["noise"]["discarded_rounds"].as_u64() > Some(0);
            let there = rows.iter().any(|row| row["subject"] == subject);
            assert!(there || discarded, "{subject} took no part in {suite}");
        }
    }
}

// Would catch a page that needs anything from elsewhere, and one without its tables and plots.
#[test]
fn a_page_needs_nothing_else() {
    if !two_cpus() {
        return;
    }
    let room = Room::new();
    let file = room.path().join("page.html");
    let path = file.to_str().expect("a path of text");
    let done = run(&mut benches(
        &room,
        &[
            "--html",
            path,
            "--quick",
            "--seconds",
            "1",
            "--payloads",
            "8",
            "--suites",
            "latency,throughput",
            "--subjects",
            "spsc,pipe",
        ],
    ));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let page = std::fs::read_to_string(&file).expect("a page");
    for part in [
        "<!doctype html>",
        "prefers-color-scheme: dark",
        "<svg",
        "<table>",
        "viewport",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    for elsewhere in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(elsewhere), "it needs {elsewhere}");
    }
    let text = String::from_utf8_lossy(&done.out).into_owned();
    assert!(text.contains("throughput, 8 B: ns per message") && text.contains("times as fast"));
}

// Would catch a slip of the pen that is measured as nothing at all.
#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    if !two_cpus() {
        return;
    }
    let room = Room::new();
    for (option, name, known) in [
        ("--suites", "latencies", "throughput"),
        ("--subjects", "spcs", "posix-mq"),
        ("--payloads", "7", "65536"),
    ] {
        let done = run(&mut benches(&room, &["--quick", option, name]));
        assert_eq!(done.code, Some(1));
        assert!(
            done.err.contains(name) && done.err.contains(known),
            "{}",
            done.err
        );
    }
}
