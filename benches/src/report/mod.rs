//! What a run came to, for people and for programs.

mod html;
mod plot;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::machine::Machine;
use crate::race::{Outcome, Ratio, Row};
use crate::subject::Side;

/// The version of what [`Report::json`] gives.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of this project.
    pub version: &'static str,
    /// Whether it was done with less.
    pub quick: bool,
    /// How long it took.
    pub seconds: f64,
    /// Where.
    pub machine: Machine,
    /// The versions of the others that took part.
    pub versions: BTreeMap<&'static str, &'static str>,
    /// The figures.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Report {
    /// Tables for people.
    pub fn table(&self) -> String {
        table::text(self)
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// The tables: rows with the same heading, metric and regime, in the order in which they were run.
    fn groups(&self) -> Vec<&[Row]> {
        let same = |a: &Row, b: &Row| {
            (&a.heading, a.regime, &a.metric) == (&b.heading, b.regime, &b.metric)
        };
        self.outcome.rows.chunk_by(same).collect()
    }

    /// Ours against the subject of a row, for the one of ours that is compared with it best: the fastest.
    fn ratio(&self, row: &Row) -> Option<&Ratio> {
        if row.side == Side::Ours {
            return None;
        }
        let ratios = self.outcome.ratios.iter();
        ratios
            .filter(|ratio| {
                (&ratio.heading, ratio.regime, &ratio.metric, &ratio.peer)
                    == (&row.heading, row.regime, &row.metric, &row.subject)
            })
            .max_by(|a, b| a.times_faster.total_cmp(&b.times_faster))
    }
}

/// Nanoseconds as people read them.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 9_999.5 => (ns, "ns"),
        ns if ns < 9_999_500.0 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    };
    let digits = match value {
        value if value < 9.95 => 2,
        value if value < 99.5 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A value of a metric as people read it.
fn figure(metric: &str, value: f64) -> String {
    if metric.starts_with("ns") {
        time(value)
    } else {
        // A count, whose unit is in the title.
        format!("{:.4}", value)
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    }
}

/// Bytes as people read them.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
            format!("{} MiB", bytes >> 20)
        }
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", bytes >> 10)
        }
        bytes => format!("{bytes} B"),
    }
}

/// What a group is about, in a line.
fn title(row: &Row) -> String {
    let heading = &row.heading;
    let mut title = format!("{}, {}", heading.suite, size(heading.payload_bytes));
    if heading.batch > 1 {
        title += &format!(", batches of {}", heading.batch);
    }
    let processes = match (heading.suite, heading.processes) {
        ("mpmc", count) => format!(", {0}×{0} processes", count / 2),
        ("broadcast", count) => format!(", {} readers", count - 1),
        (_, 2) => String::new(),
        (_, 1) => ", 1 process".into(),
        (_, count) => format!(", {count} processes"),
    };
    title + &processes + &format!(": {}, {} CPUs", row.metric, row.regime)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch a figure that is shown a thousand times off.
    #[test]
    fn figures_are_shown_in_their_units() {
        assert_eq!(time(3.456), "3.46 ns");
        assert_eq!(time(71.26), "71.3 ns");
        assert_eq!(time(33_500.0), "33.5 µs");
        assert_eq!(time(12e6), "12.0 ms");
        assert_eq!(figure("ns one way", 3.456), "3.46 ns");
        assert_eq!(figure("system calls per message", 2.0), "2");
        assert_eq!(figure("system calls per message", 0.0125), "0.0125");
        assert_eq!(figure("system calls per message", 0.0), "0");
        assert_eq!(size(8), "8 B");
        assert_eq!(size(65536), "64 KiB");
        assert_eq!(size(1 << 20), "1 MiB");
    }
}
