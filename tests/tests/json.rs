//! What the commands give to programs: the JSON of each, how it ends, and what it does when nobody reads.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use ipc_ring::{Ring, spsc};
use ipc_tests::room::{Room, Running, run};
use ipc_tests::shape::shape;
use ipc_tests::terminal::Terminal;
use rustix::process::Signal;
use serde_json::Value;

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

/// A ring `x` with five numbers in it.
fn ring(room: &Room) -> spsc::Ring<u64> {
    let options = spsc::Ring::<u64>::options().capacity(8);
    let ring = options.create(room.path().join("x").as_path());
    let ring = ring.expect("a ring");
    let mut producer = ring.producer().expect("a producer");
    producer.push_slice(&[1, 2, 3, 4, 5]).expect("room");
    ring
}

/// One JSON object of the version that is promised.
fn object(text: &[u8]) -> Value {
    let text = String::from_utf8_lossy(text);
    let object: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(object["schema_version"], 1, "{object}");
    object
}

// Would catch JSON whose members were renamed, removed, or given another type without another version. Those of `ls`,
// `inspect`, `doctor`, `tail`, `top`, `record` and `replay` are held in the tests of their own.
#[test]
fn the_shapes_are_kept() {
    let room = Room::new();
    let out = |arguments: &[&str]| {
        let done = run(&mut ipc(&room, arguments));
        assert_eq!((done.code, &*done.err), (Some(0), ""), "{arguments:?}");
        object(&done.out)
    };
    let short = [
        "pair",
        "--json",
        "--messages",
        "1000",
        "--round-trips",
        "100",
    ];
    insta::assert_json_snapshot!("pair", shape(&out(&short)));

    let file = room.path().join("ids");
    let file = file.to_str().expect("text");
    let made = out(&["id", "init", file, "--json"]);
    assert_eq!(
        (&made["path"], &made["last"]),
        (&file.into(), &0.into()),
        "{made}"
    );
    insta::assert_json_snapshot!("id", shape(&out(&["id", "get", file, "--json"])));
    assert_eq!(out(&["id", "get", file, "--json"])["id"], 2);
    assert_eq!(out(&["id", "lease", file, "--json"])["id"], 3);
    let shown = shape(&out(&["id", "show", file, "--json"]));
    assert_eq!(shape(&made), shown);
    insta::assert_json_snapshot!("id-show", shown);
    let copy = format!("{file}-copy");
    fs::copy(file, &copy).expect("room");
    let adopted = out(&["id", "adopt", &copy, "--json"]);
    assert_eq!((shape(&adopted), &adopted["epoch"]), (shown, &1.into()));
    let mut server = Running::start(&mut ipc(&room, &["id", "serve", file, "--json"]));
    let mut line = String::new();
    let out_of_server = server.child().stdout.as_mut().expect("a pipe");
    BufReader::new(out_of_server)
        .read_line(&mut line)
        .expect("a line");
    let listens = object(line.as_bytes());
    let socket = listens["socket"].as_str().expect("a path");
    assert!(
        fs::metadata(socket).is_ok(),
        "it is told before it is there"
    );
    insta::assert_json_snapshot!("id-serve", shape(&listens));
    server.signal(Signal::TERM);
    let done = server.end();
    assert_eq!((done.code, &*done.err), (None, ""));

    let mut producer =
        Running::start(ipc(&room, &["produce", "s", "--json"]).stdin(Stdio::piped()));
    drop(producer.child().stdin.take());
    let consumed = run(&mut ipc(&room, &["consume", "s", "--json"]));
    let produced = producer.end();
    assert_eq!((produced.code, consumed.code), (Some(0), Some(0)));
    let [produced, consumed] = [produced, consumed].map(|done| object(done.err.as_bytes()));
    assert_eq!(shape(&produced), shape(&consumed));
    insta::assert_json_snapshot!("stream", shape(&produced));

    ring(&room);
    let done = run(&mut ipc(&room, &["rm", "x", "nothing", "--json"]));
    assert_eq!(done.code, Some(1));
    let told = object(&done.out);
    assert_eq!(told["removed"], serde_json::json!(["x"]));
    insta::assert_json_snapshot!("rm", shape(&told));
}

// Would catch a command that prints figures for people only.
#[test]
fn every_command_with_something_to_tell_has_json() {
    let room = Room::new();
    for name in [
        "pair", "produce", "consume", "ls", "inspect", "doctor", "tail", "top", "record", "replay",
        "bench", "rm", "id init", "id show", "id get", "id lease", "id serve", "id adopt",
    ] {
        let words: Vec<&str> = name.split(' ').chain(["--help"]).collect();
        let help = run(&mut ipc(&room, &words));
        assert!(
            String::from_utf8_lossy(&help.out).contains("--json"),
            "{name}"
        );
    }
}

