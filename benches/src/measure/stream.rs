//! A stream of messages from one process to another: how long each takes, and how much of the CPUs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{Case, Values, filler, filler_sum, is_intact, prepared};
use crate::process::{self, Member};
use crate::transport::{Rx, Transport, Tx, Words};

/// Nanoseconds per message, measured where it arrives. The first tenth warms up.
pub(super) fn stream<T: Transport>(case: &Case) -> Result<Values> {
    let transport = T::create(&case.shape)?;
    let results = process::run(&case.cpus[..2], |member| {
        if member.rank == 0 {
            send(&transport, member, case)?;
        } else {
            receive(&transport, member, case)?;
        }
        // An end that goes away while the other still works is not what is measured.
        member.barrier();
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[1][0])])
}

fn send<T: Transport>(transport: &T, member: &Member, case: &Case) -> Result<()> {
    let words = case.shape.payload / 8;
    let mut tx = transport.tx(0)?;
    let mut messages = prepared(words, case.batch);
    member.barrier();
    let mut number = 0;
    while number < case.messages {
        if case.batch == 1 {
            messages[0] = number;
            number += 1;
            tx.send(&messages)?;
            continue;
        }
        let count = case.batch.min((case.messages - number) as usize);
        for message in messages.chunks_exact_mut(words).take(count) {
            message[0] = number;
            number += 1;
        }
        tx.send_batch(&messages[..count * words], words)?;
    }
    // The end must not go before everything has arrived.
    member.barrier();
    Ok(())
}

fn receive<T: Transport>(transport: &T, member: &Member, case: &Case) -> Result<()> {
    let words = case.shape.payload / 8;
    let warm = case.messages / 10;
    let mut rx = transport.rx(0)?;
    let expected = filler_sum(words);
    let mut messages = vec![0; words * case.batch];
    member.barrier();
    let (mut number, mut start) = (0, None);
    while number < case.messages {
        let mut check = |message: &Words| {
            ensure!(
                is_intact(message, number, expected),
                "message {number} arrived wrong"
            );
            number += 1;
            Ok(())
        };
        // One alone is not cut out of several: that takes a division, which is as long as all that a small message costs.
        if case.batch == 1 {
            rx.receive(&mut messages)?;
            check(&messages)?;
        } else {
            let count = rx.receive_batch(&mut messages, words)?;
            messages
                .chunks_exact(words)
                .take(count)
                .try_for_each(check)?;
        }
        if start.is_none() && number >= warm {
            start = Some((number, Instant::now()));
        }
    }
    report(member, case, start)?;
    member.barrier();
    Ok(())
}

fn report(member: &Member, case: &Case, start: Option<(u64, Instant)>) -> Result<()> {
    let Some((first, start)) = start else {
        bail!("a stream without messages")
    };
    let elapsed = start.elapsed().as_nanos() as f64;
    member.report_number(0, elapsed / (case.messages - first).max(1) as f64);
    Ok(())
}

/// As [`stream`], written and read where it lies.
pub(super) fn in_place<T: Transport>(case: &Case) -> Result<Values> {
    let words = case.shape.payload / 8;
    let transport = T::create(&case.shape)?;
    let results = process::run(&case.cpus[..2], |member| {
        if member.rank == 0 {
            let mut tx = transport.tx(0)?;
            member.barrier();
            for number in 0..case.messages {
                tx.send_in_place(words, |message| {
                    message[0] = number;
                    for (at, word) in message.iter_mut().enumerate().skip(1) {
                        *word = filler(at);
                    }
                })?;
            }
        } else {
            let mut rx = transport.rx(0)?;
            let expected = filler_sum(words);
            member.barrier();
            let mut start = None;
            for number in 0..case.messages {
                let intact = rx.receive_in_place(|message| is_intact(message, number, expected))?;
                ensure!(intact, "message {number} arrived wrong");
                if start.is_none() && number >= case.messages / 10 {
                    start = Some((number + 1, Instant::now()));
                }
            }
            report(member, case, start)?;
        }
        member.barrier();
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[1][0])])
}

