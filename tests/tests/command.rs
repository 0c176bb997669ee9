//! The command line itself, and the commands that only look.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ipc_tests::room::{Done, Room, Running, eventually, run};
use rustix::process::Signal;
use serde_json::Value;

const SUBCOMMANDS: [&str; 15] = [
    "pair",
    "produce",
    "consume",
    "id",
    "ls",
    "inspect",
    "doctor",
    "tail",
    "top",
    "record",
    "replay",
    "bench",
    "rm",
    "completions",
    "man",
];

/// What `ipc id` can do.
const IDS: [&str; 6] = ["init", "show", "get", "lease", "serve", "adopt"];

fn ipc(room: &Room, arguments: &[&str]) -> Command {
    room.command(env!("CARGO_BIN_EXE_ipc-under-test"), arguments)
}

fn text(done: &Done) -> String {
    assert_eq!((done.code, &*done.err), (Some(0), ""));
    String::from_utf8(done.out.clone()).expect("text")
}

fn segments(room: &Room) -> Vec<Value> {
    let listed = text(&run(&mut ipc(room, &["ls", "--json"])));
    let object: Value = serde_json::from_str(&listed).expect("one JSON object");
    assert_eq!(object["schema_version"], 1);
    assert_eq!(object["directory"], *room.path().to_string_lossy());
    object["segments"].as_array().expect("a list").clone()
}

// Would catch a help that is an error, a mistake that is none, and exit codes that scripts cannot rely on.
#[test]
fn help_and_mistakes_have_their_exit_codes() {
    let room = Room::new();
    for name in SUBCOMMANDS {
        let help = text(&run(&mut ipc(&room, &[name, "--help"])));
        assert!(help.contains(&format!("Usage: ipc {name}")), "{help}");
    }
    let help = text(&run(&mut ipc(&room, &["--help"])));
    let listed: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed.len(), SUBCOMMANDS.len(), "{listed:?}");
    assert!(listed.iter().all(|name| SUBCOMMANDS.contains(name)));
    assert!(
        help.contains("Exit codes: 0 done, 1 failed, 2 usage"),
        "{help}"
    );
    for mistake in [
        &[][..],
        &["no-such-command"],
        &["pair", "--no-such-option"],
        &["rm"],
    ] {
        let done = run(&mut ipc(&room, mistake));
        assert_eq!(done.code, Some(2), "{mistake:?}");
        assert!(done.err.contains("Usage: ipc"), "{}", done.err);
    }
}

// Would catch a wrong name that is answered as though a race had failed, and a page of an earlier run that is lost to it.
#[test]
fn to_race_what_there_is_not_is_a_mistake_of_usage() {
    let room = Room::new();
    let page = room.path().join("page.html");
    fs::write(&page, "earlier").expect("a file");
    let page = page.to_str().expect("a path in ASCII");
    for wrong in [
        ["--suites", "x"],
        ["--subjects", "x"],
        ["--payloads", "3"],
        ["--cpus", "999"],
    ] {
        let arguments = [&["bench", "--html", page], &wrong[..]].concat();
        let done = run(&mut ipc(&room, &arguments));
        assert_eq!(done.code, Some(2), "{wrong:?}: {}", done.err);
        assert!(done.err.contains("there"), "{wrong:?}: {}", done.err);
        assert_eq!(fs::read_to_string(page).expect("the page"), "earlier");
    }
}

// Would catch a segment that is not seen, a process taken for dead or alive that is not, and a look that changes
// or trips over what it looks at.
#[test]
fn ls_tells_what_there_is_and_who_uses_it() {
    let room = Room::new();
    assert_eq!(segments(&room), [] as [Value; 0]);
    let mut producer = Running::start(ipc(&room, &["produce", "x"]).stdin(Stdio::piped()));
    eventually("a producer", || {
        segments(&room)
            .first()
            .is_some_and(|x| x["state"] == "in-use")
    });
    fs::write(room.path().join("note"), [b'a'; 8192]).expect("a file");
    fs::write(room.path().join(".hidden"), b"").expect("a file");

    let listed = segments(&room);
    assert_eq!(listed.len(), 2);
    let (note, x) = (&listed[0], &listed[1]);
    assert_eq!(
        (&note["name"], &note["state"]),
        (&"note".into(), &"broken".into())
    );
    assert!(
        note["error"]
            .as_str()
            .is_some_and(|error| error.contains("not a segment"))
    );
    assert_eq!((&x["name"], &x["kinds"][0]), (&"x".into(), &"spsc".into()));
    assert_eq!(x["processes"][0], producer.pid());
    assert_eq!(
        x["bytes"],
        fs::metadata(room.path().join("x")).expect("a file").len()
    );

    let table = text(&run(&mut ipc(&room, &["ls"])));
    let begin = "x     spsc  1.02 MiB    0%         1        ";
    let end = format!("  in use  {}", producer.pid());
    let fits = |line: &str| line.starts_with(begin) && line.ends_with(&end);
    assert!(table.lines().any(fits), "{table}");

    let pid = producer.pid();
    producer.signal(Signal::KILL);
    assert_eq!(producer.end().code, None);
    let x = &segments(&room)[1];
    assert_eq!((&x["state"], &x["dead"][0]), (&"stale".into(), &pid.into()));
    assert_eq!(run(&mut ipc(&room, &["rm", "x"])).code, Some(0));
    assert_eq!(
        fs::read(room.path().join("note")).expect("it is there"),
        [b'a'; 8192]
    );
    assert_eq!(room.names(), [".hidden", "note"]);
}

