//! A power cut at every moment, with every state that the medium may be in: no id comes twice.
//!
//! `IPC_TEST_IMAGES=1000000` asks for that many images instead of the quick number.

use std::collections::BTreeSet;
use std::rc::Rc;

use ipc_core::ids::protocol::{Counter, EPOCH, Lease, Refusal};
use ipc_core::memory::Area;
use ipc_core::participant::ParticipantId;
use ipc_tests::powercut::{Disk, Logged, Random, wanted};

const ROWS: u16 = 3;

fn empty() -> Vec<u64> {
    vec![0; Counter::<Logged>::size(ROWS).next_multiple_of(4096) / 8]
}

fn counter(disk: &Rc<Disk>, process: u32) -> Counter<Logged> {
    let memory = disk.memory(process);
    let area = Area::new(memory, 0, Counter::<Logged>::size(ROWS)).unwrap();
    Counter::new(&area, ROWS, 0, true).unwrap()
}

fn participant(process: u32) -> ParticipantId {
    ParticipantId::new(u64::from(process)).unwrap()
}

/// Attaches some processes and lets them draw in random order, noting every id that is given.
fn work(disk: &Rc<Disk>, random: &mut Random, steps: u64) -> Result<(), Refusal> {
    let mut processes = Vec::new();
    for process in 1..=1 + random.below(2) as u32 {
        let counter = counter(disk, process);
        counter.attach(participant(process), 0)?;
        let lease: Option<Lease<Logged>> = counter.lease(participant(process), ());
        processes.push((counter, lease.expect("a lease")));
    }
    for _ in 0..steps {
        let which = random.below(processes.len() as u64) as usize;
        let (counter, lease) = &mut processes[which];
        let count = if random.below(4) == 0 { 1 << 19 } else { 1 };
        match random.below(2) {
            0 => disk.note(lease.give()?),
            _ => {
                // A large draw brings the mark into play; its first and last id stand for all.
                let first = counter.draw_many(count)?;
                disk.note(first);
                disk.note(first + count - 1);
            }
        }
    }
    Ok(())
}

/// Recovers an image under a new run of the machine, draws from it, and says which id came again.
fn repeated(disk: &Rc<Disk>, random: &mut Random, given: &BTreeSet<u64>) -> Option<u64> {
    work(disk, random, 3).unwrap_or_else(|refusal| panic!("drawing after the cut: {refusal:?}"));
    disk.notes_before(disk.moments() - 1)
        .into_iter()
        .find(|id| given.contains(id))
}

/// Cuts the power at every moment of many histories, and again at every moment of the recovery. Gives the number of images
/// and the first id that came twice.
fn cut_everywhere(
    make: fn(Vec<u64>, u64) -> Rc<Disk>,
    images: usize,
    random: &mut Random,
) -> (usize, Option<u64>) {
    let (mut done, mut twice) = (0, None);
    while done < images && twice.is_none() {
        let disk = make(empty(), 1);
        let steps = 2 + random.below(8);
        work(&disk, random, steps).unwrap();
        for moment in 0..disk.moments() {
            let given = disk.notes_before(moment);
            let mut seconds = Vec::new();
            let mut order = random.clone();
            random.below(2);
            done += disk.images(moment, 64, random, |image| {
                let after = make(image, 2);
                twice = twice.or_else(|| repeated(&after, &mut order, &given));
                // A few of the recoveries are cut as well.
                if order.below(16) == 0 {
                    seconds.push(after);
                }
            });
            for after in seconds {
                for moment in 0..after.moments() {
                    let mut given = given.clone();
                    given.extend(after.notes_before(moment));
                    done += after.images(moment, 8, random, |image| {
                        let again = make(image, 3);
                        twice = twice.or_else(|| repeated(&again, &mut order, &given));
                    });
                }
            }
        }
    }
    (done, twice)
}

// An id given above the durable mark, a recovery that trusts what the kernel happened to write back, or one that cannot be
// cut itself, gives an id twice.
#[test]
fn f22_no_id_comes_twice_through_a_power_cut() {
    let mut random = Random::seeded();
    let (images, twice) = cut_everywhere(Disk::new, wanted(), &mut random);
    println!("{images} images recovered");
    assert_eq!(twice, None, "an id came twice");
    assert!(images >= wanted());
}

// The control: a disk that does not keep what it says it has kept must be found out, or the test above proves nothing.
#[test]
fn a_disk_that_lies_is_found_out() {
    let (_, twice) = cut_everywhere(Disk::lying, wanted(), &mut Random::seeded());
    assert!(twice.is_some());
}

// After a failed msync nobody knows what the disk holds: a later one that succeeds proves nothing.
#[test]
fn f21_a_failed_sync_is_for_good() {
    let disk = Disk::new(empty(), 1);
    let counter = counter(&disk, 1);
    counter.attach(participant(1), 0).unwrap();
    assert_eq!(counter.draw_many(1).unwrap(), 0);
    let limit = counter.statistics().limit;
    disk.fail();
    // What is below the old mark can still be given.
    assert_eq!(counter.draw_many(1).unwrap(), 1);
    assert!(matches!(
        counter.draw_many(limit),
        Err(Refusal::Failed(Some(_)))
    ));
    assert!(matches!(counter.draw_many(1), Err(Refusal::Failed(None))));
    assert!(counter.statistics().failed);
    // On a machine started afresh what the disk holds is known again, and drawing goes on above everything given.
    let mut image = None;
    disk.images(disk.moments() - 1, 2, &mut Random::seeded(), |made| {
        image = Some(made)
    });
    let afresh = Disk::new(image.expect("an image"), 2);
    let counter = self::counter(&afresh, 1);
    counter.attach(participant(1), 0).unwrap();
    assert!(counter.draw_many(1).unwrap() > 1);
    assert!(!counter.statistics().failed);
}

// A copy whose first user is killed half way must not go on where the original goes on: both would give the same ids.
#[test]
fn f24_whoever_uses_an_adopted_copy_first_may_be_killed() {
    let original = Disk::new(empty(), 1);
    let first = counter(&original, 1);
    first.attach(participant(1), 0).unwrap();
    first.draw_many(10).unwrap();
    let copy = Disk::new(original.memory_at(original.moments() - 1), 1);
    counter(&copy, 1).attach(participant(1), 1).unwrap();
    assert!(copy.moments() > 5, "{} moments", copy.moments());
    for moment in 0..copy.moments() {
        let killed = Disk::new(copy.memory_at(moment), 1);
        let next = counter(&killed, 2);
        next.attach(participant(2), 1).unwrap();
        let given = next.draw_many(1).unwrap();
        assert_eq!(given / EPOCH, 1, "killed at {moment}: {given}");
    }
}

// Both slots rubbish: starting at zero would give every id a second time.
#[test]
fn a_damaged_mark_is_not_taken_for_an_empty_one() {
    let disk = Disk::new(empty(), 1);
    work(&disk, &mut Random::seeded(), 5).unwrap();
    let mut rest = Vec::new();
    disk.images(disk.moments() - 1, 1, &mut Random::seeded(), |image| {
        rest.push(image)
    });
    for slots in [[256, 384], [384, 256]] {
        let mut image = rest[0].clone();
        slots.iter().for_each(|slot| image[slot / 8 + 1] ^= 1 << 20);
        let disk = Disk::new(image, 2);
        assert!(matches!(
            counter(&disk, 1).attach(participant(1), 0),
            Err(Refusal::Damaged)
        ));
    }
}
