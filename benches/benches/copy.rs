//! `cargo bench -p ipc-benches --bench copy [ROUNDS]`: the copies of a mapping against `copy_from_slice`.
//!
//! Both copy between memory of the same alignments, one after the other within a round, and in turn first. What is printed
//! is the median over the rounds of the ratio of their speeds: above 1 the mapping is faster. It does not show what a copy
//! costs while another process writes the same lines: that is what the rings are measured for.

use std::{hint::black_box, process::ExitCode, time::Instant};

use ipc_benches::stats::spread;
use ipc_core::{
    MapOptions, Mapping,
    mapping::{MapError, PrivateMapping},
};

const SIZES: &[usize] = &[
    8,
    64,
    256,
    1024,
    4096,
    8192,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
];
/// Where the private and the shared side lie, modulo 4096.
const OFFSETS: &[(usize, usize)] = &[(0, 0), (0, 8), (0, 16), (8, 0), (16, 0), (0, 64), (24, 100)];
/// What a mapping must reach of `copy_from_slice`, from 4 KiB on.
const GOAL: f64 = 0.9;

fn main() -> Result<ExitCode, MapError> {
    // `cargo bench` says that it is one; `cargo test --benches` only wants to see it run.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(if measured { 31 } else { 1 });
    let most = SIZES[SIZES.len() - 1] + 4096;
    let shared = MapOptions::new().len(most).populate().map_anonymous()?;
    let private = || -> Result<PrivateMapping, MapError> {
        let memory = MapOptions::new().private().len(most).populate();
        Ok(memory.map_anonymous()?.into_private()?)
    };
    let mut bench = Bench {
        shared,
        ours: private()?,
        from: private()?,
        to: private()?,
        rounds,
    };

    println!(
        "speed of a mapping relative to copy_from_slice, median of {rounds} rounds [quartiles]"
    );
    println!(
        "{:>9}  {:>9}  {:>20}  {:>20}",
        "bytes", "offsets", "write_at", "read_at"
    );
    let (mut worst, mut worst_small) = (f64::INFINITY, f64::INFINITY);
    for &len in SIZES {
        for &(private, shared) in OFFSETS {
            let (write, read) = (
                bench.write(len, private, shared)?,
                bench.read(len, private, shared)?,
            );
            let worst = if len >= 4096 {
                &mut worst
            } else {
                &mut worst_small
            };
            *worst = worst.min(write.0).min(read.0);
            println!(
                "{len:>9}  {:>9}  {:>20}  {:>20}",
                format!("+{private} +{shared}"),
                show(write),
                show(read)
            );
        }
    }
    println!("worst below 4 KiB: {worst_small:.2}; worst from 4 KiB on: {worst:.2}, goal {GOAL}");
    Ok(if worst >= GOAL || !measured {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Bench {
    shared: Mapping,
    /// The private side of the mapping's copies.
    ours: PrivateMapping,
    /// The two sides of `copy_from_slice`.
    from: PrivateMapping,
    to: PrivateMapping,
    rounds: usize,
}

type Ratio = (f64, f64, f64);

fn show((median, low, high): Ratio) -> String {
    format!("{median:.2} [{low:.2} {high:.2}]")
}

impl Bench {
    fn write(&mut self, len: usize, private: usize, shared: usize) -> Result<Ratio, MapError> {
        let Bench {
            shared: mapping,
            ours,
            from,
            to,
            rounds,
        } = self;
        let (ours, from) = (&ours[private..private + len], &from[private..private + len]);
        let to = &mut to[shared..shared + len];
        race(
            *rounds,
            len,
            || mapping.write_at(shared, black_box(ours)),
            || black_box(&mut *to).copy_from_slice(black_box(from)),
        )
    }

    fn read(&mut self, len: usize, private: usize, shared: usize) -> Result<Ratio, MapError> {
        let Bench {
            shared: mapping,
            ours,
            from,
            to,
            rounds,
        } = self;
        let (ours, to) = (
            &mut ours[private..private + len],
            &mut to[private..private + len],
        );
        let from = &from[shared..shared + len];
        race(
            *rounds,
            len,
            || mapping.read_at(shared, black_box(&mut *ours)),
            || black_box(&mut *to).copy_from_slice(black_box(from)),
        )
    }
}

/// Times both within each round, each first in half of them, and forms the ratio of their speeds.
fn race(
    rounds: usize,
    len: usize,
    mut ours: impl FnMut() -> Result<(), MapError>,
    mut theirs: impl FnMut(),
) -> Result<Ratio, MapError> {
    // A spurt is long enough that neither reading the clock counts nor what the other turn left in the caches. Of a turn's
    // four spurts the fastest counts: on a busy machine a turn is often interrupted, but seldom in each of them.
    let repeats = ((4 << 20) / (len + 64)).clamp(1, 500);
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let mut times = [f64::INFINITY; 2];
        for turn in [round % 2, 1 - round % 2] {
            for _ in 0..4 {
                let start = Instant::now();
                for _ in 0..repeats {
                    match turn {
                        0 => ours()?,
                        _ => theirs(),
                    }
                }
                times[turn] = start.elapsed().as_secs_f64().min(times[turn]);
            }
        }
        // The first round warms the caches.
        if round > 0 {
            ratios.push(times[1] / times[0]);
        }
    }
    let spread = spread(ratios).expect("there is a round at least");
    Ok((spread.median, spread.low, spread.high))
}