// Would catch an exit code that scripts cannot rely on, and an error that does not say where and what to do.
#[test]
fn what_is_not_there_is_an_error_that_says_where() {
    let room = Room::new();
    let file = room.path().join("file");
    let file = file.to_str().expect("text");
    let path = room.path().join("nothing");
    let path = path.to_str().expect("text");
    for arguments in [
        &["inspect", "nothing"][..],
        &["tail", "nothing"],
        &["record", "nothing", file],
        &["top", "nothing", "-n", "1"],
        &["rm", "nothing"],
        &["inspect", path],
        &["tail", path],
        &["rm", path],
        &["id", "show", path],
        &["id", "get", path],
        &["id", "lease", path],
        &["id", "serve", path],
        &["id", "adopt", path],
        &["replay", path, "x"],
    ] {
        let done = run(&mut ipc(&room, arguments));
        assert_eq!(
            (done.code, done.out.len()),
            (Some(1), 0),
            "{arguments:?}: {}",
            done.err
        );
        assert!(done.err.starts_with("ipc: "), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(path), "{arguments:?}: {}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{arguments:?}: {}", done.err);
        assert!(
            room.names().is_empty(),
            "{arguments:?} makes {:?}",
            room.names()
        );
    }
    let done = run(&mut ipc(&room, &["consume", "x", "--timeout", "0.1"]));
    assert_eq!(done.code, Some(4), "{}", done.err);
}

// Would catch a command that complains, or goes on for ever, when its reader has gone.
#[test]
fn a_closed_pipe_ends_every_command_without_a_word() {
    let room = Room::new();
    let ring = ring(&room);
    let file = room.path().join("ids");
    let file = file.to_str().expect("text");
    assert_eq!(run(&mut ipc(&room, &["id", "init", file])).code, Some(0));
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["inspect", "x"],
        &["inspect", "x", "--json"],
        &["doctor", "x", "--watch", "0"],
        &["doctor", "x", "--watch", "0", "--json"],
        &["tail", "x"],
        &["tail", "x", "--new"],
        &["tail", "x", "--json"],
        &["top", "x", "-d", "0.1"],
        &["top", "x", "-d", "0.1", "--json"],
        &["record", "x", "-"],
        &["id", "show", file],
        &["id", "get", file, "--count", "3"],
        &["id", "lease", file, "--count", "3"],
        &["completions", "bash"],
        &["man", "pair"],
        &["pair", "--json", "--messages", "10", "--round-trips", "10"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut child = ipc(&room, arguments)
            .stdout(writer)
            .spawn()
            .expect("it starts");
        let status = child.wait().expect("a child of ours");
        let mut err = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut err).expect("text");
        assert_eq!(
            (status.signal(), &*err),
            (Some(13), ""),
            "{arguments:?}: {status}"
        );
    }
    assert_eq!(ring.len(), 5);
}

// Would catch a command that dies of a message that nobody can read.
#[test]
fn messages_that_nobody_reads_harm_nobody() {
    let room = Room::new();
    let file = room.path().join("recording");
    ring(&room);
    for (arguments, code) in [
        (&["rm", "a", "b"][..], 1),
        (&["inspect", "nothing"], 1),
        (&["doctor", "nothing"], 1),
        (
            &["record", "x", file.to_str().expect("text"), "--no-follow"],
            0,
        ),
        (&["replay", file.to_str().expect("text"), "y", "--fast"], 0),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = ipc(&room, arguments);
        command.stdout(Stdio::null()).stderr(writer);
        let done = run(&mut command);
        assert_eq!(done.code, Some(code), "{arguments:?}");
    }
}

// Would catch a directory of others whose every file is called a broken segment.
#[test]
fn a_directory_that_is_not_to_be_trusted_is_refused_once() {
    let room = Room::new();
    let open = room.path().join("open");
    fs::create_dir(&open).expect("a directory");
    fs::write(open.join("file"), "anything").expect("a file");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("ours");
    let done = run(ipc(&room, &["ls"]).env("IPC_DIR", &open));
    assert_eq!((done.code, done.out.len()), (Some(1), 0), "{}", done.err);
    assert!(done.err.contains("is open to others"), "{}", done.err);
}

