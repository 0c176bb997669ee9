//! What the hot paths cost: instructions and system calls, counted by callgrind and held to recorded figures.

use std::path::{Path, PathBuf};
use std::process::Command;

/// For each path of `hot_paths`: instructions for each message pushed and popped, value read, lock taken and let go, or id.
///
/// A figure that has become smaller is recorded anew: see what the test prints. On another processor or with another
/// compiler a few instructions may be different ones, so there is a tolerance.
const RECORDED: &[(&str, f64)] = &[
    ("spsc", 145.5),
    ("spsc-64", 201.5),
    ("spsc-batch", 9.1),
    ("mpmc", 307.0),
    ("mpmc-batch", 277.0),
    ("bytes-64", 359.0),
    ("bytes-1024", 688.1),
    ("lanes-64", 480.0),
    ("channel", 1043.0),
    ("broadcast-lossy", 143.4),
    ("broadcast-lossless", 172.4),
    ("latest", 38.0),
    ("mutex", 42.0),
    ("lease", 8.0),
];

/// How many more or fewer instructions are allowed: a tenth, and a few.
fn tolerance(recorded: f64) -> f64 {
    recorded * 0.1 + 3.0
}

/// Long enough for the consumers to stream, and for the blocks of ids to be drawn many times.
const MESSAGES: u64 = 65_536;

/// The program as users would build it: optimised, and without what only tests check.
fn hot_paths() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counts");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--locked", "--quiet"])
        .args(["-p", "ipc-ring", "--example", "hot_paths", "--target-dir"])
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status();
    assert!(built.expect("cargo runs").success());
    target.join("release/examples/hot_paths")
}

/// Instructions and system calls of a run.
fn counted(program: &Path, path: &str, count: u64) -> [f64; 2] {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-systime=yes"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(program)
        .args([path, &count.to_string()])
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {text}");
    // "Collected : 1234 5 6": instructions, system calls, and the time of these.
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let numbers = collected
        .map_or("", |(_, numbers)| numbers)
        .split_whitespace();
    let numbers: Vec<f64> = numbers.filter_map(|number| number.parse().ok()).collect();
    assert!(numbers.len() >= 2, "{path}: no counts in {text}");
    [numbers[0], numbers[1]]
}

// Would catch a check, a call or a copy that creeps into the path of every message, and any system call on it.
#[test]
fn hot_paths_cost_what_they_did() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the figures are those of another processor");
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind on this machine");
        return;
    }
    let program = hot_paths();
    let mut wrong = Vec::new();
    for (path, recorded) in RECORDED {
        let [half, whole] = [MESSAGES / 2, MESSAGES].map(|count| counted(&program, path, count));
        let each = |at: usize| (whole[at] - half[at]) / (MESSAGES / 2) as f64;
        let (instructions, calls) = (each(0), each(1));
        println!("{path:20} {instructions:7.1} instructions, {calls:.5} system calls");
        if (instructions - recorded).abs() > tolerance(*recorded) {
            wrong.push(format!("{path}: {instructions:.1} instead of {recorded}"));
        }
        // A lease is renewed now and then.
        if calls > 1.0 / 500.0 {
            wrong.push(format!("{path}: {calls} system calls each"));
        }
    }
    assert!(wrong.is_empty(), "instructions: {wrong:#?}");
}
