//! Several producers and several consumers: each message goes to one of them.

use super::{Context, heading};
use crate::measure::Measure;
use crate::race::Race;
use crate::subject::Side;
use crate::transport::Waiting;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for payload in context.payloads(&[8, 64], &[8]) {
        for each in [1, 2, 4, 8] {
            let mut case = context.pair(payload);
            (case.shape.producers, case.shape.consumers) = (each, each);
            if 2 * each > context.cpus.len() {
                case.shape.waiting = Waiting::Share;
            }
            let mut entries = context.entries(Measure::Crowd, &case, 100);
            // Those of ours that serve a pair only are no answer to what this suite asks.
            entries.retain(|entry| entry.side != Side::Ours || entry.name == "mpmc");
            races.push(Race {
                heading: heading("mpmc", &case),
                metrics: vec!["ns per message".into()],
                compared: 1,
                times: 1.0,
                entries,
            });
        }
    }
    races
}
