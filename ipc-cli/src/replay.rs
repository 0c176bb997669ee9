//! `ipc replay`: a recording, into a ring.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ipc_core::segment::{Object, Place, Segment, SegmentError, SegmentOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;

use crate::ended::Ended;
use crate::look::Name;
use crate::push::{self, Pushed, Pusher};
use crate::recording::{Head, Message, Reader};
use crate::show;
use crate::signals::Signals;

/// Push what `ipc record` has recorded into a ring, at the rate at which it came, or another.
///
/// The ring is made like the one that was recorded if there is none of that name. While it is full, the replay waits for the
/// consumer.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The file to read; - for standard input
    file: String,

    /// The segment: a name in the default directory, or a path, which has a slash
    name: String,

    /// The object in it [default: that of the recording]
    #[arg(long, value_name = "NAME")]
    object: Option<String>,

    /// So many messages a second
    #[arg(long, value_name = "N", conflicts_with_all = ["speed", "fast"], value_parser = positive)]
    rate: Option<f64>,

    /// So many times as fast as they came
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    speed: f64,

    /// As fast as the consumer takes them
    #[arg(long, conflicts_with = "speed")]
    fast: bool,

    /// Close the ring at the end, so that the consumer knows
    #[arg(long)]
    close: bool,

    /// Give up when the ring has been full for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = crate::stream::seconds)]
    timeout: Option<Duration>,

    /// Print what was replayed as one JSON object
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n| (1e-6..=1e12).contains(n));
    number.ok_or_else(|| "a number above 0".to_owned())
}

/// What a recording is read from: perhaps a pipe, into which nothing comes for a while.
struct Input {
    file: OwnedFd,
    signals: Signals,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let timeout = Timespec::try_from(PIECE).map_err(io::Error::other)?;
        loop {
            // Who reads looks at the signals as well, and says what this is.
            self.signals.check().map_err(io::Error::other)?;
            match poll(
                &mut [PollFd::new(&self.file, PollFlags::IN)],
                Some(&timeout),
            ) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match rustix::io::read(&self.file, &mut *into) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// How long a sleep may last before signals are looked at.
const PIECE: Duration = Duration::from_millis(50);

impl Replay {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        // First, since to open a named pipe may take for ever: a signal ends us meanwhile.
        let file = self.input()?;
        let signals = Signals::catch()?;
        let (mut reader, head) = {
            let input = Input {
                file,
                signals: signals.clone(),
            };
            let opened = Reader::new(input);
            signals.check()?;
            opened.with_context(|| format!("cannot replay {:?}", self.file))?
        };
        let mut read = || {
            let next = reader.next();
            signals.check()?;
            next.with_context(|| format!("cannot read {:?}", self.file))
        };
        let name = &self.name;
        // Before anything is made.
        push::check(head.kind, head.version)
            .with_context(|| format!("cannot replay {:?}", self.file))?;
        let mut next = read()?;
        let object = self.object(&head, next.as_ref())?;
        let mut pusher =
            Pusher::new(&object).with_context(|| format!("cannot replay into {name:?}"))?;
        let bar = bar();
        let begun = Instant::now();
        let (mut messages, mut bytes) = (0u64, 0);
        while let Some(message) = next {
            let due = match self.rate {
                Some(rate) => Duration::from_secs_f64(messages as f64 / rate),
                None if self.fast => Duration::ZERO,
                None => Duration::from_nanos((message.at as f64 / self.speed) as u64),
            };
            sleep_until(begun + due, &signals)?;
            self.push(&mut pusher, &message.payload, object.segment(), &signals)?;
            messages += 1;
            bytes += message.payload.len() as u64;
            next = read()?;
            bar.set_position(messages);
        }
        bar.finish_and_clear();
        if self.close {
            pusher.close();
        }
        if reader.is_cut {
            crate::say(format_args!(
                "ipc: {:?} ends in the middle of a message: its recorder was killed, or had no room",
                self.file
            ));
        }
        let seconds = begun.elapsed().as_secs_f64();
        if self.json {
            let object = json!({
                "schema_version": 1,
                "messages": messages,
                "bytes": bytes,
                "seconds": seconds,
                "is_cut": reader.is_cut,
            });
            return crate::print(&(serde_json::to_string(&object)? + "\n"));
        }
        crate::say(format_args!(
            "ipc: {}: {} messages, {} in {seconds:.3} s",
            show::plain(name),
            show::count(messages),
            show::bytes(bytes)
        ));
        Ok(())
    }

    fn input(&self) -> Result<OwnedFd> {
        Ok(match &*self.file {
            "-" => io::stdin().as_fd().try_clone_to_owned()?,
            path => File::open(path)
                .with_context(|| format!("cannot open {path:?}"))?
                .into(),
        })
    }

    /// The object to replay into, of the same kind and layout as the one that was recorded.
    fn object(&self, head: &Head, first: Option<&Message>) -> Result<Object> {
        let name = self.object.as_ref().unwrap_or(&head.object);
        let place = || Name(self.name.clone()).place();
        let segment = match Segment::open(place()) {
            Ok(segment) => segment,
            Err(SegmentError::NotFound { .. }) => {
                let options = SegmentOptions::new().object(name, head.spec());
                // First where nobody sees it: a head that makes no sense leaves no segment of it behind.
                options
                    .create(Place::Anonymous)
                    .map_err(anyhow::Error::from)
                    .and_then(|trial| {
                        let mut pusher = Pusher::new(&trial.object(name)?)?;
                        first.map_or(Ok(()), |first| pusher.try_push(&first.payload).map(|_| ()))
                    })
                    .with_context(|| format!("cannot replay {:?}", self.file))?;
                options
                    .open_or_create(place())
                    .with_context(|| format!("cannot make {:?}", self.name))?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {:?}", self.name));
            }
        };
        let object = segment.object(name)?;
        object.expect(head.kind, head.version, &head.schema)?;
        Ok(object)
    }

    fn push(
        &self,
        pusher: &mut Pusher,
        message: &[u8],
        segment: &Segment,
        signals: &Signals,
    ) -> Result<()> {
        let mut full_since = None;
        while pusher
            .try_push(message)
            .with_context(|| format!("cannot push into {:?}", self.name))?
            == Pushed::Full
        {
            let since = *full_since.get_or_insert_with(Instant::now);
            signals.check()?;
            if let Err(SegmentError::Replaced) = segment.check() {
                bail!(Ended::PeerDead(format!(
                    "somebody has removed {:?}",
                    self.name
                )));
            }
            if let Some(timeout) = self.timeout {
                ensure!(
                    since.elapsed() <= timeout,
                    Ended::TimedOut(format!("{:?} has been full for {timeout:?}", self.name))
                );
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

fn sleep_until(until: Instant, signals: &Signals) -> Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        signals.check()?;
        thread::sleep(left.min(PIECE));
    }
}

/// A line that shows how it goes, if standard error is a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} messages, {per_sec}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
