//! Other processes, for tests: started, told what to do line by line, killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that does as its standard input says, and answers on its standard output. Killed on drop.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            input,
            output,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something to it.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("not closed"), "{line}").expect("the peer listens");
    }

    /// What it answers next.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("the peer speaks");
        assert!(read > 0, "the peer has ended without an answer");
        line.trim_end().to_owned()
    }

    /// Sends a signal, to itself alone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("the peer exists");
    }

    /// Kills it, and leaves it a zombie.
    pub fn kill_unreaped(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("the peer ends");
        assert!(status.success(), "the peer ended with {status}");
    }

    /// The number of the system call it is in, if it is in one.
    pub fn system_call(&self) -> Option<i64> {
        let text = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid())).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `condition` holds; fails if it does not within ten seconds. Tells how long it took.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{what}: not within ten seconds"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    start.elapsed()
}

/// A directory for one test, removed on drop.
pub fn directory() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    }
    .expect("a directory")
}
