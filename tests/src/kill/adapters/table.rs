//! Joining a segment, leaving it, and clearing up after the dead.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use ipc_core::participant::Life;
use ipc_core::segment::{Place, Segment, SegmentError, SegmentOptions};

use super::still::Still;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;

/// Rows of the table.
const ROWS: u16 = 3;

/// The adapter.
pub(super) struct Table;

impl Adapter for Table {
    fn kind(&self) -> &'static str {
        "participants"
    }

    fn account(&self) -> &'static str {
        "The row of a dead participant is cleared by the first who needs a row and finds none free, or by whoever calls \
         `Segment::recover`; until then `Segment::life` says `Dead`. One who dies while joining has either not been there \
         or is a dead participant; one who dies while leaving likewise. `TableFull` is told only when all who have rows \
         live."
    }

    fn cases(&self) -> Vec<Case> {
        let case = |operation, state| Case::new(operation, state, &["every row can be taken"]);
        vec![
            case("join", "rows free"),
            case("join", "one row free"),
            case("join", "all rows dead"),
            case("join", "all rows taken"),
            case("leave", "alone"),
            case("leave", "beside others"),
            case("recover one", "one dead"),
            case("recover one", "all rows dead"),
            case("look", "all rows dead"),
        ]
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |first, second, state| Pair {
            first: Case::new(first, state, &[]),
            second: Case::new(second, state, &[]),
            outcomes: vec!["every row can be taken".into()],
        };
        vec![
            pair("join", "join", "rows free"),
            pair("join", "recover one", "all rows dead"),
            pair("recover one", "recover one", "all rows dead"),
            pair("join", "leave", "one row free"),
        ]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let options = SegmentOptions::new().participants(ROWS);
        let segment = options.create(Place::Memfd("kill".into()))?;
        let attached = match case.state {
            "rows free" | "alone" => 0,
            "one dead" => 1,
            "one row free" | "beside others" => ROWS - 1,
            "all rows dead" | "all rows taken" => ROWS,
            other => bail!("no state {other}"),
        };
        let ground = Ground::Region(segment);
        let others: Vec<Segment> = (0..attached)
            .map(|_| newcomer(&ground))
            .collect::<Result<_>>()?;
        for other in &others {
            other.participant()?;
        }
        if case.state.ends_with("dead") {
            // In a copy of the region all who were attached are dead.
            return Ok(Still::boxed(case, ground.copy()?, inspect, ()));
        }
        Ok(Still::boxed(case, ground, inspect, others))
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let segment = newcomer(ground)?;
        Ok(match case.operation {
            "join" => Box::new(move || match segment.participant() {
                Ok(_) | Err(SegmentError::TableFull(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }),
            "leave" => {
                segment.participant()?;
                let mut last = Some(segment);
                Box::new(move || {
                    drop(last.take());
                    Ok(())
                })
            }
            "recover one" => {
                let dead = ground.dead();
                let first = *dead.first().context("somebody dead")?;
                Box::new(move || {
                    segment.recover(first);
                    Ok(())
                })
            }
            "look" => Box::new(move || {
                for id in segment.participants() {
                    segment.life(id);
                }
                Ok(())
            }),
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, _: &Ground) -> Result<()> {
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

/// Another attachment to the same memory.
fn newcomer(ground: &Ground) -> Result<Segment> {
    let fd = ground.segment().as_fd().try_clone_to_owned()?;
    Ok(Segment::open(Place::Fd(fd))?)
}

/// Every row that nobody living has can be taken, and no more.
fn inspect(_: &Case, ground: &Ground) -> Result<String> {
    let segment = ground.segment();
    let alive = |id: &_| matches!(segment.life(*id), Life::Alive(_));
    let living = segment.participants().filter(alive).count();
    let newcomers: Vec<Segment> = (living..usize::from(ROWS))
        .map(|_| newcomer(ground))
        .collect::<Result<_>>()?;
    for (count, one) in newcomers.iter().enumerate() {
        let joined = one.participant();
        joined.with_context(|| format!("newcomer {count} beside {living} who live"))?;
    }
    let one_more = newcomer(ground)?.participant();
    ensure!(
        matches!(one_more, Err(SegmentError::TableFull(_))),
        "one more than there are rows: {one_more:?}"
    );
    Ok("every row can be taken".into())
}
