//! `ipc pair`: a producer process and a consumer process over one ring.

mod control;
mod latency;
mod message;
mod report;
mod work;

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use ipc_core::Message as Plain;
use ipc_core::event::Wait;
use ipc_core::segment::{Place, Segment, SegmentOptions};
use ipc_ring::Ring as _;
use ipc_ring::spsc::Ring;

use crate::child::Child;
use crate::cpus;
use crate::signals::Signals;
use control::Control;
use latency::Measured;
use message::Message;
use report::{Report, TakenOver};
use work::{Consumed, Plan, Until};

/// Run a producer and a consumer process over one ring, and measure them.
///
/// First the latency: one message is thrown to and fro, over two rings and, in turns, over two bare cache lines. Then the rate:
/// the producer pushes as fast as it can, and the consumer verifies the number and the checksum of every message.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pair {
    /// Messages to stream [default: as many as pass in the time]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    messages: Option<u64>,

    /// How long to stream
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,

    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 8, value_parser = size)]
    size: usize,

    /// Messages that fit into the ring, a power of two
    #[arg(long, value_name = "N", default_value_t = 1024)]
    capacity: usize,

    /// Messages to push and pop at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,

    /// Round trips to measure the latency with
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,

    /// What the ring lies in
    #[arg(long, value_enum, default_value_t = Backing::File)]
    backing: Backing,

    /// What to do while the ring is full or empty
    #[arg(long, value_enum, default_value_t = Waiting::Adaptive)]
    wait: Waiting,

    /// Kill the consumer once it has verified N messages, and start another
    #[arg(long, value_name = "N")]
    kill_consumer_after: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backing {
    /// A named file on tmpfs
    File,
    /// A sealed memory file without a name
    Memfd,
    /// Shared anonymous memory
    Anonymous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Waiting {
    /// Poll, and never sleep
    Spin,
    /// Poll for a little, then sleep
    Adaptive,
    /// Sleep at once
    Block,
}

/// The sizes that are compiled in.
const SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| SIZES.contains(size));
    size.ok_or_else(|| format!("one of {SIZES:?}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.001..=86_400.0).contains(s));
    seconds.ok_or_else(|| "a number from 0.001 to 86400".to_owned())
}

impl Pair {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        let report = match self.size {
            8 => self.measure::<1>(),
            64 => self.measure::<8>(),
            256 => self.measure::<32>(),
            1024 => self.measure::<128>(),
            _ => self.measure::<512>(),
        }?;
        crate::print(&if self.json {
            report.json()?
        } else {
            report.text()
        })?;
        ensure!(report.verified(), "the messages were not verified");
        Ok(())
    }

    fn until(&self) -> Until {
        match self.messages {
            Some(messages) => Until::Messages(messages),
            None => Until::Time(Duration::from_secs_f64(self.seconds)),
        }
    }

    fn measure<const N: usize>(&self) -> Result<Report>
    where
        Message<N>: Plain,
    {
        let signals = Signals::catch()?;
        let cpus = cpus::two()?;
        let plan = Plan {
            cpus,
            until: self.until(),
            round_trips: self.round_trips,
            batch: self.batch as usize,
            wait: match self.wait {
                Waiting::Spin => Wait::Spin,
                Waiting::Adaptive => Wait::Adaptive,
                Waiting::Block => Wait::Block,
            },
        };
        let segment = self.create::<N>()?;
        let control = Control::new(&segment.object(control::NAME)?)?;
        let stream = Ring::<Message<N>>::in_segment(&segment, work::STREAM)?;

        // All processes are forked before anything here starts a thread.
        let start = |role, work: fn(&Segment, &Plan) -> Result<Consumed>| {
            Child::start(role, || {
                signals.let_them_kill();
                work(&segment, &plan)
            })
        };
        let producer = Child::start("producer", || {
            signals.let_them_kill();
            work::produce::<N>(&segment, &plan)
        })?;
        let consumer = start("consumer", work::consume::<N>)?;
        let standby = match self.kill_consumer_after {
            Some(_) => Some(start("second consumer", work::take_over::<N>)?),
            None => None,
        };
        let run = Run {
            pair: self,
            signals,
            control,
            committed: &|| stream.committed(),
            producer,
            consumer,
            standby,
            taken_over: None,
        };
        let (measured, consumed, taken_over) = run.finish()?;
        Ok(Report {
            pair: self.clone(),
            cpus,
            measured,
            consumed,
            taken_over,
        })
    }

    fn create<const N: usize>(&self) -> Result<Segment>
    where
        Message<N>: Plain,
    {
        let ring = Ring::<Message<N>>::spec(self.capacity)?;
        let small = Ring::<Message<N>>::spec(16)?;
        let options = SegmentOptions::new()
            .participants(8)
            .object(control::NAME, Control::spec())
            .object(work::STREAM, ring)
            .object(work::THERE, small.clone())
            .object(work::BACK, small);
        Ok(match self.backing {
            Backing::File => {
                let name = format!("pair-{}", std::process::id());
                let segment = options.create(&name)?;
                // The processes inherit it: without a name, nothing is left of it however this ends.
                Segment::unlink(&name)?;
                segment
            }
            Backing::Memfd => options.create(Place::Memfd("ipc-pair".into()))?,
            Backing::Anonymous => options.create(Place::Anonymous)?,
        })
    }
}

