//! What is not warm: the first message of a new transport, and a message after a time of silence.

use super::{Context, exactly, heading};
use crate::measure::Measure;
use crate::race::Race;
use crate::transport::Waiting;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for payload in context.payloads(&[8, 4096], &[8]) {
        let mut case = context.pair(payload);
        let mut race = |metric: &str, what, units, waiting| {
            case.shape.waiting = waiting;
            races.push(Race {
                heading: heading("cold", &case),
                metrics: vec![metric.to_owned()],
                compared: 1,
                times: 1.0,
                entries: exactly(units, context.entries(what, &case, 0)),
            });
        };
        race(
            "ns from nothing to the first message",
            Measure::First,
            1,
            Waiting::Poll,
        );
        race(
            "ns one way after 1 ms of silence, p50",
            Measure::AfterIdle(1e6),
            20,
            Waiting::Default,
        );
        if !context.quick {
            race(
                "ns one way after 10 ms of silence, p50",
                Measure::AfterIdle(1e7),
                10,
                Waiting::Default,
            );
        }
    }
    races
}
