//! The suites: each a list of races.

mod broadcast;
mod cold;
mod cpu;
mod ids;
mod latency;
mod latest;
mod locks;
mod mpmc;
mod throughput;
mod wake;

use anyhow::Result;

use crate::measure::{Case, Clock, Measure, PERCENTILES, Values, ticks};
use crate::process;
use crate::race::{Abstains, Entry, Heading, Race};
use crate::subject::{Side, Subject};
use crate::transport::{Shape, Waiting};

/// What a suite has to work with.
pub struct Context<'a> {
    /// Who may take part.
    pub subjects: &'a [Box<dyn Subject>],
    /// The CPUs that processes are spread over: two or more, and the first two are those of a pair.
    pub cpus: &'a [usize],
    /// Whether to do with less.
    pub quick: bool,
    /// Payloads to race with; all of a suite's if empty.
    pub payloads: &'a [usize],
}

/// The races of a suite.
pub type Races = for<'a> fn(&'a Context<'a>) -> Vec<Race<'a>>;

/// All suites, by name.
pub const SUITES: &[(&str, Races)] = &[
    ("latency", latency::races),
    ("throughput", throughput::races),
    ("mpmc", mpmc::races),
    ("broadcast", broadcast::races),
    ("wake", wake::races),
    ("ids", ids::races),
    ("locks", locks::races),
    ("latest", latest::races),
    ("cold", cold::races),
    ("cpu", cpu::races),
];

/// How often a ring wraps in each run.
const WRAPS: u64 = 1000;

/// The same for whoever has no time.
const QUICK_WRAPS: u64 = 50;

/// Units of work that no run goes beyond.
const MOST: u64 = 100_000_000;

/// Messages in a ring of a stream, and bytes in an arena.
const CAPACITY: usize = 1024;
const ARENA: usize = 1 << 20;

impl<'a> Context<'a> {
    /// Those of the payloads that are wanted.
    fn payloads(&self, careful: &[usize], quick: &[usize]) -> Vec<usize> {
        let mut payloads = if self.quick { quick } else { careful }.to_vec();
        payloads.retain(|size| self.payloads.is_empty() || self.payloads.contains(size));
        payloads
    }

    /// A stream between a pair of processes that have a CPU each.
    fn pair(&self, payload: usize) -> Case {
        Case {
            shape: Shape {
                payload,
                capacity: (ARENA / payload).next_power_of_two().clamp(16, CAPACITY),
                // Four of the largest messages fit in.
                arena: ARENA.max((payload + 64).next_power_of_two() * 4),
                waiting: Waiting::Poll,
                producers: 1,
                consumers: 1,
                policy: None,
            },
            batch: 1,
            messages: 0,
            cpus: self.cpus.to_vec(),
        }
    }

    /// The same with rings as small as round trips fill them.
    fn small(&self, payload: usize) -> Case {
        let mut case = self.pair(payload);
        case.shape.capacity = 64;
        case.shape.arena = (payload + 64).next_power_of_two() * 16;
        case
    }

    /// Everybody who can be measured so. In each run their rings wrap often, and at least `least` units are done.
    fn entries(&'a self, what: Measure, case: &Case, least: u64) -> Vec<Entry<'a>> {
        self.subjects
            .iter()
            .map(|subject| self.entry(subject.as_ref(), what, case, least))
            .collect()
    }

    fn entry(
        &'a self,
        subject: &'a dyn Subject,
        what: Measure,
        case: &Case,
        least: u64,
    ) -> Entry<'a> {
        let wraps = if self.quick { QUICK_WRAPS } else { WRAPS };
        let case = case.clone();
        Entry {
            name: subject.name().to_owned(),
            side: subject.side(),
            least: least.max(subject.slots(&case.shape) * wraps).min(MOST),
            most: MOST,
            run: Box::new(move |messages| {
                let case = Case {
                    messages,
                    ..case.clone()
                };
                subject.measure(what, &case).unwrap_or(Err(Abstains.into()))
            }),
        }
    }
}

/// The same number of units in every run of these.
fn exactly(units: u64, mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    for entry in &mut entries {
        (entry.least, entry.most) = (units, units);
    }
    entries
}

/// An entry that is no subject.
fn alone<'a>(name: &str, side: Side, run: impl Fn(u64) -> Result<Values> + 'a) -> Entry<'a> {
    Entry {
        name: name.to_owned(),
        side,
        least: 1,
        most: MOST,
        run: Box::new(run),
    }
}

/// Nanoseconds for each of the times that all processes together do something. `attach` gives what does it once.
fn contest<C: FnMut() -> Result<()>>(
    places: &[usize],
    times: u64,
    attach: impl Fn() -> Result<C>,
) -> Result<Values> {
    let each = times.div_ceil(places.len() as u64);
    let results = process::run(places, |member| {
        let mut count = attach()?;
        member.barrier();
        member.report(0, ticks());
        for _ in 0..each {
            count()?;
        }
        member.report(1, ticks());
        member.barrier();
        Ok(())
    })?;
    let start = results.iter().map(|result| result[0]).min().unwrap_or(0);
    let end = results.iter().map(|result| result[1]).max().unwrap_or(0);
    let passed = Clock::calibrate().nanoseconds(end.saturating_sub(start));
    Ok(vec![passed / (each * places.len() as u64) as f64])
}

fn heading(suite: &'static str, case: &Case) -> Heading {
    Heading {
        suite,
        payload_bytes: case.shape.payload,
        batch: case.batch,
        processes: case.shape.producers + case.shape.consumers,
    }
}

/// The metrics of a distribution of one-way times.
fn percentiles(what: &str) -> Vec<String> {
    let metric = |(_, name): &(f64, &str)| format!("{what}, {name}");
    PERCENTILES.iter().map(metric).collect()
}