/// Nanoseconds of CPU time per message, of both sides together.
pub(super) fn cpu<T: Transport>(case: &Case) -> Result<Values> {
    let transport = T::create(&case.shape)?;
    let results = process::run(&case.cpus[..2], |member| {
        let before = process::cpu_time();
        if member.rank == 0 {
            send(&transport, member, case)?;
        } else {
            receive(&transport, member, case)?;
        }
        member.report_number(1, (process::cpu_time() - before).as_nanos() as f64);
        Ok(())
    })?;
    let spent: f64 = results.iter().map(|result| f64::from_bits(result[1])).sum();
    Ok(vec![spent / case.messages as f64])
}

/// System calls per message, of both sides together: what twice as many messages take more. Each call is held up by whoever
/// counts, so it is no measure of time, and a receiver that is held up sleeps less.
pub(super) fn calls<T: Transport>(case: &Case) -> Result<Values> {
    let count = |messages: u64| {
        let mut case = case.clone();
        case.messages = messages;
        let transport = T::create(&case.shape)?;
        process::system_calls(&case.cpus[..2], |member| {
            if member.rank == 0 {
                send(&transport, member, &case)?;
            } else {
                receive(&transport, member, &case)?;
            }
            member.barrier();
            Ok(())
        })
    };
    let (some, more) = (count(case.messages)?, count(2 * case.messages)?);
    Ok(vec![
        more.saturating_sub(some) as f64 / case.messages as f64,
    ])
}

/// How long an idle receiver is watched.
const IDLE: Duration = Duration::from_millis(300);

/// Nanoseconds of CPU time of a receiver in a second in which it waits for nothing.
pub(super) fn idle<T: Transport>(case: &Case) -> Result<Values> {
    let words = case.shape.payload / 8;
    let transport = T::create(&case.shape)?;
    let results = process::run(&case.cpus[..2], |member| {
        let mut message = prepared(words, 1);
        if member.rank == 0 {
            let mut tx = transport.tx(0)?;
            member.barrier();
            message[0] = 0;
            tx.send(&message)?;
            std::thread::sleep(IDLE);
            message[0] = 1;
            tx.send(&message)?;
        } else {
            let mut rx = transport.rx(0)?;
            member.barrier();
            rx.receive(&mut message)?;
            let (start, before) = (Instant::now(), process::cpu_time());
            rx.receive(&mut message)?;
            let (elapsed, spent) = (start.elapsed(), process::cpu_time() - before);
            ensure!(
                is_intact(&message, 1, filler_sum(words)),
                "a message arrived wrong"
            );
            member.report_number(0, spent.as_nanos() as f64 / elapsed.as_secs_f64());
        }
        member.barrier();
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[1][0])])
}

/// Nanoseconds from when there was no transport until its first message had arrived.
pub(super) fn first<T: Transport>(case: &Case) -> Result<Values> {
    let words = case.shape.payload / 8;
    let start = super::ticks();
    let transport = T::create(&case.shape)?;
    let created = super::ticks() - start;
    let results = process::run(&case.cpus[..2], |member| {
        let mut message = prepared(words, 1);
        let before = super::ticks();
        if member.rank == 0 {
            let mut tx = transport.tx(0)?;
            member.report(0, super::ticks() - before);
            member.barrier();
            let sent = super::ticks();
            message[0] = 1;
            tx.send(&message)?;
            member.report(1, sent);
        } else {
            let mut rx = transport.rx(0)?;
            member.report(0, super::ticks() - before);
            member.barrier();
            rx.receive(&mut message)?;
            member.report(1, super::ticks());
            ensure!(
                is_intact(&message, 1, filler_sum(words)),
                "a message arrived wrong"
            );
        }
        member.barrier();
        Ok(())
    })?;
    // The processes themselves are no part of it: both attach at once, so the slower one counts.
    let attached = results[0][0].max(results[1][0]);
    let passed = created + attached + results[1][1].saturating_sub(results[0][1]);
    Ok(vec![super::Clock::calibrate().nanoseconds(passed)])
}
