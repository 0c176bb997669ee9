//! Races: rounds in which all entries run one after the other, so that each pair of them saw the same machine.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::limits::hop::hop;
use crate::measure::Values;
use crate::stats::{Spread, spread};
use crate::subject::Side;

/// What one race is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Heading {
    /// The suite that it belongs to.
    pub suite: &'static str,
    /// Bytes of a message, or of what else is measured.
    pub payload_bytes: usize,
    /// Messages per call.
    pub batch: usize,
    /// Processes on both sides together.
    pub processes: usize,
}

/// One race: who runs, and what each run gives.
pub struct Race<'a> {
    /// What it is about.
    pub heading: Heading,
    /// What the values of a run are, in their order, each with its unit. Smaller is better, for all of them.
    pub metrics: Vec<String>,
    /// How many of the metrics, from the first on, the entries are compared by.
    pub compared: usize,
    /// How often the first value fits into the time that one unit of work takes: a round trip takes twice what it gives.
    pub times: f64,
    /// Who takes part. The first of ours runs twice, which tells how far apart two equal ones come to be measured.
    pub entries: Vec<Entry<'a>>,
}

/// Somebody who takes part in a race.
pub struct Entry<'a> {
    /// His name.
    pub name: String,
    /// Whose side he is on.
    pub side: Side,
    /// The least units of work in a run.
    pub least: u64,
    /// The most units of work in a run.
    pub most: u64,
    /// Does so many units of work, and gives the values of the metrics.
    pub run: Box<dyn Fn(u64) -> Result<Values> + 'a>,
}

/// What an entry's run says that cannot take part.
#[derive(Debug, thiserror::Error)]
#[error("it does not take part")]
pub struct Abstains;

/// What one subject did in one race.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The race.
    #[serde(flatten)]
    pub heading: Heading,
    /// Who.
    pub subject: String,
    /// Whose side it is on.
    pub side: Side,
    /// What was measured, with its unit.
    pub metric: String,
    /// The machine's regime in these rounds.
    pub regime: &'static str,
    /// The rounds.
    #[serde(flatten)]
    pub spread: Spread,
}

/// One subject of ours against another one.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The race.
    #[serde(flatten)]
    pub heading: Heading,
    /// What was measured.
    pub metric: String,
    /// Ours.
    pub ours: String,
    /// The other one. A name that ends in `-again` is the same one a second time: its interval is the error bar.
    pub peer: String,
    /// The machine's regime in these rounds.
    pub regime: &'static str,
    /// How many times faster ours was: the median of the rounds.
    pub times_faster: f64,
    /// A quarter of the rounds is below.
    pub low: f64,
    /// A quarter of the rounds is above.
    pub high: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

/// What the machine did meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Noise {
    /// Rounds whose CPUs were near each other.
    pub near_rounds: usize,
    /// Rounds whose CPUs were far from each other.
    pub far_rounds: usize,
    /// Rounds that were thrown away, since the CPUs moved together or apart meanwhile.
    pub discarded_rounds: usize,
    /// The bare hops, in nanoseconds one way.
    pub hop_ns: Option<Spread>,
    #[serde(skip)]
    hops: Vec<f64>,
}

/// Everything that a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What each subject did.
    pub rows: Vec<Row>,
    /// Ours against the others.
    pub ratios: Vec<Ratio>,
    /// What the machine did meanwhile.
    pub noise: Noise,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// How long races take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When this race should be over.
    pub until: Instant,
    /// The least number of rounds, unless the whole run is over time.
    pub least_rounds: usize,
    /// When the whole run should be over.
    pub end: Instant,
    /// After which nothing more begins, if the run has to end.
    pub limit: Option<Instant>,
    /// How long one run should take, in nanoseconds.
    pub turn: f64,
}

/// Below this many nanoseconds a hop is taken to be between near CPUs.
const NEAR: f64 = 130.0;

/// How many times as long as the other one of the two probes around a round may take: the far hop of a machine takes two
/// to five times as long as its near one.
const STEADY: f64 = 1.6;

/// Round trips of a probe.
const PROBE: u64 = 1000;

/// Units of work in the first run, which tells how many fill a turn.
const FIRST: u64 = 1000;

