//! The application of the guide, run as its reader would run it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory for segments of one's own.
fn room() -> TempDir {
    tempfile::Builder::new()
        .prefix("ipc-test-")
        .tempdir_in("/dev/shm")
        .expect("a directory in /dev/shm")
}

fn order_feed(room: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order_feed"));
    command
        .args(arguments)
        .env("IPC_DIR", room.path().join("ipc"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_is_lost_or_done_twice_while_its_processes_are_killed() {
    // Catches an order that is lost with its worker, filled by two, or given the id of another.
    let room = room();
    let said = succeeded(order_feed(&room, &[]).output().unwrap());
    assert!(
        said.ends_with("3000 orders confirmed, 3000 filled: none lost, none twice\n"),
        "{said}"
    );
    assert!(said.starts_with("60 kills; "), "{said}");
    let left = std::fs::read_dir(room.path().join("ipc")).unwrap().count();
    assert_eq!(left, 0, "segments are left");
}

#[test]
fn its_parts_can_be_started_by_hand() {
    // Catches a part that needs another one to be there, and a check that finds nothing wrong whatever it is given.
    let (room, files) = (room(), tempfile::tempdir().unwrap());
    let files = files.path().to_str().unwrap();
    let confirmed = succeeded(order_feed(&room, &["feed", files, "100"]).output().unwrap());
    assert_eq!(confirmed.lines().count(), 100);
    // Nobody has filled anything yet.
    let check = |confirmed: &str| {
        let mut check = order_feed(&room, &["check", files]).spawn().unwrap();
        let mut input = check.stdin.take().unwrap();
        input.write_all(confirmed.as_bytes()).unwrap();
        drop(input);
        check.wait_with_output().unwrap()
    };
    let too_early = check(&confirmed);
    assert_eq!(too_early.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&too_early.stderr).contains("was confirmed and never filled"));
    let worker = order_feed(&room, &["worker", files]).spawn().unwrap();
    succeeded(order_feed(&room, &["close"]).output().unwrap());
    succeeded(worker.wait_with_output().unwrap());
    assert_eq!(
        succeeded(check(&confirmed)),
        "100 orders confirmed, 100 filled: none lost, none twice\n"
    );
    let twice = check(&format!("{confirmed}{confirmed}"));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("was given twice"));
    let usage = order_feed(&room, &["fed"]).output().unwrap();
    assert!(String::from_utf8_lossy(&usage.stderr).contains("usage: order_feed"));
}
