//! A terminal for a command under test, and what a person would see on it.
//!
//! # Safety
//!
//! Between `fork` and `exec` the child makes two system calls, which a signal handler might make as well.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// How long to wait for something to show. Only a test that fails takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command on a terminal of its own. Killed on drop.
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    parser: vt100::Parser,
    /// What was written to it, as it came.
    raw: Vec<u8>,
}

impl Terminal {
    /// Starts the command on a terminal of that size, which is its standard input, output and error.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of ours");
        unlockpt(&master).expect("a terminal to open");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = rustix::fs::open(&*name, flags, Mode::empty()).expect("its other side");
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("a size");
        let stdio = || Stdio::from(side.try_clone().expect("a descriptor"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        command.env("TERM", "xterm-256color");
        // SAFETY: what runs between fork and exec makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        Self {
            child: command.spawn().expect("the program starts"),
            parser: vt100::Parser::new(positive(rows), positive(columns), 0),
            master,
            raw: Vec::new(),
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes what has been written meanwhile, waiting for something for so long.
    fn pump(&mut self, patience: Duration) {
        let timeout = Timespec::try_from(patience).expect("a short time");
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            return;
        }
        let mut bytes = [0; 4096];
        // Once the other side is closed by all, reading fails.
        let count = rustix::io::read(&self.master, &mut bytes[..]).unwrap_or(0);
        self.raw.extend_from_slice(&bytes[..count]);
        self.parser.process(&bytes[..count]);
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// Everything that was ever written.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The screen, with its modes.
    pub fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Panics
    ///
    /// If it does not become so.
    pub fn see(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !wanted(&self.text()) {
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: not to be seen on\n{}",
                self.text()
            );
            self.pump(Duration::from_millis(50));
        }
    }

    /// Types keys.
    pub fn type_keys(&mut self, keys: &str) {
        let mut master = File::from(self.master.try_clone().expect("a descriptor"));
        master.write_all(keys.as_bytes()).expect("keys");
    }

    /// Gives the terminal another size, and tells so whoever runs on it.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("a size");
        self.parser
            .screen_mut()
            .set_size(positive(rows), positive(columns));
    }

    /// How the terminal is set.
    pub fn settings(&self) -> Termios {
        tcgetattr(self.master.as_fd()).expect("settings")
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it has not been waited for");
    }

    /// Waits for the end of the process, and takes all that it wrote. Its exit code; `None` if a signal ended it.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn end(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child of ours");
            self.pump(Duration::from_millis(20));
            if let Some(status) = ended {
                // What is left in the line.
                self.pump(Duration::from_millis(20));
                return status.code();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it does not end:\n{}",
                self.text()
            );
        }
    }
}

fn positive(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("a terminal has a size")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
