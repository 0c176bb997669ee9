//! One page that needs nothing else.

use super::Report;

/// The page.
pub(super) fn page(report: &Report) -> String {
    format!("<!doctype html><pre>{}</pre>", report.table())
}