/// Runs rounds of one race until its time is over.
pub fn run(
    mut race: Race<'_>,
    cpus: &[usize],
    pace: Pace,
    outcome: &mut Outcome,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let title = format!(
        "{} {} B, batches of {}, {} processes",
        race.heading.suite, race.heading.payload_bytes, race.heading.batch, race.heading.processes
    );
    let mut units = Vec::new();
    let mut skipped = Vec::new();
    let is_late = || pace.limit.is_some_and(|limit| Instant::now() >= limit);
    if is_late() {
        let text = format!("{title}: there was no time left");
        outcome.skipped.push(text);
        return Ok(());
    }
    race.entries.retain(|entry| {
        if is_late() {
            skipped.push(format!("{} in {title}: there was no time left", entry.name));
            return false;
        }
        progress(&format!("{title}: {} warms up", entry.name));
        match (entry.run)(FIRST.clamp(entry.least.min(FIRST), entry.most)) {
            Ok(values) => {
                let each = values.first().map_or(1.0, |value| value * race.times);
                let fitting = (pace.turn / each.max(0.1)) as u64;
                units.push(fitting.max(entry.least).clamp(1, entry.most));
                true
            }
            Err(error) if error.is::<Abstains>() => false,
            Err(error) => {
                skipped.push(format!("{} in {title}: {error:#}", entry.name));
                false
            }
        }
    });
    outcome.skipped.append(&mut skipped);
    let ours = race
        .entries
        .iter()
        .position(|entry| entry.side == Side::Ours);
    // Whoever runs, by his place among the entries; the last one is ours again.
    let runners: Vec<usize> = (0..race.entries.len()).chain(ours).collect();
    let mut rounds: BTreeMap<&'static str, Vec<Vec<Values>>> = BTreeMap::new();
    let mut broken = Vec::new();
    let mut done = 0;
    while !runners.is_empty() {
        let now = Instant::now();
        if is_late()
            || now >= pace.until && (done >= pace.least_rounds || now >= pace.end && done > 0)
        {
            break;
        }
        progress(&format!("{title}: round {}", done + 1));
        let before = hop(cpus, PROBE)?[0];
        let mut values = vec![Values::new(); runners.len()];
        // Whoever comes first has the warmest caches: everybody in turn.
        for offset in 0..runners.len() {
            let index = (done + offset) % runners.len();
            if broken.contains(&runners[index]) {
                continue;
            }
            if is_late() {
                break;
            }
            let entry = &race.entries[runners[index]];
            match (entry.run)(units[runners[index]]) {
                Ok(found) => values[index] = found,
                Err(error) => {
                    // Whoever has got stuck once does so again, and takes the time of the others.
                    broken.push(runners[index]);
                    let text = format!("{} in {title}, a round: {error:#}", entry.name);
                    outcome.skipped.push(text);
                }
            }
        }
        let after = hop(cpus, PROBE)?[0];
        done += 1;
        outcome.noise.hops.extend([before, after]);
        match regime(before, after) {
            Some(regime) => rounds.entry(regime).or_default().push(values),
            None => outcome.noise.discarded_rounds += 1,
        }
    }
    if done == 0 && !runners.is_empty() {
        let text = format!("{title}: there was no time left");
        outcome.skipped.push(text);
    }
    let count = |regime: &str| rounds.get(regime).map_or(0, Vec::len);
    outcome.noise.near_rounds += count("near");
    outcome.noise.far_rounds += count("far");
    outcome.noise.hop_ns = spread(outcome.noise.hops.iter().copied());
    for regime in ["near", "far"] {
        if let Some(rounds) = rounds.get(regime) {
            conclude(&race, &runners, regime, rounds, outcome);
        }
    }
    Ok(())
}

/// What the probes before and after a round say; nothing if they disagree. A round during which the two CPUs moved
/// together or apart compares two machines.
fn regime(before: f64, after: f64) -> Option<&'static str> {
    let steady = before.max(after) <= STEADY * before.min(after);
    let near = (before * after).sqrt() < NEAR;
    steady.then_some(if near { "near" } else { "far" })
}

/// Adds what the rounds of one regime came to.
fn conclude(
    race: &Race<'_>,
    runners: &[usize],
    regime: &'static str,
    rounds: &[Vec<Values>],
    outcome: &mut Outcome,
) {
    let who = |index: usize| {
        let entry = &race.entries[runners[index]];
        if index < race.entries.len() {
            (entry.name.clone(), entry.side)
        } else {
            (format!("{}-again", entry.name), Side::Again)
        }
    };
    for (at, metric) in race.metrics.iter().enumerate() {
        for index in 0..runners.len() {
            let values = rounds
                .iter()
                .filter_map(|round| round[index].get(at).copied());
            if let Some(spread) = spread(values) {
                let (subject, side) = who(index);
                outcome.rows.push(Row {
                    heading: race.heading.clone(),
                    subject,
                    side,
                    metric: metric.clone(),
                    regime,
                    spread,
                });
            }
        }
    }
    for (at, metric) in race.metrics.iter().enumerate().take(race.compared) {
        for ours in (0..race.entries.len()).filter(|index| who(*index).1 == Side::Ours) {
            for peer in 0..runners.len() {
                // One that runs again is compared with itself only.
                if peer == ours || who(peer).1 == Side::Again && runners[peer] != ours {
                    continue;
                }
                let ratios = rounds
                    .iter()
                    .filter_map(|round| Some(round[peer].get(at)? / round[ours].get(at)?));
                if let Some(spread) = spread(ratios) {
                    outcome.ratios.push(Ratio {
                        heading: race.heading.clone(),
                        metric: metric.clone(),
                        ours: who(ours).0,
                        peer: who(peer).0,
                        regime,
                        times_faster: spread.median,
                        low: spread.low,
                        high: spread.high,
                        rounds: spread.rounds,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch a round that is kept although the CPUs moved meanwhile, and one that is thrown away although they did not,
    // on a machine whose hop takes about as long as the border between near and far.
    #[test]
    fn rounds_are_kept_where_the_probes_agree() {
        assert_eq!(regime(58.0, 71.0), Some("near"));
        assert_eq!(regime(260.0, 190.0), Some("far"));
        assert_eq!((regime(70.0, 240.0), regime(240.0, 70.0)), (None, None));
        assert_eq!(regime(75.0, 128.0), None);
        assert_eq!(regime(125.0, 133.0), Some("near"));
        assert_eq!(regime(129.0, 135.0), Some("far"));
    }
}
