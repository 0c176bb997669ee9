//! Races: rounds in which all subjects run one after the other, so that each pair of them saw the same machine.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::{Spread, spread};
use crate::subject::Side;

/// What one race is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Heading {
    /// The suite that it belongs to.
    pub suite: &'static str,
    /// Bytes of a message.
    pub payload_bytes: usize,
    /// Messages per call.
    pub batch: usize,
    /// Processes on both sides together.
    pub processes: usize,
}

/// What one subject did in one race.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The race.
    #[serde(flatten)]
    pub heading: Heading,
    /// Who.
    pub subject: &'static str,
    /// Whose side it is on.
    pub side: Side,
    /// What was measured, with its unit.
    pub metric: &'static str,
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
    pub metric: &'static str,
    /// Ours.
    pub ours: &'static str,
    /// The other one.
    pub peer: &'static str,
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

/// Everything that a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What each subject did.
    pub rows: Vec<Row>,
    /// Ours against the others.
    pub ratios: Vec<Ratio>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// The rounds of one race: for each round its regime and the value of each subject.
#[derive(Debug)]
pub struct Rounds {
    heading: Heading,
    metric: &'static str,
    subjects: Vec<(&'static str, Side)>,
    rounds: BTreeMap<&'static str, Vec<Vec<Option<f64>>>>,
}

impl Rounds {
    /// A race of these subjects, in this order.
    pub fn new(
        heading: Heading,
        metric: &'static str,
        subjects: Vec<(&'static str, Side)>,
    ) -> Self {
        Self {
            heading,
            metric,
            subjects,
            rounds: BTreeMap::new(),
        }
    }

    /// Adds a round: smaller is better.
    pub fn add(&mut self, regime: &'static str, values: Vec<Option<f64>>) {
        self.rounds.entry(regime).or_default().push(values);
    }

    /// Adds what the race came to.
    pub fn conclude(&self, outcome: &mut Outcome) {
        for (&regime, rounds) in &self.rounds {
            for (index, &(subject, side)) in self.subjects.iter().enumerate() {
                let (heading, metric) = (self.heading.clone(), self.metric);
                if let Some(spread) = spread(rounds.iter().filter_map(|round| round[index])) {
                    outcome.rows.push(Row {
                        heading,
                        subject,
                        side,
                        metric,
                        regime,
                        spread,
                    });
                }
            }
            let ours = self
                .subjects
                .iter()
                .enumerate()
                .filter(|(_, (_, side))| *side == Side::Ours);
            for (our_index, &(ours, _)) in ours {
                for (index, &(peer, _)) in self
                    .subjects
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != our_index)
                {
                    let ratios = rounds
                        .iter()
                        .filter_map(|round| Some(round[index]? / round[our_index]?));
                    if let Some(spread) = spread(ratios) {
                        let Spread {
                            median,
                            low,
                            high,
                            rounds,
                            ..
                        } = spread;
                        let (heading, metric) = (self.heading.clone(), self.metric);
                        let times_faster = median;
                        outcome.ratios.push(Ratio {
                            heading,
                            metric,
                            ours,
                            peer,
                            regime,
                            times_faster,
                            low,
                            high,
                            rounds,
                        });
                    }
                }
            }
        }
    }
}
