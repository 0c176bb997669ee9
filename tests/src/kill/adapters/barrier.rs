//! Seats whose holders wait for each other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::segment::{Place, SegmentOptions};
use ipc_core::sync::{Attach, Barrier, BarrierError, ONLY};

use super::company::{Company, Keeper};
use super::still::Still;
use crate::kill::adapter::{Adapter, Case, Cast, Operation, Pair, Scene};
use crate::kill::ground::Ground;

/// Seats of it.
const SEATS: u16 = 2;

/// How long anybody waits for others at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one waits whom nobody may come to.
const ALONE: Duration = Duration::from_millis(500);

/// What newcomers find wherever nobody waited.
const WHOLE: &str = "every seat can be taken";

/// The adapter.
pub(super) struct Barriers;

impl Adapter for Barriers {
    fn kind(&self) -> &'static str {
        "barrier"
    }

    fn account(&self) -> &'static str {
        "A death breaks the round that the dead had a seat in: everybody who waits is told `Broken`, whoever clears up, and \
         may wait again, for whoever takes the seat that is free now. One that had arrived counts until somebody has \
         cleared up after it: a round that all have arrived for is complete, whoever comes first to say so."
    }

    fn cases(&self) -> Vec<Case> {
        let case = |operation, state| Case::new(operation, state, &[WHOLE]);
        vec![
            case("sit", "seats free"),
            case("sit", "all seats dead"),
            case("sit", "no seat free"),
            Case::new("wait", "another asleep in it", &["broken", "complete"])
                .blocking()
                .in_any_order()
                .in_copies(&[WHOLE]),
            case("wait", "first to come").blocking(),
            case("wait no longer", "alone"),
            case("stand up", "alone"),
            case("stand up", "beside another"),
        ]
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |one: Case| Pair {
            first: one.clone(),
            second: one,
            outcomes: vec![WHOLE.into()],
        };
        let case = |operation| Case::new(operation, "seats free", &[]);
        vec![pair(case("sit")), pair(case("wait").blocking())]
    }

    fn stage(&self, case: &Case, _: Cast) -> Result<Box<dyn Scene>> {
        let options = SegmentOptions::new()
            .participants(4)
            .object(ONLY, Barrier::spec(SEATS)?);
        let ground = Ground::Region(options.create(Place::Memfd("kill".into()))?);
        let barrier = Barrier::in_segment(ground.segment(), ONLY)?;
        let company = |ground| Company::new(case, ground, inspect);
        Ok(match case.state {
            "all seats dead" => {
                let _both = (barrier.sit()?, barrier.sit()?);
                company(ground.copy()?).boxed()
            }
            "no seat free" => company(ground)
                .beside(Keeper::start(move |keep| {
                    let _both = (barrier.sit()?, barrier.sit()?);
                    keep();
                    Ok(())
                })?)
                .boxed(),
            "beside another" => company(ground)
                .beside(Keeper::start(move |keep| {
                    let _one = barrier.sit()?;
                    keep();
                    Ok(())
                })?)
                .boxed(),
            "another asleep in it" => company(ground)
                .asleep(
                    move || {
                        let mut seat = barrier.sit()?;
                        Ok(match seat.wait_until(Instant::now() + PATIENCE) {
                            Ok(_) => "complete".into(),
                            Err(BarrierError::Broken) => "broken".into(),
                            Err(error) => return Err(error.into()),
                        })
                    },
                    |_| Ok(true),
                )
                .boxed(),
            "first to come" => Box::new(Second(company(ground))),
            _ => Still::boxed(case, ground, inspect, barrier),
        })
    }

    fn prepare(&self, case: &Case, ground: &Ground) -> Result<Operation> {
        let barrier: &Barrier = Box::leak(Box::new(Barrier::in_segment(ground.segment(), ONLY)?));
        let mut held = Vec::new();
        if case.operation == "sit" {
            return Ok(Box::new(move || match barrier.sit() {
                Ok(seat) => {
                    held.push(seat);
                    Ok(())
                }
                Err(BarrierError::NoSeat) => Ok(()),
                Err(error) => Err(error.into()),
            }));
        }
        let mut seat = barrier.sit()?;
        // Of two victims the one that lives on may wait alone.
        let patience = if case.state == "seats free" {
            ALONE
        } else {
            PATIENCE
        };
        Ok(match case.operation {
            "wait" => Box::new(move || match seat.wait_until(Instant::now() + patience) {
                // The other one may have died, or gone.
                Ok(_) | Err(BarrierError::Broken | BarrierError::TimedOut) => Ok(()),
                Err(error) => Err(error.into()),
            }),
            "wait no longer" => Box::new(move || {
                let refused = seat.wait_until(Instant::now());
                ensure!(
                    refused == Err(BarrierError::TimedOut),
                    "alone at the barrier: {refused:?}"
                );
                Ok(())
            }),
            "stand up" => {
                let mut held = Some(seat);
                Box::new(move || {
                    drop(held.take());
                    Ok(())
                })
            }
            other => bail!("no operation {other}"),
        })
    }

    fn learn(&self, ground: &Ground) -> Result<()> {
        drop(Barrier::in_segment(ground.segment(), ONLY)?);
        Ok(())
    }

    fn inspect(&self, case: &Case, ground: &Ground, _: &[u64]) -> Result<String> {
        inspect(case, ground)
    }
}

/// A survivor that comes when the victim waits, and completes the round.
struct Second(Company);

impl Scene for Second {
    fn ground(&self) -> &Ground {
        self.0.ground()
    }

    fn release(&mut self) -> Result<bool> {
        let barrier = Barrier::in_segment(self.ground().segment(), ONLY)?;
        barrier.sit()?.wait_until(Instant::now() + PATIENCE)?;
        Ok(true)
    }

    fn survive(self: Box<Self>, unaided: bool) -> Result<String> {
        Box::new(self.0).survive(unaided)
    }
}

/// Newcomers can take all seats, no more, and complete rounds.
fn inspect(_: &Case, ground: &Ground) -> Result<String> {
    let barrier = Barrier::in_segment(ground.segment(), ONLY)?;
    let mut one = barrier.sit().context("a first seat")?;
    let mut two = barrier.sit().context("a second seat")?;
    ensure!(
        matches!(barrier.sit(), Err(BarrierError::NoSeat)),
        "a seat too many"
    );
    let until = Instant::now() + PATIENCE;
    let told = std::thread::scope(|scope| {
        let other = scope.spawn(|| two.wait_until(until));
        let mine = one.wait_until(until);
        (mine, other.join())
    });
    let (Ok(mine), Ok(Ok(other))) = told else {
        bail!("a round of newcomers ends with {told:?}")
    };
    ensure!(mine != other, "not one of them ended the round, but {mine}");
    Ok(WHOLE.into())
}
