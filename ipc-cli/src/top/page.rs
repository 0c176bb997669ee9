//! What `ipc top` shows.

use std::fmt::Write;
use std::time::Duration;

use super::{Watched, rates};
use crate::look::{Object, Ring, Seen};
use crate::show::{self, Look, Screen};

/// Columns of a bar.
const BAR: usize = 10;

/// The whole screen: lines that fit it, without the last line break.
pub(super) fn screen(watched: &[Watched], interval: Duration, screen: &Screen) -> String {
    let (width, height) = (screen.width.unwrap_or(80), screen.height.unwrap_or(24));
    let mut lines = Vec::new();
    let attached: usize = each(watched).map(|(_, seen)| seen.alive().count()).sum();
    let waiting: usize = each(watched).map(|(_, seen)| seen.waiting()).sum();
    lines.push((
        format!(
            "ipc top  {} segment{}, {attached} attached, {waiting} waiting  every {interval:?}  q quits",
            watched.len(),
            if watched.len() == 1 { "" } else { "s" },
        ),
        Look::Bold,
    ));
    for one in watched {
        match &one.seen {
            Ok(seen) => segment(&mut lines, one, seen, width),
            Err(error) => lines.push((format!("{}  {error}", show::plain(&one.name)), Look::Bad)),
        }
    }
    if watched.is_empty() {
        lines.push(("there is no segment yet".to_owned(), Look::Faint));
    }
    let hidden = lines.len().saturating_sub(height);
    if hidden > 0 {
        lines.truncate(height.saturating_sub(1));
        lines.push((format!("... {} lines more", hidden + 1), Look::Faint));
    }
    let painted = lines
        .iter()
        .map(|(line, look)| screen.paint(&show::cut(line, width), *look));
    painted.collect::<Vec<_>>().join("\n")
}

fn each(watched: &[Watched]) -> impl Iterator<Item = (&Watched, &Seen)> {
    watched
        .iter()
        .filter_map(|one| Some((one, one.seen.as_ref().ok()?)))
}

fn segment(lines: &mut Vec<(String, Look)>, one: &Watched, seen: &Seen, width: usize) {
    let dead = match seen.dead().count() {
        0 => String::new(),
        dead => format!(", {dead} dead"),
    };
    let look = match (&seen.fault, &*dead) {
        (None, "") => Look::Plain,
        _ => Look::Warning,
    };
    lines.push((
        format!(
            "{}  {}, {} attached{dead}{}",
            show::plain(&one.name),
            seen.state.text(),
            seen.alive().count(),
            if seen.fault.is_some() { ", broken" } else { "" }
        ),
        look,
    ));
    for object in &seen.objects {
        let Some(known) = one.rates.object(&object.name) else {
            continue;
        };
        let mut line = format!("  {:<10} {:<7}", object.name, object.kind);
        if let Some(ring) = &object.ring {
            let share = show::share(ring.used, ring.capacity);
            let _ = write!(line, " {} {:>3.0}%", show::bar(share, BAR), share * 100.0);
        }
        let rate = known.rate.map_or_else(
            || "-".to_owned(),
            |rate| format!("{}/s", show::short(rate.pushed_per_second)),
        );
        let _ = write!(line, " {rate:>9}  {}", sleeping(object));
        // What is left of the line is for the past.
        let room = width.saturating_sub(show::length(&line) + 2);
        let past = known.history.len().saturating_sub(room);
        let _ = write!(
            line,
            "  {}",
            show::sparkline(known.history.iter().copied().skip(past))
        );
        let full = object
            .ring
            .as_ref()
            .is_some_and(|ring| ring.used >= ring.capacity);
        lines.push((
            line.trim_end().to_owned(),
            if full { Look::Warning } else { Look::Plain },
        ));
        if let Some(ring) = &object.ring {
            let workers = workers(seen, ring, known).into_iter();
            lines.extend(workers.map(|line| (format!("    {line}"), Look::Faint)));
        }
    }
    for wait in &seen.waits {
        let line = format!(
            "  {} waits for {}",
            seen.who(wait.participant),
            wait.text(seen)
        );
        lines.push((line, Look::Faint));
    }
}

