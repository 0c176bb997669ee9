//! One producer and several readers: each message goes to all of them.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Case, Values, filler_sum, is_whole, prepared};
use crate::process;
use crate::transport::{Policy, Rx, Transport, Tx};

/// Nanoseconds of the producer per message, alone on its CPU; the readers share the others. Each reader checks every word,
/// that numbers only grow, and that what it got and what it was told it missed is everything.
pub(super) fn fan<T: Transport>(case: &Case) -> Result<Values> {
    let words = case.shape.payload / 8;
    let others = &case.cpus[1..];
    let places: Vec<usize> = std::iter::once(case.cpus[0])
        .chain((0..case.shape.consumers).map(|reader| others[reader % others.len()]))
        .collect();
    let transport = T::create(&case.shape)?;
    let last = case.messages - 1;
    let results = process::run(&places, |member| {
        if member.rank == 0 {
            let mut tx = transport.tx(0)?;
            let mut message = prepared(words, 1);
            // The readers attach before the first message is sent.
            member.barrier();
            let mut start = Instant::now();
            for number in 0..case.messages {
                if number == case.messages / 10 {
                    start = Instant::now();
                }
                message[0] = number;
                tx.send(&message)?;
            }
            let measured = case.messages - case.messages / 10;
            member.report_number(0, start.elapsed().as_nanos() as f64 / measured as f64);
        } else {
            let mut rx = transport.rx(member.rank - 1)?;
            let expected = filler_sum(words);
            let mut message = prepared(words, 1);
            member.barrier();
            let (mut next, mut taken) = (0, 0_u64);
            while next <= last {
                rx.receive(&mut message)?;
                ensure!(is_whole(&message, expected), "a message arrived wrong");
                ensure!(message[0] >= next, "message {} came too late", message[0]);
                next = message[0] + 1;
                taken += 1;
            }
            match case.shape.policy {
                Some(Policy::Lossy) => ensure!(
                    taken + rx.missed() == case.messages,
                    "{taken} messages and {} missed ones are not {}",
                    rx.missed(),
                    case.messages
                ),
                Some(Policy::Latest) => {}
                _ => ensure!(
                    taken == case.messages,
                    "{taken} of {} messages",
                    case.messages
                ),
            }
        }
        member.barrier();
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[0][0])])
}
