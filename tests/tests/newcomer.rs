//! A newcomer's first program: a project of its own, made as the README says, with the programs that stand there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const README: &str = include_str!("../../README.md");

/// The program that the README gives for a file.
fn program(file: &str) -> &'static str {
    let (_, rest) = README
        .split_once(&format!("`{file}`:\n\n```rust,no_run\n"))
        .unwrap_or_else(|| panic!("the README has no {file}"));
    rest.split_once("```").unwrap().0
}

/// What the README has typed to make the project.
fn commands() -> String {
    let (_, rest) = README
        .split_once("```console\n$ cargo new ticks")
        .expect("the README makes a project");
    let block = rest.split_once("```").unwrap().0;
    format!("cargo new ticks{}", block.replace("\n$ ", "\n"))
}

struct Project {
    directory: TempDir,
    room: TempDir,
    built: PathBuf,
}

impl Project {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let directory = tempfile::tempdir().unwrap();
        let room = tempfile::Builder::new()
            .prefix("ipc-test-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let project = Self {
            built: root.join("target/newcomer"),
            directory,
            room,
        };
        symlink(
            root.canonicalize().unwrap(),
            project.directory.path().join("ipc"),
        )
        .unwrap();
        let typed = Command::new("sh")
            .args(["-ec", &commands()])
            .current_dir(project.directory.path())
            .env("CARGO", env!("CARGO"))
            .env("CARGO_NET_OFFLINE", "true")
            .output()
            .unwrap();
        assert!(
            typed.status.success(),
            "{}",
            String::from_utf8_lossy(&typed.stderr)
        );
        // The versions that are on this machine already: the test needs no network.
        fs::copy(root.join("Cargo.lock"), project.path("Cargo.lock")).unwrap();
        project
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join("ticks").join(file)
    }

    fn write(&self, file: &str, program: &str) {
        fs::write(self.path(file), program).unwrap();
    }

    fn build(&self) {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--quiet"])
            .current_dir(self.path(""))
            .env("CARGO_TARGET_DIR", &self.built)
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
    }

    fn start(&self, name: &str) -> Child {
        Command::new(self.built.join("debug").join(name))
            .env("IPC_DIR", self.room.path().join("ipc"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn unlink(&self) {
        fs::remove_file(self.room.path().join("ipc/ticks")).unwrap();
    }
}

fn succeeded(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// The last tick that a consumer printed, after it checked that none is missing.
fn last_of(output: &Output, first: u64) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut next = first;
    for line in text.lines() {
        assert_eq!(line.parse(), Ok(next));
        next += 1;
    }
    next - 1
}

#[test]
fn the_programs_in_the_readme_do_what_it_says() {
    // Catches a README whose programs do not compile outside of the repository, or do not find each other.
    let project = Project::new();
    for name in ["producer", "consumer"] {
        let file = format!("src/bin/{name}.rs");
        project.write(&file, program(&file));
    }
    project.build();

    // In either order.
    let consumer = project.start("consumer");
    let producer = project.start("producer");
    assert_eq!(last_of(&succeeded(consumer), 0), 999_999);
    succeeded(producer);
    project.unlink();

    // Killed, and started again. The producer, whose `?` gives up when it is told of the death, too.
    let producer = project.start("producer");
    let mut consumer = project.start("consumer");
    let mut lines = BufReader::new(consumer.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    let said = producer.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("PeerDead"), "{said}");
    let (consumer, producer) = (project.start("consumer"), project.start("producer"));
    let output = succeeded(consumer);
    succeeded(producer);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().next_back(), Some("999999"), "{text:.100}");
    project.unlink();

    // With another type on one side, as the guide proposes.
    let other = program("src/bin/consumer.rs").replace("<u64>", "<i64>");
    project.write("src/bin/consumer.rs", &other);
    project.build();
    let mut producer = project.start("producer");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !project.room.path().join("ipc/ticks").exists() {
        assert!(Instant::now() < deadline, "the producer makes no ring");
        thread::sleep(Duration::from_millis(1));
    }
    let said = project.start("consumer").wait_with_output().unwrap();
    producer.kill().unwrap();
    producer.wait().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("expected i64") && said.contains("found u64"),
        "{said}"
    );
}
