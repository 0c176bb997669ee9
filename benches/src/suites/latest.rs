//! The register of the newest value: what it takes to read it, alone and while somebody writes.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use ipc_core::bytemuck;
use ipc_core::segment::Place;
use ipc_core::sync::{Attach, Latest};

use super::{Context, alone};
use crate::measure::Values;
use crate::process;
use crate::race::{Heading, Race};
use crate::subject::Side;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for payload in context.payloads(&[56, 1024, 65536], &[56]) {
        for processes in [1, 2] {
            let cpus = &context.cpus[..processes];
            let mut entries = match payload {
                56 => entries::<7>(cpus),
                1024 => entries::<128>(cpus),
                _ => entries::<8192>(cpus),
            };
            for entry in &mut entries {
                entry.least = 1000;
            }
            races.push(Race {
                heading: Heading {
                    suite: "latest",
                    payload_bytes: payload,
                    batch: 1,
                    processes,
                },
                metrics: vec!["ns to read the newest value".into()],
                compared: 1,
                times: 1.0,
                entries,
            });
        }
    }
    races
}

fn entries<const W: usize>(cpus: &[usize]) -> Vec<crate::race::Entry<'_>> {
    vec![
        alone("latest", Side::Ours, move |times| latest::<W>(cpus, times)),
        alone("memcpy", Side::Limit, move |times| copy(cpus, W, times)),
    ]
}

/// The first process reads. The second one, if there is one, writes all the time: every word of a value is its number.
fn latest<const W: usize>(cpus: &[usize], times: u64) -> Result<Values> {
    let latest = Latest::<[u64; W]>::create(Place::Memfd("bench".into()), ())?;
    latest.set(&[1; W])?;
    let results = process::run(cpus, |member| {
        let latest = latest.rejoin()?;
        let mut value = Box::new([1; W]);
        member.barrier();
        if member.rank > 0 {
            let mut writer = latest.writer()?;
            for number in 2.. {
                value.fill(number);
                writer.set(&value);
                if member.reported_by(0, 1) != 0 {
                    break;
                }
            }
            return Ok(());
        }
        let start = Instant::now();
        for _ in 0..times {
            latest.get_into(black_box(&mut value))?;
            let [first, .., last] = value[..] else {
                continue;
            };
            ensure!(first == last, "half of {first} and half of {last}");
        }
        member.report_number(0, start.elapsed().as_nanos() as f64 / times as f64);
        member.report(1, 1);
        ensure!(
            value.iter().all(|word| *word == value[0]),
            "a value of several"
        );
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[0][0])])
}

fn copy(cpus: &[usize], words: usize, times: u64) -> Result<Values> {
    let cpu = cpus.first().context("no CPU")?;
    let results = process::run(&[*cpu], |member| {
        let source = vec![1_u64; words];
        let mut target = vec![0_u64; words];
        let start = Instant::now();
        for _ in 0..times {
            let from: &[u8] = bytemuck::cast_slice(black_box(&source));
            let into: &mut [u8] = bytemuck::cast_slice_mut(black_box(&mut target));
            into.copy_from_slice(from);
        }
        member.report_number(0, start.elapsed().as_nanos() as f64 / times as f64);
        Ok(())
    })?;
    Ok(vec![f64::from_bits(results[0][0])])
}
