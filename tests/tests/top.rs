//! `ipc top`, on a terminal and elsewhere.

use std::process::{Command, Stdio};

use ipc_tests::room::{Room, Running, eventually, run};
use ipc_tests::shape::shape;
use ipc_tests::terminal::Terminal;
use rustix::process::Signal;
use rustix::termios::LocalModes;
use serde_json::Value;

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

/// A producer and a consumer at work over the ring `x`.
fn stream(room: &Room) -> [Running; 2] {
    let zeros = std::fs::File::open("/dev/zero").expect("/dev/zero");
    let producer = Running::start(ipc(room, &["produce", "x"]).stdin(Stdio::from(zeros)));
    let consumer = Running::start(ipc(room, &["consume", "x"]).stdout(Stdio::null()));
    eventually("a stream", || {
        let done = run(&mut ipc(room, &["inspect", "x", "--json"]));
        let seen: Value = serde_json::from_slice(&done.out).unwrap_or_default();
        seen["objects"][0]["ring"]["popped"].as_u64() > Some(0)
    });
    [producer, consumer]
}

// Would catch a screen that shows nothing, lines that do not fit, and a terminal that is not given back as it was.
#[test]
fn it_shows_what_moves_and_leaves_the_terminal_as_it_was() {
    let room = Room::new();
    let _stream = stream(&room);
    for (columns, end) in [(40, "q"), (120, "\x03"), (80, "TERM")] {
        let mut terminal = Terminal::start(ipc(&room, &["top", "-d", "0.1"]), 12, columns);
        terminal.see("the first line", |screen| {
            screen.contains("ipc top  1 segment")
        });
        terminal.see("the ring", |screen| screen.contains("  ring       spsc"));
        if columns > 40 {
            terminal.see("a rate", |screen| {
                screen.contains("k/s") || screen.contains("M/s")
            });
            terminal.see("a past", |screen| screen.contains('█'));
            terminal.see("a lag", |screen| screen.contains(" behind"));
            terminal.see("what is counted", |screen| screen.contains("iB/s"));
        }
        assert!(terminal.screen().alternate_screen() && terminal.screen().hide_cursor());
        assert!(!terminal.settings().local_modes.contains(LocalModes::ECHO));
        match end {
            "TERM" => terminal.signal(Signal::TERM),
            keys => terminal.type_keys(keys),
        }
        let code = terminal.end();
        assert_eq!(code, (end == "q").then_some(0), "{}", terminal.text());
        assert!(!terminal.screen().alternate_screen() && !terminal.screen().hide_cursor());
        let modes = terminal.settings().local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    }
}

// Would catch a rate of zero that is shown before there is any: a ring at full speed would seem to stand still.
#[test]
fn a_rate_is_shown_once_it_is_known() {
    let room = Room::new();
    let _stream = stream(&room);
    let mut terminal = Terminal::start(ipc(&room, &["top", "-d", "600"]), 12, 80);
    terminal.see("a dash", |screen| {
        let ring = screen.lines().find(|line| line.contains("  ring "));
        ring.is_some_and(|line| line.contains("%         -") && !line.contains("/s"))
    });
    terminal.type_keys("q");
    assert_eq!(terminal.end(), Some(0));

    // Where there is no screen to be filled, the first look is kept back.
    let done = run(&mut ipc(&room, &["top", "-d", "0.1", "-n", "1", "--json"]));
    let object: Value = serde_json::from_slice(&done.out).expect("one JSON object");
    let rate = &object["segments"][0]["objects"][0]["pushed_per_second"];
    assert!(rate.as_f64() > Some(0.0), "{object}");
}

// Would catch a screen that stays as wide as the terminal was.
#[test]
fn it_follows_the_size_of_the_terminal() {
    let room = Room::new();
    let _stream = stream(&room);
    let mut terminal = Terminal::start(ipc(&room, &["top", "-d", "0.1"]), 12, 100);
    terminal.see("the whole first line", |screen| screen.contains("q quits"));
    terminal.resize(4, 30);
    // The emulator may have wrapped what was drawn for the old size, and join what is on the next line.
    terminal.see("a cut line", |screen| screen.chars().nth(29) == Some('…'));
    terminal.see("what is hidden", |screen| screen.contains("lines more"));
    terminal.type_keys("q");
    assert_eq!(terminal.end(), Some(0));
}

// Would catch escape codes in a pipe, JSON of another shape, and a look that goes on when nobody reads it.
#[test]
fn it_is_plain_where_there_is_no_terminal() {
    let room = Room::new();
    let _stream = stream(&room);
    let done = run(&mut ipc(&room, &["top", "-d", "0.1", "-n", "2"]));
    let text = String::from_utf8(done.out).expect("text");
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        assert!(
            line.starts_with("x ring spsc pushed/s ") && !line.contains('\x1b'),
            "{line}"
        );
        assert!(
            line.contains("attached 2") && line.contains(" behind, "),
            "{line}"
        );
        assert!(
            line.contains("; producer process ") && line.matches("iB/s").count() == 2,
            "{line}"
        );
    }

    let done = run(&mut ipc(&room, &["top", "-d", "0.1", "-n", "1", "--json"]));
    let object: Value = serde_json::from_slice(&done.out).expect("one JSON object");
    assert_eq!(object["schema_version"], 1);
    insta::assert_json_snapshot!("top", shape(&object));

    let done = run(&mut ipc(&room, &["top", "nothing"]));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("there is no segment at"), "{}", done.err);

    let mut endless = Running::start(&mut ipc(&room, &["top", "-d", "0.1"]));
    drop(endless.child().stdout.take());
    let done = endless.end();
    assert_eq!((done.code, &*done.err), (None, ""));
}
