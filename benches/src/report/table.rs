//! Tables for people.

use std::fmt::Write as _;

use crate::race::Outcome;

/// The rows and ratios as text.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut heading = None;
    for row in &outcome.rows {
        if heading.as_ref() != Some(&(&row.heading, row.regime)) {
            let h = &row.heading;
            let _ = writeln!(
                text,
                "\n{}: {} B, batches of {}, {} processes, {} CPUs, {}",
                h.suite, h.payload_bytes, h.batch, h.processes, row.regime, row.metric
            );
            heading = Some((&row.heading, row.regime));
        }
        let spread = &row.spread;
        let _ = write!(
            text,
            "  {:<14} {:>10.2}  [{:.2} {:.2}]",
            row.subject, spread.median, spread.low, spread.high
        );
        let ratio = outcome.ratios.iter().find(|ratio| {
            ratio.heading == row.heading && ratio.regime == row.regime && ratio.peer == row.subject
        });
        if let Some(ratio) = ratio {
            let _ = write!(
                text,
                "   {} is {:.2} [{:.2} {:.2}] times as fast",
                ratio.ours, ratio.times_faster, ratio.low, ratio.high
            );
        }
        let _ = writeln!(text);
    }
    for skipped in &outcome.skipped {
        let _ = writeln!(text, "skipped: {skipped}");
    }
    text
}