// Would catch a directory that is made by looking at it.
#[test]
fn ls_makes_nothing() {
    let room = Room::new();
    let done = run(ipc(&room, &["ls"]).env("IPC_DIR", room.path().join("not-there")));
    assert_eq!(
        text(&done),
        "NAME  KIND  SIZE  USED  ATTACHED  WAITING  STATE  PROCESSES\n"
    );
    assert!(room.names().is_empty());
}

// Would catch a script that its shell cannot read, and a subcommand that is missing in it.
#[test]
fn completions_are_scripts_of_their_shell() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(&mut ipc(&room, &["completions", shell])));
        for name in SUBCOMMANDS {
            assert!(script.contains(name), "{shell}: {name} is missing");
        }
        let path = room.path().join(shell);
        fs::write(&path, script).expect("a file");
        match Command::new(shell).arg("-n").arg(&path).output() {
            Ok(checked) => assert!(checked.status.success(), "{checked:?}"),
            Err(error) => println!("skipped: {shell} is not here to check its script: {error}"),
        }
    }
}

// Would catch a command without a man page, a page of another command, and one that lacks an option.
#[test]
fn every_command_has_a_man_page() {
    let room = Room::new();
    let page = text(&run(&mut ipc(&room, &["man"])));
    assert!(page.contains(".TH ipc 1"), "{page}");
    let directory = room.path().join("man1");
    fs::create_dir(&directory).expect("a directory");
    text(&run(ipc(&room, &["man", "--to"]).arg(&directory)));
    let written = fs::read_dir(&directory).expect("it is there").count();
    let below = IDS.iter().map(|name| ("id", Some(*name)));
    let all = SUBCOMMANDS.iter().map(|name| (*name, None)).chain(below);
    assert_eq!(written, 1 + all.clone().count());
    for (name, below) in all {
        let mut words = vec![name];
        words.extend(below);
        let dashed = format!("ipc-{}", words.join("-"));
        let listed = page.contains(&format!("{}(1)", dashed.replace('-', "\\-")));
        assert!(listed || below.is_some(), "{dashed} is missing: {page}");
        let page = text(&run(&mut ipc(&room, &[&["man"], &words[..]].concat())));
        let file = fs::read_to_string(directory.join(format!("{dashed}.1")));
        assert_eq!(file.expect("it was written"), page);
        assert!(page.contains(&format!(".TH {dashed} 1")), "{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT"] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "{dashed}: {section}"
            );
        }
        assert!(page.contains(".SH \"EXIT STATUS\"\n"), "{page}");
        let help = text(&run(&mut ipc(&room, &[&words[..], &["--help"]].concat())));
        for option in options(&help) {
            let option = option.replace('-', "\\-");
            assert!(page.contains(&option), "{dashed}: {option}");
        }
    }
    // What the formatter of every system says of them.
    let mut pages: Vec<_> = fs::read_dir(&directory)
        .expect("it is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    pages.sort();
    match Command::new("groff")
        .args(["-man", "-ww", "-z"])
        .args(&pages)
        .output()
    {
        Ok(said) => assert!(
            said.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        ),
        Err(error) => println!("skipped: groff is not here to check the pages: {error}"),
    }
    let done = run(&mut ipc(&room, &["man", "nothing"]));
    assert_eq!(done.code, Some(2));
    assert!(
        done.err
            .contains("there is no subcommand \"nothing\" of \"ipc\"; there are pair, ")
    );
}

/// The long options that a text names.
fn options(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '-');
    words
        .filter(|word| word.len() > 3 && word.starts_with("--"))
        .collect()
}

// Would catch a command without a page in the book, a page that does not say how the command ends, and one that names an
// option that is not there any more.
#[test]
fn every_command_has_a_page_in_the_book() {
    let room = Room::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("it is there");
    for name in SUBCOMMANDS {
        let file = format!("commands/{name}.md");
        assert!(
            summary.contains(&format!("(`{file}`)").replace('`', "")),
            "{file}"
        );
        let page = fs::read_to_string(docs.join(&file)).expect("a page");
        assert!(page.starts_with(&format!("# ipc {name}\n")), "{file}");
        let example = format!("$ ipc {name}");
        assert!(
            page.contains(&example) || page.contains(&format!("ipc {name} ")),
            "{file}"
        );
        assert!(page.contains("\n## Exit codes\n"), "{file}");
        let mut help = text(&run(&mut ipc(&room, &[name, "--help"])));
        if name == "id" {
            for below in IDS {
                help += &text(&run(&mut ipc(&room, &["id", below, "--help"])));
            }
        }
        let there = options(&help);
        // In the examples of one command there may be others; only its own lines are looked at.
        for line in page
            .lines()
            .filter(|line| !line.contains("$ ") || line.contains(&example))
        {
            for option in options(line) {
                let other = ["--release", "--features"].contains(&option);
                assert!(other || there.contains(&option), "{file} names {option}");
            }
        }
    }
}
