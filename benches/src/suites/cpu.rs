//! What it takes of the CPUs and of the kernel: of both for each message of a stream, and of one CPU for waiting.

use super::{Context, exactly, heading};
use crate::measure::Measure;
use crate::race::Race;
use crate::transport::Waiting;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for payload in context.payloads(&[8, 1024], &[8]) {
        let mut case = context.pair(payload);
        case.shape.waiting = Waiting::Default;
        races.push(Race {
            heading: heading("cpu", &case),
            metrics: vec!["ns of CPU time per message".into()],
            compared: 1,
            times: 1.0,
            entries: context.entries(Measure::Cpu, &case, 100_000),
        });
        if payload == 8 {
            races.push(Race {
                heading: heading("cpu", &case),
                metrics: vec!["system calls per message".into()],
                compared: 0,
                times: 1.0,
                entries: exactly(1000, context.entries(Measure::Calls, &case, 0)),
            });
            races.push(Race {
                heading: heading("cpu", &case),
                metrics: vec!["ns of CPU time per idle second".into()],
                compared: 1,
                times: 1.0,
                entries: exactly(1, context.entries(Measure::Idle, &case, 0)),
            });
        }
    }
    races
}
