//! What is to be reached, and whether it was.
//!
//! A target holds in a run if the median of its ratios does, with the interval of ours against itself in the same race as the
//! tolerance. Where a run has rounds with the CPUs near each other, those are judged. A target that no run has measured is
//! shown as such.

use serde_json::Value;

use crate::race::Race;

/// One target: in this suite, with this payload, batch and so many processes, ours is so many times as fast as the other.
pub struct Target {
    suite: &'static str,
    metric: &'static str,
    payload: u64,
    batch: u64,
    processes: u64,
    ours: &'static str,
    peer: &'static str,
    goal: Goal,
}

/// How many times as fast ours is to be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At least so many times.
    Least(f64),
    /// It may take this many times as long.
    Within(f64),
    /// The other, which is dearer, may take this many times as long as ours.
    NotAbove(f64),
}

use Goal::{Least, NotAbove, Within};

impl Goal {
    /// Whether a ratio reaches it, and the ratio as it is to be shown. `tolerance` is 1 if two equal ones are measured as equal.
    fn judge(self, times_faster: f64, tolerance: f64) -> (f64, bool) {
        match self {
            Least(goal) => (times_faster, times_faster >= goal / tolerance),
            Within(goal) => (1.0 / times_faster, 1.0 / times_faster <= goal * tolerance),
            NotAbove(goal) => (times_faster, times_faster <= goal * tolerance),
        }
    }

    fn text(self) -> String {
        match self {
            Least(goal) => format!("at least {goal} times as fast"),
            Within(goal) | NotAbove(goal) => format!("at most {goal} times as long"),
        }
    }
}

fn one_way(payload: u64, ours: &'static str, peer: &'static str, goal: Goal) -> Target {
    Target {
        suite: "latency",
        metric: "ns one way, p50",
        ..stream(payload, 1, ours, peer, goal)
    }
}

fn stream(payload: u64, batch: u64, ours: &'static str, peer: &'static str, goal: Goal) -> Target {
    Target {
        suite: "throughput",
        metric: "ns per message",
        payload,
        batch,
        processes: 2,
        ours,
        peer,
        goal,
    }
}

fn crowd(each: u64, peer: &'static str, goal: Goal) -> Target {
    Target {
        suite: "mpmc",
        processes: 2 * each,
        ..stream(8, 1, "mpmc", peer, goal)
    }
}

/// All of them.
pub fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for (payload, hops) in [(8, 1.1), (24, 1.15), (56, 1.15), (64, 1.4)] {
        targets.push(one_way(payload, "spsc", "hop", Within(hops)));
        targets.push(one_way(payload, "spsc", "shaq-spsc", Least(1.0)));
        targets.push(one_way(payload, "spsc", "rtrb", Least(1.0)));
        targets.push(one_way(payload, "spsc", "iceoryx2", Least(3.0)));
    }
    targets.extend([
        stream(8, 1, "spsc", "rtrb", Least(1.1)),
        stream(8, 1, "spsc", "shaq-spsc", Least(5.0)),
        stream(64, 1, "spsc", "rtrb", Least(1.7)),
    ]);
    for payload in [8, 64, 256] {
        targets.push(stream(payload, 64, "spsc", "shaq-spsc", Least(1.3)));
    }
    for (payload, share) in [
        (64, 0.2),
        (256, 0.5),
        (1024, 0.9),
        (4096, 0.9),
        (65536, 0.9),
        (1 << 20, 0.9),
    ] {
        targets.push(stream(payload, 1, "bytes", "handover", Least(share)));
    }
    for payload in [8, 24, 56, 64, 256, 1024, 4096, 65536, 1 << 20] {
        targets.push(stream(payload, 1, "bytes", "pipe", Least(5.0)));
    }
    targets.push(crowd(1, "shaq-mpmc", Least(4.0)));
    targets.push(crowd(1, "array-queue", Least(1.0)));
    for each in [2, 4] {
        targets.push(crowd(each, "shaq-mpmc", Least(3.0)));
        targets.push(crowd(each, "array-queue", Least(1.0)));
    }
    targets.push(Target {
        suite: "broadcast",
        metric: "ns of the producer per message, lossy",
        processes: 17,
        ..stream(8, 1, "broadcast", "broadcast-to-one", Within(1.2))
    });
    targets.push(Target {
        suite: "wake",
        ..one_way(8, "spsc", "futex", Within(1.2))
    });
    for processes in [1, 2, 4] {
        let ids = |batch, ours, limit, goal| Target {
            suite: "ids",
            metric: "ns per id",
            processes,
            ..stream(8, batch, ours, limit, goal)
        };
        targets.push(ids(1024, "ids-leased", "local-counter", Within(1.2)));
        targets.push(ids(1, "ids-strict", "fetch-add", Within(1.3)));
    }
    for payload in [8, 64, 256] {
        for (ours, copying) in [("spsc", "spsc-copying"), ("bytes", "bytes-copying")] {
            targets.push(Target {
                metric: "ns per message, in place",
                ..stream(payload, 1, ours, copying, NotAbove(1.1))
            });
        }
    }
    targets
}

