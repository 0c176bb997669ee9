//! The examples of locks, registers, event loops and streams, each run.

use std::process::{Command, Output};

fn run(command: &mut Command) -> Output {
    let room = tempfile::Builder::new()
        .prefix("ipc-test-")
        .tempdir_in("/dev/shm")
        .expect("a directory");
    let output = command
        .env("IPC_DIR", room.path().join("ipc"))
        .output()
        .expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let left = std::fs::read_dir(room.path().join("ipc")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a segment is left");
    output
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

// Would catch a death that is not told, and a repair that does not last.
#[test]
fn lock_and_die() {
    let output = run(&mut Command::new(env!("CARGO_BIN_EXE_lock_and_die")));
    assert_eq!(
        says(&output),
        "the holder died and left 70 + 0\nrepaired: 100 + 0\n"
    );
}

// Would catch a reader that sees torn or old positions, or none.
#[test]
fn latest_writer_and_reader() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_latest_writer")).args(["--role", "both"]));
    let said = says(&output);
    assert!(said.contains("writer: set 500 positions\n"), "{said}");
    assert!(
        said.contains("of 500 positions, the last at 10.00\n"),
        "{said}"
    );
}

// Would catch a ring that does not make its descriptor readable.
#[test]
fn event_loop() {
    let output = run(&mut Command::new(env!("CARGO_BIN_EXE_event_loop")));
    assert!(
        says(&output).starts_with("30000 messages from 3 rings"),
        "{}",
        says(&output)
    );
}

// Would catch a waker that is not called, and a message that is lost between the stream and the descriptor.
#[test]
fn tokio_stream() {
    let output = run(&mut Command::new(env!("CARGO_BIN_EXE_tokio_stream")));
    assert_eq!(
        says(&output),
        "2000 messages through a stream and a descriptor\n"
    );
}
