//! Unique numbers: strict, leased and durable ones.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result, bail, ensure};
use ipc_core::ids::{self, BLOCK, Ids, protocol::FIRST_STEP};
use ipc_core::segment::{Place, Segment, SegmentOptions};

use super::still::Still;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;

/// Rows of the table, and of the leases.
const ROWS: u16 = 4;

/// Ids that were given out strictly before, wherever the state says nothing else.
const GIVEN: u64 = 5;

/// Where in the object the run of the machine is noted that its words are of.
const INSTANCE: usize = 136;

/// The adapter.
pub(super) struct Numbers;

impl Adapter for Numbers {
    fn kind(&self) -> &'static str {
        "ids"
    }

    fn account(&self) -> &'static str {
        "No id is ever given twice. A caller that dies takes at most the id with it that it was being given, or the block \
         of a lease that it was drawing; that is counted as lost. What is left of a dead one's lease is given out by whoever \
         leases next. The lock of the mark is the kernel's, and one of the two copies of the mark is always whole: whoever \
         needs an id above it writes the next one. Nobody needs to repair anything, and nobody is told. The rows show the \
         next strict id that a newcomer gets, and the first one of its lease."
    }

    fn cases(&self) -> Vec<Case> {
        let case = Case::new;
        let strict = &["6, leased 7", "7, leased 8"];
        vec![
            case("next", "in memory", strict),
            case("next", "durable", strict),
            case("next", "mark reached", &["1, leased 2", "2, leased 3"]),
            case(
                "next",
                "mark near",
                &["524290, leased 524291", "524291, leased 524292"],
            ),
            case("take", "durable", &["6, leased 7", "16, leased 17"]),
            case("take lease", "in memory", &["6, leased 7"]),
            case("take lease", "left over by the dead", &["4097, leased 2"]),
            case(
                "next of lease",
                "in a block",
                &["4102, leased 7", "4102, leased 8"],
            ),
            case(
                "next of lease",
                "block used up",
                &[
                    "4102, leased 4103",
                    "8198, leased 8199",
                    "8198, leased 4102",
                    "8198, leased 4103",
                ],
            ),
            case(
                "next of lease",
                "left over by the dead",
                &[
                    "4097, leased 2",
                    "4097, leased 4098",
                    "4097, leased 2",
                    "4097, leased 3",
                ],
            ),
            case("end lease", "in a block", &["4102, leased 7"]),
            case("attach", "never used", &["1, leased 2"]),
            case("attach", "beside others", &["6, leased 7"]),
            case("attach", "after a power cut", &["1048578, leased 1048579"]),
        ]
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |first, second, state, outcomes: &[&str]| Pair {
            first: Case::new(first, state, &[]),
            second: Case::new(second, state, &[]),
            outcomes: outcomes.iter().map(ToString::to_string).collect(),
        };
        vec![
            pair(
                "next",
                "next",
                "mark reached",
                &["1, leased 2", "2, leased 3", "3, leased 4"],
            ),
            pair(
                "attach",
                "attach",
                "after a power cut",
                &["1048578, leased 1048579"],
            ),
        ]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let durable = is_durable(case.state);
        let options = SegmentOptions::new()
            .participants(ROWS)
            .object(ids::ONLY, Ids::spec(durable, ROWS));
        let ground = Ground::Region(options.create(Place::Memfd("kill".into()))?);
        let ids = || Ids::in_segment(ground.segment(), ids::ONLY);
        match case.state {
            "never used" | "mark reached" => {}
            "left over by the dead" => {
                ensure!(ids()?.lease()?.next()? == 1, "not the first id");
                // Whoever had the lease is dead in a copy.
                return Ok(Still::boxed(case, ground.copy()?, inspect, ()));
            }
            "mark near" => {
                let ids = ids()?;
                ensure!(ids.next()? == 1, "not the first id");
                ids.take(FIRST_STEP / 2)?;
            }
            "after a power cut" => {
                draw(&ids()?)?;
                let copy = ground.copy()?;
                cut(copy.segment())?;
                return Ok(Still::boxed(case, copy, inspect, ()));
            }
            _ => draw(&ids()?)?,
        }
        // In a durable counter, a participant vouches for the memory for as long as it lives.
        let keep = (durable && case.state == "beside others")
            .then(ids)
            .transpose()?;
        Ok(Still::boxed(case, ground, inspect, keep))
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let segment = ground.segment().clone();
        if case.operation == "attach" {
            // Joining is another kind's operation.
            segment.participant()?;
            let mut held = Vec::new();
            return Ok(Box::new(move || {
                held.push(Ids::in_segment(&segment, ids::ONLY)?);
                Ok(())
            }));
        }
        let ids = Ids::in_segment(&segment, ids::ONLY)?;
        let mut held = Vec::new();
        if case.operation.ends_with("of lease") || case.operation == "end lease" {
            let mut lease = ids.lease()?;
            let used = match case.state {
                "in a block" => 1,
                "block used up" => BLOCK,
                _ => 0,
            };
            for number in 0..used {
                ensure!(
                    lease.next()? == GIVEN + 1 + number,
                    "not the next of the lease"
                );
            }
            held.push(lease);
        }
        Ok(match case.operation {
            "next" => Box::new(move || ids.next().map(drop).map_err(Into::into)),
            "take" => Box::new(move || ids.take(10).map(drop).map_err(Into::into)),
            "take lease" => Box::new(move || {
                held.push(ids.lease()?);
                Ok(())
            }),
            "next of lease" => Box::new(move || {
                held.first_mut().context("a lease")?.next()?;
                Ok(())
            }),
            "end lease" => Box::new(move || {
                held.clear();
                Ok(())
            }),
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        ground.segment().learn(&[ids::KIND]);
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

fn is_durable(state: &str) -> bool {
    ![
        "in memory",
        "in a block",
        "block used up",
        "left over by the dead",
    ]
    .contains(&state)
}

/// The ids that are given before the victim comes.
fn draw(ids: &Ids) -> Result<()> {
    for number in 1..=GIVEN {
        ensure!(ids.next()? == number, "not the next id");
    }
    Ok(())
}

/// What is in the segment now is what the disk has kept: another run of the machine begins.
fn cut(segment: &Segment) -> Result<()> {
    let object = segment.object(ids::ONLY)?;
    object.area().word64(INSTANCE)?.store(0, Relaxed);
    Ok(())
}

/// The next strict id and the first leased one; then thousands more, none of them given before, and after a power cut
/// none of those.
fn inspect(case: &Case, ground: &Ground) -> Result<String> {
    let ids = Ids::in_segment(ground.segment(), ids::ONLY)?;
    let strict = ids.next().context("a strict id")?;
    let mut lease = ids.lease().context("a lease")?;
    let leased = lease.next().context("an id of a lease")?;
    let before = match case.state {
        "never used" | "mark reached" => 0,
        "left over by the dead" | "mark near" => 1,
        "in a block" => GIVEN + 1,
        "block used up" => GIVEN + BLOCK,
        _ => GIVEN,
    };
    let mut given: HashSet<u64> = (1..=before).collect();
    let mut once = |id: u64| -> Result<()> {
        ensure!(given.insert(id), "{id} was given twice");
        Ok(())
    };
    once(strict)?;
    once(leased)?;
    for _ in 0..BLOCK + 10 {
        once(lease.next()?)?;
    }
    for id in ids.take(10)? {
        once(id)?;
    }
    once(ids.next()?)?;
    let lost = ids.statistics().lost;
    ensure!(lost <= BLOCK, "one death has lost {lost} ids");
    if is_durable(case.state) {
        let copy = ground.copy()?;
        cut(copy.segment())?;
        let after = Ids::in_segment(copy.segment(), ids::ONLY)?.next()?;
        let most = given.iter().max().copied().unwrap_or(0);
        ensure!(after > most, "after a power cut {after} is given again");
    }
    Ok(format!("{strict}, leased {leased}"))
}
