//! How long a message takes: half of a round trip, and one way at fixed rates.

use super::{Context, exactly, heading, percentiles};
use crate::measure::Measure;
use crate::race::Race;

/// Round trips that tell something of one in ten thousand, where they do not take too long.
const TRIPS: u64 = 20_000;

/// Messages at a fixed rate.
const SENT: u64 = 20_000;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let all = [8, 24, 56, 64, 256, 1024, 4096, 65536, 1 << 20];
    let mut races = Vec::new();
    for payload in context.payloads(&all, &[8, 56, 1024, 65536]) {
        let case = context.small(payload);
        let least = if payload <= 4096 { TRIPS } else { 100 };
        races.push(Race {
            heading: heading("latency", &case),
            metrics: percentiles("ns one way"),
            compared: 1,
            times: 2.0,
            entries: context.entries(Measure::Trips, &case, least),
        });
    }
    let rates: &[f64] = if context.quick {
        &[1e6]
    } else {
        &[1e4, 1e5, 1e6]
    };
    for payload in context.payloads(&[8, 1024], &[8]) {
        for rate in rates {
            let case = context.pair(payload);
            let sent = SENT.min((*rate / 2.0) as u64);
            races.push(Race {
                heading: heading("latency", &case),
                metrics: percentiles(&format!("ns one way at {rate}/s")),
                compared: 1,
                times: 1.0,
                entries: exactly(
                    sent,
                    context.entries(Measure::OpenLoop(1e9 / rate), &case, 0),
                ),
            });
        }
    }
    races
}
