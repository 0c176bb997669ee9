//! How fast the rings of a segment move, and how fast they did.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::Value;

use crate::look::Seen;
use crate::look::counted::{self, Counted};
use crate::show;

/// Looks that are remembered.
const HISTORY: usize = 60;

/// What has been seen of a segment, look by look.
#[derive(Debug, Default)]
pub(super) struct Rates {
    at: Option<Instant>,
    uuid: String,
    objects: BTreeMap<String, Object>,
}

/// What has been seen of one object.
#[derive(Debug, Default)]
pub(super) struct Object {
    counts: Option<Counts>,
    counted: Option<Counted>,
    /// What each place at an end has counted between the last two looks.
    pub(super) parties: Vec<Since>,
    /// Per second, between the last two looks. Not known after one.
    pub(super) rate: Option<Rate>,
    /// How many were pushed per second at each look.
    pub(super) history: VecDeque<f64>,
}

/// What was counted at one place between two looks.
#[derive(Debug)]
pub(super) struct Since {
    pub(super) end: &'static str,
    pub(super) participant: Option<u16>,
    pub(super) counts: counted::Counts,
    pub(super) seconds: f64,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    pushed: u64,
    popped: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) pushed_per_second: f64,
    pub(super) popped_per_second: f64,
}

impl Rates {
    pub(super) fn has_been_seen(&self) -> bool {
        self.at.is_some()
    }

    pub(super) fn object(&self, name: &str) -> Option<&Object> {
        self.objects.get(name)
    }

    /// Takes in another look.
    pub(super) fn add(&mut self, seen: &Seen) {
        let now = Instant::now();
        if self.uuid != seen.uuid {
            *self = Self {
                uuid: seen.uuid.clone(),
                ..Self::default()
            };
        }
        let seconds = self.at.map(|at| (now - at).as_secs_f64().max(1e-3));
        self.at = Some(now);
        for object in &seen.objects {
            let counts = match (&object.ring, object.facts.first()) {
                (Some(ring), _) => Counts {
                    pushed: ring.pushed,
                    popped: ring.popped,
                },
                // A register, a counter of ids: how fast its number grows.
                (None, Some((_, number))) if ["latest", "ids"].contains(&&*object.kind) => {
                    let number = number.parse().unwrap_or(0);
                    Counts {
                        pushed: number,
                        popped: number,
                    }
                }
                _ => continue,
            };
            let known = self.objects.entry(object.name.clone()).or_default();
            if let (Some(before), Some(seconds)) = (known.counts, seconds) {
                // What goes backwards is a damaged ring, and no speed.
                let rate = |now: u64, before: u64| match now.wrapping_sub(before) {
                    more if more <= u64::MAX / 2 => more as f64 / seconds,
                    _ => 0.0,
                };
                let rate = Rate {
                    pushed_per_second: rate(counts.pushed, before.pushed),
                    popped_per_second: rate(counts.popped, before.popped),
                };
                known.rate = Some(rate);
                known.history.push_back(rate.pushed_per_second);
                if known.history.len() > HISTORY {
                    known.history.pop_front();
                }
            }
            known.counts = Some(counts);
            if let (Some(now), Some(before), Some(seconds)) =
                (&object.counted, &known.counted, seconds)
            {
                let since = |party: &counted::Party| {
                    let mut before = before.parties.iter();
                    let before =
                        before.find(|old| (old.end, old.index) == (party.end, party.index));
                    // One who was not there at the last look has counted all of it since.
                    let before = before.map_or_else(counted::Counts::default, |old| old.ever);
                    Since {
                        end: party.end,
                        participant: party.participant,
                        counts: party.ever.since(&before),
                        seconds,
                    }
                };
                known.parties = now.parties.iter().map(since).collect();
            }
            known.counted.clone_from(&object.counted);
        }
    }

    /// For each object its rates, how full it is, and how far each end is behind.
    pub(super) fn json(&self, seen: &Seen) -> Value {
        let moving = seen.objects.iter().filter_map(|object| {
            let known = self.object(&object.name)?;
            let ring = object.ring.as_ref();
            Some(serde_json::json!({
                "name": object.name,
                "kind": object.kind,
                "pushed_per_second": known.rate.map(|rate| rate.pushed_per_second),
                "popped_per_second": known.rate.map(|rate| rate.popped_per_second),
                "used": ring.map(|ring| show::share(ring.used, ring.capacity)),
                "producers_sleep": ring.map(|ring| ring.producers_sleep),
                "consumers_sleep": ring.map(|ring| ring.consumers_sleep),
                "roles": ring.map(|ring| &ring.roles),
                "counted": object.counted,
            }))
        });
        Value::Array(moving.collect())
    }
}
