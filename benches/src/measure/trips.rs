//! How long a message takes: there and back, and one way at fixed rates.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Case, Clock, Times, Values, filler_sum, is_intact, is_whole, prepared, reported, ticks,
};
use crate::process;
use crate::transport::{Rx, Transport, Tx};

/// Half of the time there and back, with `silence` before each message. The first tenth warms up.
pub(super) fn trips<T: Transport>(case: &Case, silence: Duration) -> Result<Values> {
    let words = case.shape.payload / 8;
    let (there, back) = (T::create(&case.shape)?, T::create(&case.shape)?);
    let results = process::run(&case.cpus[..2], |member| {
        let expected = filler_sum(words);
        let mut message = prepared(words, 1);
        if member.rank == 0 {
            let (mut tx, mut rx) = (there.tx(0)?, back.rx(0)?);
            let mut times = Times::new()?;
            member.barrier();
            for number in 0..case.messages {
                if !silence.is_zero() {
                    std::thread::sleep(silence);
                }
                message[0] = number;
                let start = ticks();
                tx.send(&message)?;
                rx.receive(&mut message)?;
                let elapsed = ticks().wrapping_sub(start);
                ensure!(
                    is_intact(&message, number, expected),
                    "message {number} came back wrong"
                );
                if number >= case.messages / 10 {
                    times.record(elapsed);
                }
            }
            times.report(member, 2.0);
        } else {
            let (mut rx, mut tx) = (there.rx(0)?, back.tx(0)?);
            member.barrier();
            for _ in 0..case.messages {
                rx.receive(&mut message)?;
                ensure!(is_whole(&message, expected), "a message arrived wrong");
                tx.send(&message)?;
            }
        }
        member.barrier();
        Ok(())
    })?;
    Ok(reported(&results[0]))
}

/// The time from when each message should have been sent until it had arrived, where the times to send at are fixed
/// beforehand. A message that is sent late because an earlier one was held up counts from its own time, so that
/// nothing that a user would have to wait for is left out.
pub(super) fn open_loop<T: Transport>(case: &Case, interval: f64) -> Result<Values> {
    let words = case.shape.payload / 8;
    let transport = T::create(&case.shape)?;
    let clock = Clock::calibrate();
    let interval = clock.ticks(interval).max(1);
    let results = process::run(&case.cpus[..2], |member| {
        let mut message = prepared(words, 1);
        if member.rank == 0 {
            let mut tx = transport.tx(0)?;
            // Both have come here before the clock starts.
            member.barrier();
            let start = ticks() + clock.ticks(50_000.0);
            member.report(8, start);
            member.barrier();
            for number in 0..case.messages {
                let due = start + number * interval;
                while ticks() < due {
                    std::hint::spin_loop();
                }
                message[0] = number;
                tx.send(&message)?;
            }
        } else {
            let mut rx = transport.rx(0)?;
            let expected = filler_sum(words);
            let mut times = Times::new()?;
            member.barrier();
            member.barrier();
            let start = member.reported_by(0, 8);
            for number in 0..case.messages {
                rx.receive(&mut message)?;
                let arrived = ticks();
                ensure!(
                    is_intact(&message, number, expected),
                    "message {number} arrived wrong"
                );
                if number >= case.messages / 10 {
                    times.record(arrived.saturating_sub(start + number * interval));
                }
            }
            times.report(member, 1.0);
        }
        member.barrier();
        Ok(())
    })?;
    Ok(reported(&results[1]))
}