/// What lies in a list of a report and is about the same race.
fn about<'a>(run: &'a Value, list: &str, target: &'a Target) -> impl Iterator<Item = &'a Value> {
    let entries = run[list].as_array().map_or(&[][..], Vec::as_slice);
    entries.iter().filter(|entry| {
        entry["suite"] == target.suite
            && entry["payload_bytes"] == target.payload
            && entry["batch"] == target.batch
            && entry["processes"] == target.processes
            && entry["metric"] == target.metric
    })
}

/// Whether a ratio or a row is of rounds of that regime.
fn of_regime<'a>(
    run: &'a Value,
    list: &str,
    target: &'a Target,
    regime: &'a str,
) -> impl Iterator<Item = &'a Value> {
    about(run, list, target).filter(move |entry| entry["regime"] == regime)
}

/// How far two equal ones are measured apart in a race, in either direction: 1 if they are not.
fn tolerance(run: &Value, target: &Target, regime: &str) -> f64 {
    let again = of_regime(run, "ratios", target, regime).find(|ratio| {
        let peer = ratio["peer"].as_str().unwrap_or_default();
        peer.ends_with("-again")
    });
    let side = |key: &str| again.and_then(|again| again[key].as_f64()).unwrap_or(1.0);
    side("high").max(1.0 / side("low")).max(1.0)
}

/// The ratio of a run in the nearer of its regimes, as shown, and whether it is reached.
fn judged(run: &Value, target: &Target) -> Option<(f64, bool, &'static str)> {
    ["near", "far"].into_iter().find_map(|regime| {
        let found = of_regime(run, "ratios", target, regime)
            .find(|ratio| ratio["ours"] == target.ours && ratio["peer"] == target.peer)?;
        let (ratio, reached) = target.goal.judge(
            found["times_faster"].as_f64()?,
            tolerance(run, target, regime),
        );
        Some((ratio, reached, regime))
    })
}

/// How many times as long a message takes where eight send to eight as where two send to two, in the nearer regime that
/// both races have rounds of. Of two races, the tolerances of both count.
fn collapsed(run: &Value) -> Option<(f64, bool, &'static str)> {
    let races = [8, 2].map(|each| crowd(each, "", Within(2.0)));
    ["near", "far"].into_iter().find_map(|regime| {
        let [many, few] = [0, 1].map(|race: usize| {
            let mut rows = of_regime(run, "rows", &races[race], regime);
            rows.find(|row| row["subject"] == "mpmc")?["median"].as_f64()
        });
        let tolerance: f64 = races
            .iter()
            .map(|race| tolerance(run, race, regime))
            .product();
        let (ratio, reached) = races[0].goal.judge(few? / many?, tolerance);
        Some((ratio, reached, regime))
    })
}

