//! The suites: each a list of races.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipc_core::event::Wait;

use crate::limits::hop::hop;
use crate::measure::{Case, Latency};
use crate::race::{Heading, Outcome, Rounds};
use crate::subject::Subject;
use crate::transport::Shape;

/// How much to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The two CPUs of a pair.
    pub cpus: Vec<usize>,
    /// How long each race goes on.
    pub budget: Duration,
    /// The least number of rounds, whatever the budget.
    pub least_rounds: usize,
    /// How long one subject runs in one round.
    pub turn: Duration,
    /// Payloads to race with; all of a suite's if empty.
    pub payloads: Vec<usize>,
}

/// Below this many nanoseconds a hop is taken to be between near CPUs.
const NEAR: f64 = 130.0;

/// Streams: nanoseconds per message for each payload, one by one and in batches.
pub fn throughput(
    subjects: &[Box<dyn Subject>],
    settings: &Settings,
    outcome: &mut Outcome,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    for (payload, batch) in [
        (8, 1),
        (64, 1),
        (256, 1),
        (1024, 1),
        (4096, 1),
        (8, 64),
        (64, 64),
    ] {
        let wants = |size: &usize| *size == payload;
        if !settings.payloads.is_empty() && !settings.payloads.iter().any(wants) {
            continue;
        }
        let heading = Heading {
            suite: "throughput",
            payload_bytes: payload,
            batch,
            processes: 2,
        };
        let run = |subject: &dyn Subject, case: &Case| subject.stream(case);
        race(
            subjects,
            settings,
            heading,
            "ns per message",
            run,
            outcome,
            progress,
        )?;
    }
    Ok(())
}

/// Round trips: the median one-way time for each payload.
pub fn latency(
    subjects: &[Box<dyn Subject>],
    settings: &Settings,
    outcome: &mut Outcome,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    for payload in [8, 24, 56, 64, 256, 1024, 4096] {
        let wants = |size: &usize| *size == payload;
        if !settings.payloads.is_empty() && !settings.payloads.iter().any(wants) {
            continue;
        }
        let heading = Heading {
            suite: "latency",
            payload_bytes: payload,
            batch: 1,
            processes: 2,
        };
        let run = |subject: &dyn Subject, case: &Case| {
            subject
                .ping_pong(case)
                .map(|latency| latency.map(|Latency { p50, .. }| p50))
        };
        race(
            subjects,
            settings,
            heading,
            "ns one way, p50",
            run,
            outcome,
            progress,
        )?;
    }
    Ok(())
}

/// Runs rounds of one race until its time is over.
fn race(
    subjects: &[Box<dyn Subject>],
    settings: &Settings,
    heading: Heading,
    metric: &'static str,
    run: impl Fn(&dyn Subject, &Case) -> Option<Result<f64>>,
    outcome: &mut Outcome,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let capacity = ((1 << 20) / heading.payload_bytes).clamp(64, 1024);
    let shape = Shape {
        payload: heading.payload_bytes,
        capacity,
        wait: Wait::Spin,
    };
    let mut case = Case {
        shape,
        batch: heading.batch,
        messages: 1000,
        cpus: settings.cpus.clone(),
    };
    // One short turn each tells who takes part, and how many messages fill a turn.
    let mut takers = Vec::new();
    for subject in subjects {
        progress(&format!(
            "{} {} B: {} warms up",
            heading.suite,
            heading.payload_bytes,
            subject.name()
        ));
        match run(subject.as_ref(), &case) {
            Some(Ok(each)) => takers.push((subject, fitting(settings.turn, each))),
            Some(Err(error)) => outcome.skipped.push(format!(
                "{} in {}: {error:#}",
                subject.name(),
                heading.suite
            )),
            None => {}
        }
    }
    let names = takers
        .iter()
        .map(|(subject, _)| (subject.name(), subject.side()))
        .collect();
    let mut rounds = Rounds::new(heading.clone(), metric, names);
    let start = Instant::now();
    let mut done = 0;
    while done < settings.least_rounds || start.elapsed() < settings.budget {
        progress(&format!(
            "{} {} B, batches of {}: round {}",
            heading.suite,
            heading.payload_bytes,
            heading.batch,
            done + 1
        ));
        let before = hop(&settings.cpus, 2000)?.p50;
        let mut values = vec![None; takers.len()];
        // Whoever comes first has the warmest caches: everybody in turn.
        for offset in 0..takers.len() {
            let index = (done + offset) % takers.len();
            let (subject, messages) = &takers[index];
            case.messages = *messages;
            values[index] = run(subject.as_ref(), &case).transpose()?;
        }
        let after = hop(&settings.cpus, 2000)?.p50;
        done += 1;
        // A round during which the two CPUs moved together or apart compares two machines.
        if (before < NEAR) == (after < NEAR) {
            rounds.add(if after < NEAR { "near" } else { "far" }, values);
        }
    }
    rounds.conclude(outcome);
    Ok(())
}

/// Messages that take about a turn.
fn fitting(turn: Duration, nanoseconds_each: f64) -> u64 {
    (turn.as_nanos() as f64 / nanoseconds_each.max(0.1)).clamp(1000.0, 50_000_000.0) as u64
}