/// The processes of a pair at work, seen from their parent. Dropping it ends them.
struct Run<'a> {
    pair: &'a Pair,
    signals: Signals,
    control: Control,
    /// Messages that the consumers have committed, as the ring says.
    committed: &'a dyn Fn() -> u64,
    producer: Child,
    consumer: Child,
    /// The consumer that waits for the first one's death.
    standby: Option<Child>,
    taken_over: Option<TakenOver>,
}

impl Run<'_> {
    fn finish(mut self) -> Result<(Measured, Consumed, Option<TakenOver>)> {
        let processes = 2 + u64::from(self.standby.is_some());
        while self.control.ready.load(Acquire) < processes && !self.is_over()? {
            self.signals.check()?;
            self.wait(Duration::from_millis(1))?;
        }
        self.control.go.store(1, Release);
        let bar = self.bar();
        while !self.is_over()? {
            self.signals.check()?;
            self.show(&bar);
            self.kill_consumer_if_due();
            // Soon enough for the bar; and for a kill that is to come after so many messages, of which nobody tells us.
            self.wait(match self.standby {
                Some(_) => Duration::from_micros(200),
                None => Duration::from_millis(20),
            })?;
        }
        bar.finish_and_clear();
        if self.consumer.has_failed() {
            // Asked first: the producer may still be at work, and would not answer.
            self.consumer.report::<Consumed>()?;
        }
        let measured = self.producer.report()?;
        let consumed: Consumed = self.consumer.report()?;
        if let (Some(after), Some(_)) = (self.pair.kill_consumer_after, &self.standby) {
            bail!(
                "the consumer was to be killed after {after} messages, but there were only {}",
                consumed.end
            );
        }
        Ok((measured, consumed, self.taken_over.take()))
    }

    /// Waits for the end of a process or for a signal, but not for long.
    fn wait(&self, at_most: Duration) -> Result<()> {
        Child::wait_for_any(&[&self.producer, &self.consumer], at_most)
    }

    /// Whether both have ended, or one has failed: the other would wait for it for ever.
    fn is_over(&mut self) -> Result<bool> {
        let ended = [self.producer.has_ended()?, self.consumer.has_ended()?];
        Ok(ended == [true; 2] || self.producer.has_failed() || self.consumer.has_failed())
    }

    fn kill_consumer_if_due(&mut self) {
        let due = self.pair.kill_consumer_after.unwrap_or(u64::MAX);
        if self.control.verified.load(Acquire) < due {
            return;
        }
        let Some(next) = self.standby.take() else {
            return;
        };
        // It is waited for: once it is gone, nothing that it committed is still on its way.
        let mut killed = std::mem::replace(&mut self.consumer, next);
        killed.kill();
        let committed = (self.committed)();
        self.taken_over = Some(TakenOver {
            verified_before: self.control.verified.load(Acquire),
            committed,
        });
        self.control.resume.store(committed + 1, Release);
    }

    /// A progress bar if standard error is a terminal, nothing otherwise.
    fn bar(&self) -> ProgressBar {
        let (length, unit) = match self.pair.until() {
            Until::Messages(messages) => (messages, "{human_pos} of {human_len} messages"),
            Until::Time(time) => (time.as_millis() as u64, "{msg}"),
        };
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {unit}"));
        ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    fn show(&self, bar: &ProgressBar) {
        let verified = self.control.verified.load(Acquire);
        let began = self.control.began.load(Acquire);
        match self.pair.until() {
            Until::Messages(_) => bar.set_position(verified),
            Until::Time(_) if began == 0 => bar.set_message("measuring the latency"),
            Until::Time(_) => {
                bar.set_position((control::clock() - began) / 1_000_000);
                bar.set_message(format!("{} messages", HumanCount(verified)));
            }
        }
    }
}
