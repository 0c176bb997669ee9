//! `ipc tail`: what goes through a ring, as it goes.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ipc_core::Layout as _;
use ipc_core::segment::{SegmentError, SegmentView};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::ended::Ended;
use crate::look::Name;
use crate::look::follow::{Follower, Next, Start};
use crate::look::values::Decoder;
use crate::show;
use crate::signals::Signals;
use crate::stream::{Chunk, carried};

/// Follow a ring, a journal or a register: print what goes through it, as it goes.
///
/// It only looks: it takes no place and no message, and nobody waits for it. So it may be overtaken; it says how many it
/// missed. What was taken before it could be copied is still shown where it is certain to be whole; but in an mpmc ring, a
/// place whose producer died in mid-push, or did not push what it had reserved, is shown like a message.
///
/// Ends when the ring is closed, by Ctrl-C, or, with exit code 3, when the segment is removed.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The segment: a name in the default directory, or a path, which has a slash
    name: String,

    /// The object in it [default: the only one that can be followed]
    #[arg(long, value_name = "NAME")]
    object: Option<String>,

    /// Begin with what comes from now on, rather than with what is there
    #[arg(long)]
    new: bool,

    /// End after so many
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// End when there is nothing more for now
    #[arg(long)]
    no_follow: bool,

    /// Print bytes even where the layout is known
    #[arg(long, conflicts_with = "json")]
    hex: bool,

    /// Give up when nothing has come for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = crate::stream::seconds)]
    timeout: Option<Duration>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How long to sleep when there is nothing: nobody wakes an observer.
const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(20);

/// How often to look whether the segment is still the one of its name.
const LOOK: Duration = Duration::from_millis(100);

/// The object to follow: the one named, or the only one that can be followed.
pub(crate) fn choose(view: &SegmentView, wanted: Option<&str>, segment: &str) -> Result<String> {
    if let Some(name) = wanted {
        return Ok(name.to_owned());
    }
    let entries = view.entries().iter();
    let names: Vec<&str> = entries
        .filter(|entry| Follower::can(entry.kind))
        .map(|entry| entry.name.as_str())
        .collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => bail!(
            "{segment:?} holds nothing that can be followed; `ipc inspect {}` shows what it holds",
            show::quoted(segment)
        ),
        _ => bail!(
            "{segment:?} holds several that can be followed: choose by --object among {}",
            show::plain(&names.join(", "))
        ),
    }
}

impl Tail {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let signals = Signals::catch()?;
        let view = Name(self.name.clone()).view()?;
        let object = choose(&view, self.object.as_deref(), &self.name)?;
        let start = if self.new { Start::Now } else { Start::Oldest };
        let mut follower = Follower::new(view.object(&object)?, start)
            .with_context(|| format!("cannot follow {:?}", self.name))?;
        let mut printer = Printer {
            object: show::plain(&object),
            decoder: Decoder::new(&follower.object().entry().schema),
            streams: follower.object().entry().schema == Chunk::schema().text(),
            tail: self,
            out: BufWriter::new(io::stdout().lock()),
            missed: 0,
        };
        let mut buffer = Vec::new();
        let (mut printed, mut pause) = (0, SHORTEST);
        let (mut moved_at, mut looked_at) = (Instant::now(), Instant::now());
        while self.count.is_none_or(|count| printed < count) {
            match follower.next(&mut buffer) {
                Ok(Next::Record { position, lane }) => {
                    printer.tell_missed()?;
                    printer.record(position, lane, &buffer)?;
                    printed += 1;
                    (moved_at, pause) = (Instant::now(), SHORTEST);
                    if printed % 1024 == 0 {
                        signals.check()?;
                    }
                    continue;
                }
                Ok(Next::Missed(missed)) => {
                    printer.missed = printer.missed.saturating_add(missed);
                    signals.check()?;
                    continue;
                }
                Ok(Next::Closed) => break,
                Ok(Next::Nothing) if self.no_follow => break,
                Ok(Next::Nothing) => {}
                Err(error) => {
                    printer.out.flush()?;
                    return Err(error.context(format!("cannot follow {:?} any further", self.name)));
                }
            }
            printer.tell_missed()?;
            printer.out.flush()?;
            signals.check()?;
            if looked_at.elapsed() >= LOOK {
                looked_at = Instant::now();
                is_read()?;
                match view.check() {
                    Err(SegmentError::Replaced) => bail!(Ended::PeerDead(format!(
                        "somebody has removed {:?}",
                        self.name
                    ))),
                    other => other?,
                }
            }
            if let Some(timeout) = self.timeout
                && moved_at.elapsed() > timeout
            {
                bail!(Ended::TimedOut(format!(
                    "nothing has come through {:?} for {timeout:?}",
                    self.name
                )));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
        printer.tell_missed()?;
        Ok(printer.out.flush()?)
    }
}

/// An error when whoever read our output has gone: without it, an idle ring would keep us for ever.
pub(crate) fn is_read() -> Result<()> {
    let out = io::stdout();
    let mut fds = [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut fds, Some(&now)).unwrap_or(0) > 0;
    ensure!(
        !(ready && fds[0].revents().contains(PollFlags::ERR)),
        Ended::NoReader
    );
    Ok(())
}

struct Printer<'a, W> {
    object: String,
    decoder: Option<Decoder>,
    /// What comes are the chunks of `ipc produce`.
    streams: bool,
    tail: &'a Tail,
    out: W,
    /// Missed, and not yet told.
    missed: u64,
}