// Would catch a command that panics where a path is no text: JSON is text, and a path is any bytes.
#[test]
fn a_directory_of_any_name_is_told() {
    let room = Room::new();
    let odd = room.path().join(OsStr::from_bytes(b"odd-\xff"));
    fs::create_dir(&odd).expect("a directory");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o700)).expect("ours");
    let ids = odd.join("ids");
    let odd_run = |arguments: &[&OsStr]| {
        let mut command = room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments);
        let done = run(command.env("IPC_DIR", &odd));
        // What doctor finds of the machine is not asked here.
        assert!(done.code <= Some(1), "{arguments:?}: {}", done.err);
        assert!(
            !done.err.contains("panicked"),
            "{arguments:?}: {}",
            done.err
        );
        object(&done.out).to_string()
    };
    for arguments in [
        &["id", "init", "", "--json"][..],
        &["id", "show", "", "--json"],
        &["ls", "--json"],
        &["inspect", "ids", "--json"],
        &["doctor", "--json", "--watch", "0"],
        &["top", "-n", "1", "--json"],
    ] {
        let or_ids = |text: &&'static str| match *text {
            "" => ids.clone().into_os_string(),
            text => text.into(),
        };
        let arguments: Vec<_> = arguments.iter().map(or_ids).collect();
        let arguments: Vec<&OsStr> = arguments.iter().map(|text| &**text).collect();
        let told = odd_run(&arguments);
        let names_it = !arguments.contains(&OsStr::new("top"));
        assert!(!names_it || told.contains("odd-\u{fffd}"), "{told}");
    }
}

// Would catch a name in JSON that is not the one to give to another command, and one that a terminal would obey.
#[test]
fn a_name_that_is_not_ascii_is_told_as_it_is() {
    let room = Room::new();
    let options = spsc::Ring::<u64>::options();
    let ring = options.create(room.path().join("\u{e9}").as_path());
    drop(ring.expect("a ring"));
    let listed = object(&run(&mut ipc(&room, &["ls", "--json"])).out);
    assert_eq!(listed["segments"][0]["name"], "\u{e9}");
    let shown = run(&mut ipc(&room, &["ls"])).out;
    assert!(String::from_utf8_lossy(&shown).contains("\n\\u{e9} "));
    let done = run(&mut ipc(&room, &["rm", "\u{e9}"]));
    assert_eq!(done.code, Some(0), "{}", done.err);
}

// Would catch a full disk that is told without saying of what, and a recording of which what was written is lost.
#[test]
fn a_full_disk_is_told_with_the_name_of_the_file() {
    let room = Room::new();
    ring(&room);
    let mut command = ipc(&room, &["record", "x", "-", "--no-follow"]);
    let full = fs::File::options().write(true).open("/dev/full");
    let done = run(command.stdout(full.expect("/dev/full")));
    assert_eq!(done.code, Some(1));
    let said = "ipc: cannot write \"-\": No space left on device";
    assert!(done.err.starts_with(said), "{}", done.err);
    for arguments in [&["ls"][..], &["inspect", "x", "--json"], &["man", "pair"]] {
        let full = fs::File::options().write(true).open("/dev/full");
        let mut command = ipc(&room, arguments);
        let done = run(command.stdout(full.expect("/dev/full")));
        let said = "ipc: cannot write to standard output: No space left on device";
        assert!(done.err.starts_with(said), "{arguments:?}: {}", done.err);
        assert_eq!(done.code, Some(1), "{arguments:?}");
    }
}

// Would catch colours that nobody asked for, and none where they help.
#[test]
fn colours_are_for_terminals_that_want_them() {
    let room = Room::new();
    let _ring = ring(&room);
    for arguments in [&["ls"][..], &["inspect", "x"], &["doctor", "--watch", "0"]] {
        // The terminal says what it is; `env` says otherwise.
        let seen = |variable: &str| {
            let program = env!("CARGO_BIN_EXE_ipc-under-test");
            let command = room.command(
                "env",
                [&["-u", "NO_COLOR", variable, program], arguments].concat(),
            );
            let mut terminal = Terminal::start(command, 40, 100);
            assert_eq!(terminal.end(), Some(0), "{}", terminal.text());
            terminal.written()
        };
        assert!(seen("NO_COLOR=").contains('\u{1b}'), "{arguments:?}");
        for variable in ["NO_COLOR=1", "TERM=dumb"] {
            let seen = seen(variable);
            assert!(!seen.contains('\u{1b}'), "{arguments:?}: {seen:?}");
        }
        let done = run(&mut ipc(&room, arguments));
        assert!(!done.out.contains(&0x1b), "{arguments:?}");
    }
}
