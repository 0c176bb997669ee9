//! Streams: one message a call, batches, and messages that are written and read where they lie.

use super::{Context, heading};
use crate::measure::Measure;
use crate::race::Race;
use crate::subject::Side;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let all = [8, 24, 56, 64, 256, 1024, 4096, 65536, 1 << 20];
    let mut races = Vec::new();
    let race = |payload, batch| {
        let mut case = context.pair(payload);
        case.batch = batch;
        Race {
            heading: heading("throughput", &case),
            metrics: vec!["ns per message".into()],
            compared: 1,
            times: 1.0,
            entries: context.entries(Measure::Stream, &case, 100),
        }
    };
    for payload in context.payloads(&all, &[8, 64, 256, 1024, 65536]) {
        races.push(race(payload, 1));
    }
    for payload in context.payloads(&[8, 64, 256], &[8, 64]) {
        races.push(race(payload, 64));
    }
    let large = [8, 64, 256, 1024, 4096, 65536, 1 << 20];
    for payload in context.payloads(&large, &[256, 65536]) {
        let case = context.pair(payload);
        let mut entries = context.entries(Measure::InPlace, &case, 100);
        // What the safe calls cost, which copy: the same subjects by their usual calls.
        let ours = context.subjects.iter();
        for subject in ours.filter(|subject| ["spsc", "bytes"].contains(&subject.name())) {
            let mut entry = context.entry(subject.as_ref(), Measure::Stream, &case, 100);
            entry.name += "-copying";
            entry.side = Side::Other;
            entries.push(entry);
        }
        races.push(Race {
            heading: heading("throughput", &case),
            metrics: vec!["ns per message, in place".into()],
            compared: 1,
            times: 1.0,
            entries,
        });
    }
    races
}
