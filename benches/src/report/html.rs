//! One page that needs nothing else: the machine, its noise, plots and tables.

use std::fmt::Write as _;

use super::plot::{Line, Plot};
use super::{Report, figure, size, time, title};
use crate::measure::PERCENTILES;
use crate::race::Row;
use crate::subject::Side;

const STYLE: &str = include_str!("style.css");

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>ipc: a race of rings</title><style>{STYLE}</style>\n"
    );
    head(&mut page, report);
    let mut suites: Vec<&str> = report
        .outcome
        .rows
        .iter()
        .map(|row| row.heading.suite)
        .collect();
    suites.dedup();
    page += "<nav>";
    for suite in &suites {
        let _ = write!(page, "<a href=\"#{suite}\">{suite}</a>");
    }
    page += "</nav>\n";
    for suite in suites {
        let _ = writeln!(page, "<h2 id=\"{suite}\">{suite}</h2>");
        page += "<div class=\"plots\">";
        match suite {
            "latency" => percentile_plots(&mut page, report),
            "throughput" => throughput_plots(&mut page, report),
            _ => {}
        }
        page += "</div>\n";
        for group in report.groups() {
            if group[0].heading.suite == suite {
                table(&mut page, report, group);
            }
        }
    }
    if !report.outcome.skipped.is_empty() {
        page += "<h2>Skipped</h2><ul>";
        for skipped in &report.outcome.skipped {
            let _ = write!(page, "<li>{}</li>", escaped(skipped));
        }
        page += "</ul>\n";
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn head(page: &mut String, report: &Report) {
    let machine = &report.machine;
    let noise = &report.outcome.noise;
    *page += "<h1>A race of rings</h1>\n<p>Every figure is the median of interleaved rounds in which all subjects ran one \
              after the other on the same CPUs, in processes of their own, with every message checked where it arrived. \
              Compare within a table; absolute times mean little on a shared machine. The row that ends in \
              <i>-again</i> is the same subject a second time: no smaller difference means anything.</p>\n<dl>";
    let mut entry = |name: &str, text: &str| {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(text));
    };
    entry("version", &format!("ipc {}", report.version));
    entry("processor", &machine.processor);
    entry(
        "pair",
        &format!("CPUs {:?}: {}", machine.pair, machine.topology),
    );
    entry("caches", &machine.caches.join("; "));
    let kind = if machine.virtual_machine {
        ", a virtual machine"
    } else {
        ""
    };
    let memory = machine.memory_bytes as f64 / f64::from(1 << 30);
    entry(
        "system",
        &format!(
            "{}, {} CPUs, {memory:.0} GiB{kind}",
            machine.kernel,
            machine.cpus.len()
        ),
    );
    if let Some(hop) = &noise.hop_ns {
        let text = format!(
            "bare hop {} (from {} to {}); {} rounds near, {} far, {} discarded because the CPUs moved meanwhile",
            time(hop.median),
            time(hop.min),
            time(hop.max),
            noise.near_rounds,
            noise.far_rounds,
            noise.discarded_rounds
        );
        entry("noise", &text);
    }
    let peers = report.versions.iter();
    let peers: Vec<String> = peers
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    if !peers.is_empty() {
        entry("peers", &peers.join(", "));
    }
    let length = if report.quick {
        "a quick run"
    } else {
        "a careful run"
    };
    entry("run", &format!("{length} of {:.0} s", report.seconds));
    *page += "</dl>\n";
}

/// The regime that most rounds were in.
fn main_regime(report: &Report) -> &'static str {
    let noise = &report.outcome.noise;
    if noise.near_rounds >= noise.far_rounds {
        "near"
    } else {
        "far"
    }
}

/// A plot for each payload, and each rate, by percentile.
fn percentile_plots(page: &mut String, report: &Report) {
    let regime = main_regime(report);
    let places: Vec<String> = PERCENTILES
        .iter()
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let rows = |row: &&Row| row.heading.suite == "latency" && row.regime == regime;
    let rows: Vec<&Row> = report.outcome.rows.iter().filter(rows).collect();
    // Of one race, all metrics follow each other.
    let what = |row: &Row| {
        row.metric
            .rsplit_once(", ")
            .map_or(String::new(), |(what, _)| what.to_owned())
    };
    for race in rows.chunk_by(|a, b| a.heading == b.heading && what(a) == what(b)) {
        let mut lines: Vec<Line> = Vec::new();
        for row in race.iter().filter(|row| row.side != Side::Again) {
            let place = places
                .iter()
                .position(|name| row.metric.ends_with(&format!(", {name}")));
            let Some(place) = place else { continue };
            let line = match lines.iter_mut().position(|line| line.name == row.subject) {
                Some(index) => &mut lines[index],
                None => {
                    lines.push(line(report, row));
                    let last = lines.len() - 1;
                    &mut lines[last]
                }
            };
            line.points.push((place, row.spread.median));
        }
        let plot = Plot {
            unit: format!("{}, {}", size(race[0].heading.payload_bytes), what(race[0])),
            places: places.clone(),
            lines,
            label: time,
            tick: round_time,
        };
        *page += &plot.svg();
    }
}

