//! Tables for people, as text.

use std::fmt::Write as _;

use super::{Report, figure, time, title};

/// The rows and ratios as text.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "{}, CPUs {:?}: {}; {}{}",
        machine.processor,
        machine.pair,
        machine.topology,
        machine.kernel,
        if machine.virtual_machine {
            "; a virtual machine"
        } else {
            ""
        }
    );
    let noise = &report.outcome.noise;
    let _ = writeln!(
        text,
        "{} rounds near, {} far, {} discarded since the CPUs moved meanwhile",
        noise.near_rounds, noise.far_rounds, noise.discarded_rounds
    );
    if let Some(hop) = &noise.hop_ns {
        let _ = writeln!(
            text,
            "bare hop {} [{} .. {}]",
            time(hop.median),
            time(hop.min),
            time(hop.max)
        );
    }
    if report
        .outcome
        .ratios
        .iter()
        .any(|ratio| ratio.peer.ends_with("-again"))
    {
        text += "a row that ends in -again is ours a second time, and its interval the error bar: no smaller difference means anything\n";
    }
    for (subject, version) in &report.versions {
        let _ = writeln!(text, "{subject} {version}");
    }
    for group in report.groups() {
        let _ = writeln!(text, "\n{}", title(&group[0]));
        for row in group {
            let spread = &row.spread;
            let _ = write!(
                text,
                "  {:<18} {:>9}  [{} .. {}] {} rounds",
                row.subject,
                figure(&row.metric, spread.median),
                figure(&row.metric, spread.low),
                figure(&row.metric, spread.high),
                spread.rounds
            );
            if let Some(ratio) = report.ratio(row) {
                let _ = write!(
                    text,
                    "; {} is {:.2} [{:.2} {:.2}] times as fast",
                    ratio.ours, ratio.times_faster, ratio.low, ratio.high
                );
            }
            let _ = writeln!(text);
        }
    }
    for skipped in &report.outcome.skipped {
        let _ = writeln!(text, "skipped: {skipped}");
    }
    text
}
