//! `ipc id` and `glob-id`, run as a user would run them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn ipc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipc-under-test"))
        .arg("id")
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn path(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

// A number that is given by two commands, or skipped between two, breaks the strict order that `get` promises.
#[test]
fn get_goes_on_where_the_last_command_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "ids");
    stdout(&ipc(&["init", &file]));
    assert_eq!(stdout(&ipc(&["get", &file])), "1\n");
    assert_eq!(stdout(&ipc(&["get", &file, "--count", "3"])), "2\n3\n4\n");
    assert_eq!(stdout(&ipc(&["lease", &file, "--count", "2"])), "5\n6\n");
    assert_eq!(
        stdout(&ipc(&["lease", &file])),
        "7\n",
        "what is left of a block is not thrown away"
    );
    let shown: serde_json::Value =
        serde_json::from_str(&stdout(&ipc(&["show", &file, "--json"]))).unwrap();
    assert_eq!(
        (&shown["schema_version"], &shown["epoch"]),
        (&1.into(), &0.into())
    );
    assert_eq!(
        (&shown["last"], &shown["leased"], &shown["lost"]),
        (&4100.into(), &4093.into(), &0.into())
    );
    assert!(shown["changed_unix_ns"].as_u64().unwrap() > 1_700_000_000_000_000_000);
    assert!(stdout(&ipc(&["show", &file])).contains("last id drawn   4100"));
}

// An init that replaced the file would give every id a second time.
#[test]
fn what_is_there_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "ids");
    stdout(&ipc(&["init", &file]));
    stdout(&ipc(&["get", &file]));
    let again = ipc(&["init", &file]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("exists already"),
        "{again:?}"
    );
    assert_eq!(stdout(&ipc(&["get", &file])), "2\n");
    let other = path(&directory, "other");
    std::fs::write(&other, vec![7; 8192]).unwrap();
    let refused = ipc(&["get", &other]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("not a segment"),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&other).unwrap(), vec![7; 8192]);
    let missing = ipc(&["get", &path(&directory, "missing")]);
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("there is no segment at"),
        "{missing:?}"
    );
    assert_eq!(ipc(&["get"]).status.code(), Some(2));
}

// A copy that goes on counting gives the ids of the original again.
#[test]
fn a_copy_must_be_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let (file, copy) = (path(&directory, "ids"), path(&directory, "copy"));
    stdout(&ipc(&["init", &file]));
    stdout(&ipc(&["get", &file]));
    std::fs::copy(&file, &copy).unwrap();
    let refused = ipc(&["get", &copy]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("adopt"),
        "{refused:?}"
    );
    stdout(&ipc(&["adopt", &copy]));
    assert_eq!(
        stdout(&ipc(&["get", &copy])),
        format!("{}\n", (1_u64 << 48) + 1)
    );
    assert_eq!(stdout(&ipc(&["get", &file])), "2\n");
}

// A client that takes whatever the server says: more ids than it asked for, or for ever.
#[test]
fn a_server_that_lies_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = path(&directory, "socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers = [
        ("1 18446744073709551615\n", 1),
        ("2 1\n", 1),
        ("5\n", 1),
        ("1", 1),
        ("", 3),
    ];
    for (answer, code) in answers {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (client, _) = listener.accept().unwrap();
                let mut client = BufReader::new(client);
                client.read_line(&mut String::new()).unwrap();
                client.get_mut().write_all(answer.as_bytes()).unwrap();
            });
            let refused = ipc(&["get", &socket, "--count", "3"]);
            assert_eq!(refused.status.code(), Some(code), "{refused:?}");
            assert!(!refused.stderr.is_empty(), "{refused:?}");
            assert!(refused.stdout.is_empty(), "{refused:?}");
        });
    }
}

// A server that leaves its socket behind, or refuses to start over a dead one's, needs a person to clean up.
#[test]
fn a_server_draws_for_others_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "ids");
    stdout(&ipc(&["init", &file]));
    let socket = format!("{file}.sock");
    // A socket that a killed server left behind.
    drop(UnixListener::bind(&socket).unwrap());
    let mut server = Command::new(env!("CARGO_BIN_EXE_ipc-under-test"))
        .args(["id", "serve", &file])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stderr.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains(&socket), "{line}");
    assert_eq!(stdout(&ipc(&["get", &socket])), "1\n");
    assert_eq!(stdout(&ipc(&["get", &socket, "--count", "2"])), "2\n3\n");
    // A client without an end of its line is let go, before its line has filled the memory; others do not notice.
    let mut hostile = UnixStream::connect(&socket).unwrap();
    let sent = (0..64).try_for_each(|_| hostile.write_all(&[b'1'; 64 << 10]));
    assert!(sent.is_err() || hostile.read(&mut [0]).is_ok_and(|len| len == 0));
    let mut asks = UnixStream::connect(&socket).unwrap();
    asks.write_all(b"0\nmany\n").unwrap();
    let mut answers = BufReader::new(asks).lines();
    for what in ["\"0\"", "\"many\""] {
        let answer = answers.next().unwrap().unwrap();
        let expected = format!("error: a number from 1 to 1000000 is expected, not {what}");
        assert_eq!(answer, expected);
    }
    // Without the server as well: the file is the truth.
    assert_eq!(stdout(&ipc(&["get", &file])), "4\n");
    let second = ipc(&["serve", &file]);
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("a server is at"),
        "{second:?}"
    );
    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while server.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "the server did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!Path::new(&socket).exists());
}