impl<W: Write> Printer<'_, W> {
    fn record(&mut self, position: u64, lane: Option<usize>, bytes: &[u8]) -> Result<()> {
        if let Some((data, is_last)) = self.streams.then(|| carried(bytes)).flatten()
            && !self.tail.hex
        {
            return self.chunk(position, data, is_last);
        }
        let fits = |decoder: &&Decoder| decoder.size() <= bytes.len();
        let decoder = self.decoder.as_ref().filter(fits);
        if self.tail.json {
            let mut object = json!({
                "schema_version": 1,
                "object": self.object,
                "position": position,
                "lane": lane,
                "bytes": bytes.len(),
            });
            match decoder {
                Some(decoder) => object["fields"] = decoder.json(bytes),
                None => object["hex"] = hex(bytes),
            }
            return self.line(&object);
        }
        let place = match lane {
            Some(lane) => format!("{lane}:{position}"),
            None => position.to_string(),
        };
        match decoder.filter(|_| !self.tail.hex) {
            Some(decoder) => writeln!(self.out, "{place}  {}", decoder.line(bytes))?,
            None => {
                writeln!(self.out, "{place}  {} bytes", bytes.len())?;
                write!(self.out, "{}", show::hex(bytes, 2))?;
            }
        }
        Ok(())
    }

    /// A piece of a stream: its bytes rather than the fields around them.
    fn chunk(&mut self, position: u64, data: &[u8], is_last: bool) -> Result<()> {
        if self.tail.json {
            return self.line(&json!({
                "schema_version": 1,
                "object": self.object,
                "position": position,
                "lane": null,
                "bytes": data.len(),
                "hex": hex(data),
                "is_last": is_last,
            }));
        }
        let last = if is_last { ", the last" } else { "" };
        writeln!(self.out, "{position}  {} bytes{last}", data.len())?;
        let shown = show::text(data, 2).unwrap_or_else(|| show::hex(data, 2));
        Ok(write!(self.out, "{shown}")?)
    }

    fn tell_missed(&mut self) -> Result<()> {
        let missed = std::mem::take(&mut self.missed);
        if missed == 0 {
            return Ok(());
        }
        if self.tail.json {
            return self.line(&json!({
                "schema_version": 1,
                "object": self.object,
                "missed": missed,
            }));
        }
        self.out.flush()?;
        crate::say(format_args!(
            "ipc: missed {}: they were overwritten before they could be copied",
            show::count(missed)
        ));
        Ok(())
    }

    fn line(&mut self, object: &Value) -> Result<()> {
        serde_json::to_writer(&mut self.out, object).map_err(io::Error::from)?;
        Ok(writeln!(self.out)?)
    }
}

fn hex(bytes: &[u8]) -> Value {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.into()
}
