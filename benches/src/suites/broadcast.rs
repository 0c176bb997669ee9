//! One producer and up to sixteen readers: each message goes to all of them. The producer has a CPU of its own.

use super::{Context, heading};
use crate::measure::Measure;
use crate::race::Race;
use crate::subject::Side;
use crate::transport::{Policy, Waiting};

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let counts: &[usize] = if context.quick {
        &[1, 16]
    } else {
        &[1, 2, 4, 8, 16]
    };
    let policies = [
        (Policy::Lossy, "lossy"),
        (Policy::Latest, "latest"),
        (Policy::Lossless, "lossless"),
    ];
    let mut races = Vec::new();
    for payload in context.payloads(&[8, 64], &[8]) {
        for (policy, name) in policies {
            for readers in counts {
                let mut case = context.pair(payload);
                case.shape.policy = Some(policy);
                case.shape.consumers = *readers;
                case.shape.waiting = Waiting::Share;
                let mut entries = context.entries(Measure::Fan, &case, 1000);
                if policy == Policy::Lossless {
                    // Every reader takes every message, on the CPUs that are left: that takes as long as it takes. Ours wrap
                    // as often as ever.
                    let others = 100_000 / *readers as u64;
                    for entry in entries.iter_mut().filter(|one| one.side != Side::Ours) {
                        (entry.least, entry.most) = (others, others);
                    }
                } else if *readers > 1 {
                    case.shape.consumers = 1;
                    let mut few = context.entries(Measure::Fan, &case, 1000);
                    few.retain(|entry| entry.side == Side::Ours);
                    for mut entry in few {
                        entry.name += "-to-one";
                        entry.side = Side::Other;
                        entries.push(entry);
                    }
                    case.shape.consumers = *readers;
                }
                races.push(Race {
                    heading: heading("broadcast", &case),
                    metrics: vec![format!("ns of the producer per message, {name}")],
                    compared: 1,
                    times: 1.0,
                    entries,
                });
            }
        }
    }
    races
}
