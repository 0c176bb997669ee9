//! Unique ids: leased ones against a counter of one's own, strict ones against a bare counter that all share.
//!
//! Durable ids come from a file in the directory for temporary files, which is on a disk as a rule: every `msync` is part of
//! their time. The others live in memory alone.

use std::hint::black_box;
use std::sync::atomic::Ordering::{Relaxed, Release};

use anyhow::{Result, ensure};
use ipc_core::ids::Ids;
use ipc_core::segment::{Place, Segment};

use super::{Context, alone, contest};
use crate::limits::{LINE, Lines};
use crate::measure::Values;
use crate::race::{Entry, Heading, Race};
use crate::subject::Side;

pub(super) fn races<'a>(context: &'a Context<'a>) -> Vec<Race<'a>> {
    let mut races = Vec::new();
    for processes in [1, 2, 4] {
        let of_cpus = |rank: usize| context.cpus[rank % context.cpus.len()];
        let places: Vec<usize> = (0..processes).map(of_cpus).collect();
        let [ours, durable, again] = [places.clone(), places.clone(), places.clone()];
        let leased = vec![
            alone("ids-leased", Side::Ours, move |times| {
                leased(&ours, times, Ids::create(Place::Memfd("bench".into()))?)
            }),
            alone("ids-durable", Side::Other, move |times| {
                leased(&durable, times, create()?)
            }),
            alone("local-counter", Side::Limit, move |times| {
                local(&again, times)
            }),
        ];
        races.push(race(1024, processes, leased));
        let again = places.clone();
        let strict = vec![
            alone("ids-strict", Side::Ours, move |times| {
                strict(&places, times)
            }),
            alone("fetch-add", Side::Limit, move |times| shared(&again, times)),
        ];
        races.push(race(1, processes, strict));
    }
    races
}

fn race(batch: usize, processes: usize, mut entries: Vec<Entry<'_>>) -> Race<'_> {
    for entry in &mut entries {
        // The mark of a new file runs ahead by a million ids at first, and by ever more while it is reached within a second.
        // Leases reach the first ones at once: what they cost shows once these count for little.
        entry.least = if batch > 1 { 20_000_000 } else { 2_000_000 };
    }
    Race {
        heading: Heading {
            suite: "ids",
            payload_bytes: 8,
            batch,
            processes,
        },
        metrics: vec!["ns per id".into(), "msync calls per 100,000 ids".into()],
        compared: 1,
        times: 1.0,
        entries,
    }
}

/// A durable counter without a name: its file is gone when the last process is.
fn create() -> Result<Ids> {
    let path = std::env::temp_dir().join(format!("ipc-bench-ids-{}", std::process::id()));
    let ids = Ids::create(path.as_path())?;
    Segment::unlink(path)?;
    Ok(ids)
}

/// Adds how often the disk was asked, for each 100,000 of the ids that were drawn.
fn with_syncs(mut values: Values, ids: &Ids, drawn: u64) -> Result<Values> {
    let known = ids.statistics();
    ensure!(known.drawn >= drawn, "ids were given twice");
    values.push(known.extensions as f64 * 100_000.0 / drawn as f64);
    Ok(values)
}

fn leased(places: &[usize], times: u64, ids: Ids) -> Result<Values> {
    let values = contest(places, times, || {
        let mut lease = ids.rejoin()?.lease()?;
        // The first one extends the mark.
        black_box(lease.next()?);
        Ok(move || {
            black_box(lease.next()?);
            Ok(())
        })
    })?;
    with_syncs(values, &ids, times)
}

fn strict(places: &[usize], times: u64) -> Result<Values> {
    let ids = create()?;
    let values = contest(places, times, || {
        let ids = ids.rejoin()?;
        Ok(move || {
            black_box(ids.next()?);
            Ok(())
        })
    })?;
    with_syncs(values, &ids, times)
}

/// Every process counts in a line of its own, and stores before it uses what it has counted: whoever comes after it can
/// go on from there.
fn local(places: &[usize], times: u64) -> Result<Values> {
    let lines = Lines::new(LINE * places.len())?;
    let next = Lines::new(LINE)?;
    contest(places, times, || {
        let mine = lines.word(next.word(0).fetch_add(1, Relaxed) as usize * LINE);
        let mut count = 0_u64;
        Ok(move || {
            count += 1;
            mine.store(count, Release);
            black_box(count);
            Ok(())
        })
    })
}

fn shared(places: &[usize], times: u64) -> Result<Values> {
    let lines = Lines::new(LINE)?;
    contest(places, times, || {
        Ok(|| {
            black_box(lines.word(0).fetch_add(1, Relaxed));
            Ok(())
        })
    })
}
