//! `ipc record`: what goes through a ring, into a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use ipc_core::segment::SegmentError;
use serde_json::json;

use crate::ended::Ended;
use crate::look::Name;
use crate::look::follow::{Follower, Next, Start};
use crate::recording::{Head, Writer};
use crate::show;
use crate::signals::Signals;
use crate::tail::{choose, is_read};

/// Record what goes through a ring or a journal to a file, for `ipc replay`.
///
/// It only looks, as `ipc tail` does: it takes no place and no message, and nobody waits for it. Where it was overtaken, it
/// says how many messages the recording lacks. Ends when the ring is closed, or by Ctrl-C; what was recorded by then is whole.
/// Of an mpmc ring, a place whose producer died in mid-push, or did not push what it had reserved, may be recorded like a
/// message, as it is shown by `ipc tail`.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// The segment: a name in the default directory, or a path, which has a slash
    name: String,

    /// The file to write; - for standard output
    file: String,

    /// The object in it [default: the only one that can be followed]
    #[arg(long, value_name = "NAME")]
    object: Option<String>,

    /// Begin with what comes from now on, rather than with what is there
    #[arg(long)]
    new: bool,

    /// End after so many messages
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// End when there is nothing more for now
    #[arg(long)]
    no_follow: bool,

    /// Give up when nothing has come for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = crate::stream::seconds)]
    timeout: Option<Duration>,

    /// Tell what was recorded as one JSON object, on standard error
    #[arg(long)]
    json: bool,
}

const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(100);

impl Record {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let signals = Signals::catch()?;
        let view = Name(self.name.clone()).view()?;
        let object = choose(&view, self.object.as_deref(), &self.name)?;
        let start = if self.new { Start::Now } else { Start::Oldest };
        let mut follower = Follower::new(view.object(&object)?, start)
            .with_context(|| format!("cannot record {:?}", self.name))?;
        let mut out = self.output(follower.object())?;
        let (begun, mut buffer) = (Instant::now(), Vec::new());
        let (mut messages, mut bytes, mut missed) = (0, 0, 0u64);
        let (mut moved_at, mut looked_at, mut pause) = (begun, begun, SHORTEST);
        let unwritten = || format!("cannot write {:?}", self.file);
        let ended = loop {
            if self.count.is_some_and(|count| messages >= count) {
                break Ok(());
            }
            match follower.next(&mut buffer) {
                Ok(Next::Record { lane, .. }) => {
                    moved_at = Instant::now();
                    let at = (moved_at - begun).as_nanos() as u64;
                    out.message(at, lane.unwrap_or(0) as u32, &buffer)
                        .with_context(unwritten)?;
                    (messages, bytes, pause) =
                        (messages + 1, bytes + buffer.len() as u64, SHORTEST);
                    if messages % 1024 != 0 {
                        continue;
                    }
                }
                Ok(Next::Missed(more)) => missed = missed.saturating_add(more),
                Ok(Next::Closed) => break Ok(()),
                Ok(Next::Nothing) if self.no_follow => break Ok(()),
                Ok(Next::Nothing) => {
                    out.flush().with_context(unwritten)?;
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST);
                }
                Err(error) => break Err(error),
            }
            // To stop by a signal is how a recording usually ends.
            if signals.check().is_err() {
                break Ok(());
            }
            if looked_at.elapsed() >= LOOK {
                looked_at = Instant::now();
                if self.file == "-" {
                    is_read()?;
                }
                if let Err(SegmentError::Replaced) = view.check() {
                    break Err(
                        Ended::PeerDead(format!("somebody has removed {:?}", self.name)).into(),
                    );
                }
                if let Some(timeout) = self.timeout
                    && moved_at.elapsed() > timeout
                {
                    let what = format!("nothing has come through {:?} for {timeout:?}", self.name);
                    break Err(Ended::TimedOut(what).into());
                }
            }
        };
        if ended.is_ok() {
            out.flush().with_context(unwritten)?;
        }
        self.tell(messages, bytes, missed, begun.elapsed().as_secs_f64())?;
        ended
    }

    fn output(
        &self,
        object: &ipc_core::segment::ObjectView,
    ) -> Result<Writer<BufWriter<Box<dyn Write>>>> {
        let out: Box<dyn Write> = match &*self.file {
            "-" => Box::new(io::stdout()),
            path => Box::new(File::create_new(path).with_context(|| {
                format!("cannot make {path:?}; choose another name, or remove it first")
            })?),
        };
        Writer::new(BufWriter::new(out), &Head::of(object.entry()))
    }

    fn tell(&self, messages: u64, bytes: u64, missed: u64, seconds: f64) -> Result<()> {
        if self.json {
            let object = json!({
                "schema_version": 1,
                "messages": messages,
                "bytes": bytes,
                "missed": missed,
                "seconds": seconds,
            });
            crate::say(format_args!("{}", serde_json::to_string(&object)?));
        } else {
            let lacks = match missed {
                0 => String::new(),
                missed => format!(
                    "; it lacks {}, which were overwritten before",
                    show::count(missed)
                ),
            };
            crate::say(format_args!(
                "ipc: {}: {} messages, {} in {seconds:.3} s{lacks}",
                show::plain(&self.name),
                show::count(messages),
                show::bytes(bytes)
            ));
        }
        if messages == 0 && missed > 0 {
            bail!("every message was overwritten before it could be copied");
        }
        Ok(())
    }
}