/// Which sides sleep: `p` producers, `c` consumers.
fn sleeping(object: &Object) -> &'static str {
    match object
        .ring
        .as_ref()
        .map(|ring| (ring.producers_sleep, ring.consumers_sleep))
    {
        Some((true, true)) => "both sleep",
        Some((true, false)) => "producer sleeps",
        Some((false, true)) => "consumer sleeps",
        _ => "",
    }
}

/// Who works at each end: how far behind, and what was counted there lately, by the second.
fn workers(seen: &Seen, ring: &Ring, known: &rates::Object) -> Vec<String> {
    let mut readers: Vec<_> = ring
        .roles
        .iter()
        .filter(|role| role.role != "producer" && role.participant.is_some())
        .collect();
    let mut lines = Vec::new();
    for party in &known.parties {
        let Some(number) = party.participant else {
            continue;
        };
        // In a broadcast, one who reads at a place of its own may read at another as well.
        let role = readers
            .iter()
            .position(|role| party.end == "consumer" && role.participant == Some(number));
        let role = role.map(|index| readers.remove(index));
        let end = role.map_or(party.end, |role| role.role);
        let mut texts = counts(party);
        if let Some(role) = role {
            texts.insert(0, format!("{} behind", show::count(role.behind)));
        }
        lines.push(format!(
            "{end} {}: {}",
            seen.who(number),
            match texts.is_empty() {
                true => "nothing".to_owned(),
                false => texts.join(", "),
            }
        ));
    }
    for role in readers {
        let who = role.participant.map(|number| seen.who(number));
        lines.push(format!(
            "{} {}: {} behind",
            role.role,
            who.unwrap_or_default(),
            show::count(role.behind)
        ));
    }
    lines
}

/// What was counted by the second, without what did not happen.
fn counts(party: &rates::Since) -> Vec<String> {
    let counts = &party.counts;
    let per_second = |count: u64| count as f64 / party.seconds;
    let mut texts = Vec::new();
    if counts.messages > 0 {
        texts.push(format!("{}/s", show::short(per_second(counts.messages))));
    }
    if counts.bytes > 0 {
        texts.push(format!(
            "{}/s",
            show::bytes(per_second(counts.bytes) as u64)
        ));
    }
    for (count, what) in [
        (counts.full, "full"),
        (counts.empty, "empty"),
        (counts.waits, "waits"),
        (counts.wake_ups, "wake-ups"),
        (counts.lagged, "lagged"),
        (counts.recovered, "recovered"),
    ] {
        if count > 0 {
            texts.push(format!("{} {what}/s", show::short(per_second(count))));
        }
    }
    texts
}

/// A rate in whole numbers, or a dash for one that is not known yet.
fn whole(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

/// A few lines for whoever is no terminal: one for each object that can move.
pub(super) fn plain(watched: &[Watched]) -> String {
    let mut text = String::new();
    for one in watched {
        let name = show::plain(&one.name);
        let seen = match &one.seen {
            Ok(seen) => seen,
            Err(error) => {
                let _ = writeln!(text, "{name}: {error}");
                continue;
            }
        };
        for object in &seen.objects {
            let Some(known) = one.rates.object(&object.name) else {
                continue;
            };
            let used = object.ring.as_ref().map_or_else(
                || "-".to_owned(),
                |ring| format!("{:.0}%", show::share(ring.used, ring.capacity) * 100.0),
            );
            let lag: Vec<String> = object
                .ring
                .iter()
                .flat_map(|ring| workers(seen, ring, known))
                .collect();
            let _ = writeln!(
                text,
                "{name} {} {} pushed/s {} taken/s {} used {used} attached {} waiting {}{}{}",
                object.name,
                object.kind,
                whole(known.rate.map(|rate| rate.pushed_per_second)),
                whole(known.rate.map(|rate| rate.popped_per_second)),
                seen.alive().count(),
                seen.waiting(),
                if lag.is_empty() { "" } else { "; " },
                lag.join("; ")
            );
        }
    }
    text
}
