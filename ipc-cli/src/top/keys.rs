//! A terminal taken over for a while, and given back as it was.
//!
//! The alternate screen, no cursor, keys without Enter. Given back on drop, however the command ends but by SIGKILL; a
//! signal that asks for the end only sets a flag, so that this is dropped then as well.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::signals::Signals;

/// What a person has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// To end.
    Quit,
    /// To look now, or nothing.
    Go,
}

/// The terminal, taken over.
pub(super) struct Keys {
    /// How the keyboard was set; `None` if standard input is no terminal.
    before: Option<Termios>,
}

impl Keys {
    /// Takes the terminal over.
    pub(super) fn take() -> Result<Self> {
        let input = io::stdin();
        let before = tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut settings = before.clone();
            // Keys at once and unseen. Ctrl-C stays a signal.
            settings.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            settings.special_codes[SpecialCodeIndex::VMIN] = 0;
            settings.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&input, OptionalActions::Now, &settings)
                .context("cannot set the terminal")?;
        }
        let keys = Self { before };
        write("\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(keys)
    }

    /// Shows a page in place of the last one, without a flicker.
    pub(super) fn draw(&mut self, page: &str) -> Result<()> {
        // Each line clears what was behind it; then everything below.
        let page = page.replace('\n', "\x1b[K\r\n");
        write(&format!("\x1b[H{page}\x1b[K\x1b[J"))
    }

    /// Waits for a key until then.
    pub(super) fn wait(&mut self, until: Instant, signals: &Signals) -> Result<Key> {
        const PIECE: Duration = Duration::from_millis(200);
        let input = io::stdin();
        loop {
            signals.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Key::Go);
            }
            if self.before.is_none() {
                std::thread::sleep(left.min(PIECE));
                continue;
            }
            let timeout = Timespec::try_from(left.min(PIECE))?;
            let ready = match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
                Ok(ready) => ready > 0,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error)).context("cannot wait for keys"),
            };
            if !ready {
                continue;
            }
            let mut pressed = [0; 16];
            match rustix::io::read(&input, &mut pressed[..]) {
                // The terminal has gone.
                Ok(0) | Err(Errno::IO) => return Ok(Key::Quit),
                Ok(count) if pressed[..count].iter().any(|key| b"qQ\x04".contains(key)) => {
                    return Ok(Key::Quit);
                }
                // Any other key: look now.
                Ok(_) => return Ok(Key::Go),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(io::Error::from(error)).context("cannot read keys"),
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = write("\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> Result<()> {
    crate::print(text)
}