fn line(report: &Report, row: &Row) -> Line {
    // One subject has one colour on the whole page.
    let rows = report.outcome.rows.iter();
    let mut names: Vec<&str> = Vec::new();
    for subject in rows.filter(|row| row.side != Side::Again) {
        if !names.contains(&subject.subject.as_str()) {
            names.push(&subject.subject);
        }
    }
    let colour = names.iter().position(|name| *name == row.subject);
    Line {
        name: row.subject.clone(),
        colour: colour.unwrap_or(0),
        dashed: row.side == Side::Limit,
        points: Vec::new(),
    }
}

/// Bytes in a second by size, for each way of sending.
fn throughput_plots(page: &mut String, report: &Report) {
    let regime = main_regime(report);
    let of_suite = |row: &&Row| {
        row.heading.suite == "throughput" && row.regime == regime && row.side != Side::Again
    };
    let rows: Vec<&Row> = report.outcome.rows.iter().filter(of_suite).collect();
    let mut ways: Vec<(usize, &str)> = rows
        .iter()
        .map(|row| (row.heading.batch, &*row.metric))
        .collect();
    ways.sort_unstable();
    ways.dedup();
    for (batch, metric) in ways {
        let rows = rows
            .iter()
            .filter(|row| (row.heading.batch, &*row.metric) == (batch, metric));
        let mut sizes: Vec<usize> = rows.clone().map(|row| row.heading.payload_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut lines: Vec<Line> = Vec::new();
        for row in rows {
            let place = sizes.binary_search(&row.heading.payload_bytes).unwrap_or(0);
            let index = lines.iter().position(|line| line.name == row.subject);
            let index = index.unwrap_or_else(|| {
                lines.push(line(report, row));
                lines.len() - 1
            });
            let bytes_each = row.heading.payload_bytes as f64;
            // Bytes per nanosecond are gigabytes per second.
            lines[index]
                .points
                .push((place, bytes_each / row.spread.median));
        }
        let way = match (batch, metric.contains("in place")) {
            (1, false) => "one message a call".to_owned(),
            (1, true) => "written and read in place".to_owned(),
            (batch, _) => format!("batches of {batch}"),
        };
        let plot = Plot {
            unit: format!("GB/s, {way}"),
            places: sizes.iter().map(|bytes| size(*bytes)).collect(),
            lines,
            label: gigabytes,
            tick: gigabytes,
        };
        *page += &plot.svg();
    }
}

/// A power of ten, in nanoseconds, as short as it can be said.
fn round_time(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let fits = |(size, _): &&(f64, &str)| nanoseconds >= *size;
    let (size, unit) = units.iter().find(fits).unwrap_or(&(1.0, "ns"));
    format!("{} {unit}", nanoseconds / size)
}

fn gigabytes(value: f64) -> String {
    if value < 1.0 {
        format!("{} MB/s", (value * 1e3 * 10.0).round() / 10.0)
    } else {
        format!("{} GB/s", (value * 10.0).round() / 10.0)
    }
}

fn table(page: &mut String, report: &Report, group: &[Row]) {
    // Of a distribution the median is shown, and the rest on demand: the plot has it all.
    let folded = PERCENTILES[1..]
        .iter()
        .any(|(_, name)| group[0].metric.ends_with(&format!(", {name}")));
    let (before, between, after) = if folded {
        ("<details><summary>", "</summary>", "</details>")
    } else {
        ("<h3>", "</h3>", "")
    };
    let _ = write!(
        page,
        "{before}{}{between}<div class=\"wide\"><table><tr><th></th><th>median</th><th class=\"spread\">quartiles</th>\
         <th>ours, times as fast</th><th class=\"spread\">quartiles</th><th class=\"spread\">rounds</th></tr>",
        escaped(&title(&group[0]))
    );
    for row in group {
        let class = match row.side {
            Side::Ours => "ours",
            Side::Limit => "limit",
            _ => "other",
        };
        let spread = &row.spread;
        let (ratio, quartiles) = match report.ratio(row) {
            Some(ratio) => (
                format!(
                    "{:.2} <span class=\"faint\">{}</span>",
                    ratio.times_faster, ratio.ours
                ),
                format!("{:.2} – {:.2}", ratio.low, ratio.high),
            ),
            None => Default::default(),
        };
        let _ = write!(
            page,
            "<tr class=\"{class}\"><td>{}</td><td class=\"number\">{}</td><td class=\"spread\">{} – {}</td>\
             <td>{ratio}</td><td class=\"spread\">{quartiles}</td><td class=\"spread number\">{}</td></tr>",
            row.subject,
            figure(&row.metric, spread.median),
            figure(&row.metric, spread.low),
            figure(&row.metric, spread.high),
            spread.rounds
        );
    }
    let _ = writeln!(page, "</table></div>{after}");
}
