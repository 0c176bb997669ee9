//! Commands under test, each in a room of its own where nothing may be left behind.
//!
//! # Safety
//!
//! The one unsafe call gives a signal its default action, which runs no code of ours.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal as Interrupt, signal};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A directory on tmpfs in which segments live for the length of a test.
#[derive(Debug)]
pub struct Room {
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Processes that poll, pinned to the same CPUs, would wait for each other's time slices: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

impl Room {
    /// An empty one, once there is no other in this process.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let room = tempfile::Builder::new()
            .prefix("ipc-test-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm");
        Self {
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
            directory: room.expect("a directory in /dev/shm"),
        }
    }

    /// Where its segments lie.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The names in it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("the directory is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("a readable entry").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// `program` with these arguments, its segments in this room. Standard output and error are captured.
    pub fn command(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("IPC_DIR", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Done {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Done {
    command.output().expect("the program starts").into()
}

/// A command at work; killed on drop, so that a failed test leaves nothing running.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        // A job in the background may have inherited that SIGINT is ignored, and so would the program, for good reason.
        // SAFETY: as the head of this file says.
        let before = unsafe { signal(Interrupt::SIGINT, SigHandler::SigDfl) };
        before.expect("SIGINT has a default action");
        Self(Some(command.spawn().expect("the program starts")))
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is there until its end")
    }

    /// Its process id.
    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(self.child()), signal).expect("it has not been waited for");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Done {
        let mut child = self.0.take().expect("it is there until its end");
        // Kept open: whoever wants it to end by the end of its input closes that himself.
        let _stdin = child.stdin.take();
        child.wait_with_output().expect("the program ends").into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Polls until `happened`, and fails after 20 seconds.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes whose parent is `pid`.
pub fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Whether a process runs, or has ended and not been waited for.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
