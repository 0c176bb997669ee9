//! Receivers that sleep: half of a round trip in which both sides sleep in the kernel.

use super::{Context, heading, percentiles};
use crate::measure::Measure;
use crate::race::Race;
use crate::transport::Waiting;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for payload in context.payloads(&[8], &[8]) {
        let mut case = context.small(payload);
        case.shape.waiting = Waiting::Block;
        let mut entries = context.entries(Measure::Trips, &case, 0);
        entries.retain(|entry| entry.name != "hop");
        for entry in &mut entries {
            // A wake-up takes as long as thousands of messages: its ring need not wrap here.
            (entry.least, entry.most) = (200, 2000);
        }
        races.push(Race {
            heading: heading("wake", &case),
            metrics: percentiles("ns one way"),
            compared: 1,
            times: 2.0,
            entries,
        });
    }
    races
}
