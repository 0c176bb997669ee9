//! Several producers and several consumers: each message goes to one of them.

use anyhow::{Result, ensure};

use super::{Case, Clock, Values, filler_sum, is_whole, prepared, ticks};
use crate::process;
use crate::transport::{Rx, Transport, Tx};

/// Bits of a message's number; above them is the number of its producer.
const BITS: u32 = 48;

/// The number of the message after which a consumer goes.
const LAST: u64 = u64::MAX;

/// Where each process reports.
const START: usize = 0;
const END: usize = 1;
const TAKEN: usize = 2;
const SUM: usize = 3;

/// Nanoseconds per message from the start until the last one has arrived. Each consumer checks every word and that the
/// messages of each producer come in order; together they must have got each message once.
pub(super) fn crowd<T: Transport>(case: &Case) -> Result<Values> {
    let words = case.shape.payload / 8;
    let (producers, consumers) = (case.shape.producers, case.shape.consumers);
    let each = case.messages / producers as u64;
    // Each CPU gets as many producers as consumers, if it can be.
    let cpu = |index: usize| case.cpus[index % case.cpus.len()];
    let places: Vec<usize> = (0..producers)
        .map(cpu)
        .chain((0..consumers).map(|index| cpu(index + 1)))
        .collect();
    let transport = T::create(&case.shape)?;
    let results = process::run(&places, |member| {
        if member.rank < producers {
            let mut tx = transport.tx(member.rank)?;
            let mut message = prepared(words, 1);
            member.barrier();
            member.report(START, ticks());
            for number in 0..each {
                message[0] = (member.rank as u64) << BITS | number;
                tx.send(&message)?;
            }
            // One consumer each is told to go, or several. What was sent before comes before.
            for _ in (member.rank..consumers).step_by(producers) {
                message[0] = LAST;
                tx.send(&message)?;
            }
        } else {
            let mut rx = transport.rx(member.rank - producers)?;
            let expected = filler_sum(words);
            let mut message = prepared(words, 1);
            let mut next = vec![0; producers];
            let (mut taken, mut sum) = (0_u64, 0_u64);
            member.barrier();
            member.report(START, ticks());
            loop {
                rx.receive(&mut message)?;
                ensure!(is_whole(&message, expected), "a message arrived wrong");
                if message[0] == LAST {
                    break;
                }
                let (producer, number) = (message[0] >> BITS, message[0] & ((1 << BITS) - 1));
                let next = next
                    .get_mut(producer as usize)
                    .filter(|next| **next <= number);
                let Some(next) = next else {
                    anyhow::bail!("message {number} of producer {producer} came too late")
                };
                *next = number + 1;
                taken += 1;
                sum = sum.wrapping_add(message[0]);
            }
            member.report(END, ticks());
            member.report(TAKEN, taken);
            member.report(SUM, sum);
        }
        member.barrier();
        Ok(())
    })?;
    let total = |at: usize| {
        results[producers..]
            .iter()
            .fold(0, |sum: u64, result| sum.wrapping_add(result[at]))
    };
    let sent = (0..producers as u64)
        .flat_map(|producer| (0..each).map(move |number| producer << BITS | number));
    ensure!(
        total(TAKEN) == each * producers as u64,
        "messages were lost or came twice"
    );
    ensure!(
        total(SUM) == sent.fold(0, u64::wrapping_add),
        "other messages came than were sent"
    );
    let start = results
        .iter()
        .map(|result| result[START])
        .min()
        .unwrap_or(0);
    let end = results[producers..]
        .iter()
        .map(|result| result[END])
        .max()
        .unwrap_or(0);
    let passed = Clock::calibrate().nanoseconds(end.saturating_sub(start));
    Ok(vec![passed / (each * producers as u64).max(1) as f64])
}
