//! What `ipc pair` prints.

use std::fmt::Write;

use anyhow::Result;
use clap::ValueEnum;
use indicatif::HumanCount;
use serde_json::json;

use super::Pair;
use super::latency::{Latency, Measured};
use super::work::Consumed;

const GIB: f64 = (1 << 30) as f64;

/// Everything that a run found.
pub(super) struct Report {
    pub(super) pair: Pair,
    pub(super) cpus: Option<[usize; 2]>,
    pub(super) measured: Measured,
    pub(super) consumed: Consumed,
    pub(super) taken_over: Option<TakenOver>,
}

/// How the second consumer went on where the first was killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenOver {
    /// Messages that the first had verified and said so.
    pub(super) verified_before: u64,
    /// Messages that it had committed, as the ring says after its death.
    pub(super) committed: u64,
}

impl Report {
    /// Whether every message was seen once, in order and whole, by a consumer that lived, or was in the hand of the one
    /// that was killed: committed, and not yet counted by it.
    pub(super) fn verified(&self) -> bool {
        match self.taken_over {
            None => self.consumed.first == 0,
            Some(over) => {
                let in_hand = over.committed.checked_sub(over.verified_before);
                self.consumed.first == over.committed
                    && in_hand.is_some_and(|in_hand| in_hand <= u64::from(self.pair.batch))
            }
        }
    }

    fn messages(&self) -> u64 {
        self.consumed.end
    }

    fn bytes(&self) -> u64 {
        self.messages() * self.pair.size as u64
    }

    fn per_second(&self, amount: f64) -> f64 {
        amount / self.consumed.seconds.max(1e-9)
    }

    /// How many times as long as the bare hop the ring takes, by the medians.
    fn to_hop(&self) -> Option<f64> {
        let hop = self.measured.hop?;
        Some(self.measured.ring.p50 / hop.p50)
    }

    /// One object.
    pub(super) fn json(&self) -> Result<String> {
        let taken_over = self.taken_over.map(|over| {
            json!({
                "verified_before": over.verified_before,
                "committed": over.committed,
                "resumed_at": self.consumed.first,
            })
        });
        let object = json!({
            "schema_version": 1,
            "messages": self.messages(),
            "bytes": self.bytes(),
            "seconds": self.consumed.seconds,
            "messages_per_second": self.per_second(self.messages() as f64),
            "gib_per_second": self.per_second(self.bytes() as f64) / GIB,
            "verified": self.verified(),
            "latency_ns": self.measured.ring,
            "hop_ns": self.measured.hop,
            "latency_to_hop": self.to_hop(),
            "size": self.pair.size,
            "capacity": self.pair.capacity,
            "batch": self.pair.batch,
            "backing": name(self.pair.backing),
            "wait": name(self.pair.wait),
            "cpus": self.cpus,
            "taken_over": taken_over,
        });
        Ok(serde_json::to_string(&object)? + "\n")
    }

    /// A few lines.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("a string takes what is written");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let pair = &self.pair;
        let cpus = match self.cpus {
            Some([producer, consumer]) => format!("on CPUs {producer} and {consumer}"),
            None => "not pinned: there is one CPU".to_owned(),
        };
        writeln!(
            out,
            "spsc ring of {} messages of {} bytes, in {} memory; two processes {cpus}",
            HumanCount(pair.capacity as u64),
            pair.size,
            name(pair.backing)
        )?;
        writeln!(
            out,
            "messages  {} in {:.2} s, {}",
            HumanCount(self.messages()),
            self.consumed.seconds,
            if self.verified() {
                "each verified: number and checksum"
            } else {
                "NOT VERIFIED"
            },
        )?;
        writeln!(
            out,
            "rate      {} messages/s, {:.2} GiB/s",
            HumanCount(self.per_second(self.messages() as f64) as u64),
            self.per_second(self.bytes() as f64) / GIB
        )?;
        writeln!(
            out,
            "latency   {}   one way: half a round trip",
            line(&self.measured.ring)
        )?;
        match (self.measured.hop, self.to_hop()) {
            (Some(hop), Some(ratio)) => {
                writeln!(
                    out,
                    "bare hop  {}   one cache line, same CPUs, same moments",
                    line(&hop)
                )?;
                writeln!(
                    out,
                    "ratio     the ring takes {ratio:.2} times the bare hop"
                )?;
            }
            _ => writeln!(out, "bare hop  not measured: it takes two CPUs")?,
        }
        if let Some(over) = self.taken_over {
            writeln!(
                out,
                "killed    the consumer at message {}; it had committed {}, and the next one went on at {}",
                HumanCount(over.verified_before),
                HumanCount(over.committed),
                HumanCount(self.consumed.first)
            )?;
        }
        Ok(())
    }
}

fn line(latency: &Latency) -> String {
    format!(
        "p50 {:>7}   p99 {:>7}   p99.9 {:>7}   max {:>7}",
        time(latency.p50),
        time(latency.p99),
        time(latency.p999),
        time(latency.max)
    )
}

/// Nanoseconds in a unit that keeps them short.
fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e4 => format!("{ns:.0} ns"),
        _ if ns < 1e7 => format!("{:.0} us", ns / 1e3),
        _ => format!("{:.0} ms", ns / 1e6),
    }
}

fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