/// A table of all targets, in Markdown, with what each of the runs reached.
pub fn table(runs: &[Value]) -> String {
    let mut lines = vec![
        "| suite | | ours, other | target | reached | verdict |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for target in targets() {
        let found: Vec<_> = runs.iter().filter_map(|run| judged(run, &target)).collect();
        let mut place = format!("{} B", target.payload);
        if target.batch > 1 {
            place += &format!(", {} a call", target.batch);
        }
        if target.processes != 2 {
            place += &format!(", {} processes", target.processes);
        }
        let who = format!("{}, {}", target.ours, target.peer);
        lines.push(line(
            &[target.suite, &place, &who],
            &target.goal.text(),
            &found,
        ));
    }
    lines.push(line(
        &["mpmc", "8 B, 16 processes", "8×8, 2×2"],
        &Within(2.0).text(),
        &runs.iter().filter_map(collapsed).collect::<Vec<_>>(),
    ));
    lines.join("\n") + "\n"
}

fn line(what: &[&str], target: &str, found: &[(f64, bool, &'static str)]) -> String {
    let reached: Vec<String> = found
        .iter()
        .map(|(ratio, _, regime)| {
            let far = if *regime == "far" { " (far)" } else { "" };
            format!("{ratio:.2}{far}")
        })
        .collect();
    let held = found.iter().filter(|(_, reached, _)| *reached).count();
    let verdict = match found.len() {
        0 => "not measured".to_owned(),
        all if held == all => format!("holds in {held} of {all}"),
        all => format!("**holds in {held} of {all}**"),
    };
    format!(
        "| {} | {target} | {} | {verdict} |",
        what.join(" | "),
        reached.join(", ")
    )
}

/// Leaves of these races only what a target is about: the error bars come of themselves.
pub(crate) fn only_judged(races: &mut Vec<Race<'_>>) {
    let mut targets = targets();
    targets.extend([8, 2].map(|each| crowd(each, "mpmc", Within(2.0))));
    for race in races.iter_mut() {
        let compared = &race.metrics[..race.compared];
        let here: Vec<&Target> = targets
            .iter()
            .filter(|target| {
                race.heading.suite == target.suite
                    && race.heading.payload_bytes as u64 == target.payload
                    && race.heading.batch as u64 == target.batch
                    && race.heading.processes as u64 == target.processes
                    && compared.iter().any(|metric| metric == target.metric)
            })
            .collect();
        let judged = |name: &str| {
            let mut names = here.iter().flat_map(|target| [target.ours, target.peer]);
            names.any(|one| one == name)
        };
        race.entries.retain(|entry| judged(&entry.name));
    }
}

#[cfg(test)]
mod tests {
    use crate::suites::{Context, SUITES};

    use super::*;

    // Would catch a verdict the wrong way round, and a tolerance that makes a target harder.
    #[test]
    fn verdicts_are_the_right_way_round() {
        assert_eq!(Least(3.0).judge(3.1, 1.0), (3.1, true));
        assert!(!Least(3.0).judge(2.9, 1.0).1 && Least(3.0).judge(2.9, 1.05).1);
        assert!(Within(1.25).judge(0.8, 1.0).1 && !Within(1.2).judge(0.8, 1.0).1);
        assert!(Within(1.2).judge(0.8, 1.05).1);
        assert!(NotAbove(1.1).judge(1.0, 1.0).1 && !NotAbove(1.1).judge(1.2, 1.05).1);
    }

    // Would catch a ratio that is looked for by another name than it has, and a far one that is taken for a near one.
    #[test]
    fn the_ratio_of_the_near_regime_is_judged() {
        let ratio = |peer: &str, regime: &str, times: f64| {
            serde_json::json!({
                "suite": "throughput", "metric": "ns per message", "payload_bytes": 8, "batch": 1, "processes": 2,
                "ours": "spsc", "peer": peer, "regime": regime, "times_faster": times, "low": 0.9, "high": 1.05,
            })
        };
        let target = stream(8, 1, "spsc", "rtrb", Least(1.1));
        let far = serde_json::json!({ "ratios": [ratio("rtrb", "far", 0.5)] });
        assert_eq!(judged(&far, &target), Some((0.5, false, "far")));
        let both = serde_json::json!({ "ratios": [
            ratio("rtrb", "far", 0.5), ratio("rtrb", "near", 1.0), ratio("spsc-again", "near", 1.0),
        ]});
        assert_eq!(judged(&both, &target), Some((1.0, true, "near")));
        assert_eq!(judged(&serde_json::json!({}), &target), None);
    }

    // Would catch a collapse that is judged from rounds of two regimes, or the wrong way round.
    #[test]
    fn eight_and_eight_are_compared_with_two_and_two() {
        let row = |processes: u64, regime: &str, median: f64| {
            serde_json::json!({
                "suite": "mpmc", "metric": "ns per message", "payload_bytes": 8, "batch": 1, "processes": processes,
                "subject": "mpmc", "regime": regime, "median": median,
            })
        };
        let run = serde_json::json!({ "rows": [
            row(4, "near", 20.0), row(4, "far", 50.0), row(16, "far", 150.0),
        ]});
        assert_eq!(collapsed(&run), Some((3.0, false, "far")));
        let run = serde_json::json!({ "rows": [row(4, "near", 20.0), row(16, "near", 25.0)] });
        assert_eq!(collapsed(&run), Some((1.25, true, "near")));
        assert_eq!(collapsed(&serde_json::json!({})), None);
    }

    // Would catch a run of what is judged that leaves out what is, and one that takes as long as everything.
    #[test]
    fn what_is_judged_is_left_and_nothing_else() {
        let subjects = crate::subject::all();
        let context = Context {
            subjects: &subjects,
            cpus: &[0, 1],
            quick: false,
            payloads: &[],
        };
        let mut races: Vec<Race> = SUITES
            .iter()
            .flat_map(|(_, races)| races(&context))
            .collect();
        only_judged(&mut races);
        let left = |suite: &str, payload: usize, processes: usize| {
            let mut names: Vec<&str> = races
                .iter()
                .filter(|race| race.heading.suite == suite)
                .filter(|race| race.heading.payload_bytes == payload)
                .filter(|race| race.heading.processes == processes)
                .flat_map(|race| race.entries.iter().map(|entry| entry.name.as_str()))
                .collect();
            names.sort_unstable();
            names
        };
        assert_eq!(left("latency", 8, 2), ["hop", "spsc"]);
        assert_eq!(left("throughput", 4096, 2), ["bytes", "handover", "pipe"]);
        // The collapse is judged by two rows, and not by a ratio.
        assert_eq!(left("mpmc", 8, 16), ["mpmc"]);
        assert!(left("mpmc", 64, 2).is_empty() && left("cold", 8, 2).is_empty());
    }

    // Would catch a target that no race measures under that heading and by those names, and so one that is never judged.
    #[test]
    fn every_target_is_measured() {
        const PEERS: [&str; 5] = ["shaq-spsc", "shaq-mpmc", "rtrb", "iceoryx2", "array-queue"];
        let subjects = crate::subject::all();
        let context = Context {
            subjects: &subjects,
            cpus: &[0, 1],
            quick: false,
            payloads: &[],
        };
        let races: Vec<Race> = SUITES
            .iter()
            .flat_map(|(_, races)| races(&context))
            .collect();
        for target in targets() {
            let found = races.iter().any(|race| {
                let heading = (race.heading.suite, race.heading.payload_bytes as u64);
                let sizes = (race.heading.batch as u64, race.heading.processes as u64);
                let has = |name: &str| race.entries.iter().any(|entry| entry.name == name);
                heading == (target.suite, target.payload)
                    && sizes == (target.batch, target.processes)
                    && race.metrics[..race.compared].contains(&target.metric.to_owned())
                    && has(target.ours)
                    && (has(target.peer) || PEERS.contains(&target.peer))
            });
            let place = format!("{} B, {}", target.payload, target.processes);
            assert!(
                found,
                "{} {place}: {}, {}",
                target.suite, target.ours, target.peer
            );
        }
    }
}
