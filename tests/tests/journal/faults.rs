//! What befalls a journal besides power cuts and kills: appenders that are stopped for a lap, disks that fail and are then
//! asked again, other mounts of the same file system, and copies.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ipc_core::mark::{self, Mark};
use ipc_core::memory::{Area, LockByte};
use ipc_core::segment::Segment;
use ipc_ring::journal::protocol::Log;
use ipc_ring::journal::{Journal, JournalError, ONLY};
use ipc_tests::child::Child;
use ipc_tests::powercut::{Disk, Killed, Logged, Random};

use crate::powercut::{CAPACITY, MINUTE, OFFSET, Records, empty, log, participant, sync, visible};
use crate::processes::soon;

/// Attached as a participant.
fn attached(disk: &Rc<Disk>, process: u32) -> Log<Logged> {
    let log = log(disk, process);
    log.attach(participant(process), 77, 0).unwrap();
    log
}

/// Does what a process is killed in.
fn killed(disk: &Rc<Disk>, process: u32, work: impl FnOnce()) {
    let died = catch_unwind(AssertUnwindSafe(work)).expect_err("a death");
    assert!(died.is::<Killed>());
    disk.kill(process);
}

/// Checks what is there after a cut at the last moment, whatever the medium has kept.
fn after_a_cut(disk: &Rc<Disk>, check: impl Fn(&Log<Logged>, Records)) {
    disk.images(disk.moments() - 1, 2000, &mut Random::seeded(), |image| {
        let log = attached(&Disk::new(image, 9), 1);
        let found = visible(&log).unwrap();
        check(&log, found);
    });
}

// A claim that comes a lap late: it must not succeed in the middle of another's record, whose bytes may be anything, those of a
// free place of that lap first of all.
#[test]
fn an_appender_that_slept_through_a_lap_touches_no_record() {
    for lap in 0..3_u64 {
        let disk = Disk::new(empty(), 1);
        let (sleeper, other) = (attached(&disk, 1), attached(&disk, 2));
        let me = participant(2);
        let fill = move |log: &Log<Logged>, payload: &[u8]| {
            let mut kept = Records::new();
            while let Ok(at) = log.append(me, payload) {
                kept.insert(at.start, payload.to_vec());
            }
            sync(log, log.end()).unwrap();
            kept
        };
        for _ in 0..lap {
            fill(&other, &[0xff; 40]);
            other.trim(other.end(), MINUTE, &|_| {}).unwrap();
        }
        other.append(me, b"first").unwrap();
        let kept = Rc::new(std::cell::RefCell::new(BTreeMap::new()));
        let (told, asleep) = (kept.clone(), other.clone());
        disk.stop_before_exchange(OFFSET + 1024, move || {
            fill(&asleep, &[0xff; 40]);
            asleep.trim(asleep.end(), MINUTE, &|_| {}).unwrap();
            let free = (lap << 40).to_ne_bytes().repeat(100);
            *told.borrow_mut() = fill(&asleep, &free);
        });
        let late = sleeper.append(participant(1), b"I have slept");
        let kept = kept.take();
        assert!(kept.len() > 5, "the lap was not filled");
        assert!(matches!(late, Err(JournalError::Full)) || late.is_ok());
        let mut found = visible(&other).unwrap();
        if let Ok(late) = late {
            assert_eq!(found.remove(&late.start).unwrap(), b"I have slept");
        }
        assert_eq!(found, kept, "lap {lap}");
    }
}

// A failed msync leaves clean pages behind. Whoever is killed before it has told so must not leave a sync that succeeds and
// writes nothing.
#[test]
fn f21_a_death_right_after_a_failed_sync_hides_nothing() {
    let disk = Disk::new(empty(), 1);
    let first = attached(&disk, 1);
    // So much that the next one lies on another page than the words of the head, which are stored to all the time.
    let before = first.append(participant(1), &[4; 900]).unwrap();
    sync(&first, before.end).unwrap();
    let at = first.append(participant(1), &[5; 300]).unwrap();
    disk.fail_once();
    disk.die_after_syncs(0);
    killed(&disk, 1, || drop(sync(&first, at.end)));
    let second = attached(&disk, 2);
    sync(&second, at.end).unwrap();
    assert_eq!(second.durable(), at.end);
    after_a_cut(&disk, |_, found| {
        assert_eq!(
            found.get(&at.start),
            Some(&vec![5; 300]),
            "it was called durable"
        );
    });
}

// What the kernel could not write it may drop, and read again as it was: then nothing may be called durable any more.
#[test]
fn f21_a_record_that_is_gone_from_memory_is_not_called_durable() {
    let disk = Disk::new(empty(), 1);
    let first = attached(&disk, 1);
    let at = first.append(participant(1), &[5; 300]).unwrap();
    disk.fail_once();
    disk.die_after_syncs(0);
    killed(&disk, 1, || drop(sync(&first, at.end)));
    let area = Area::new(disk.memory(2), OFFSET, 4096).unwrap();
    area.write(1024 + 72, &[0; 8]).unwrap();
    let second = attached(&disk, 2);
    let refused = sync(&second, at.end);
    assert!(matches!(refused, Err(JournalError::Failed(Some(_)))));
    assert_eq!(second.durable(), 0);
}

// The first to attach after a power cut cuts the tail, and its sync fails: the next one must not find all words as they should
// be, sync nothing, and leave a whole record on the disk behind the end.
#[test]
fn f21_a_tail_whose_cutting_failed_is_cut_again() {
    let disk = Disk::new(empty(), 1);
    let first = attached(&disk, 1);
    let one = first.append(participant(1), b"one").unwrap();
    let two = first.append(participant(1), &[2; 832]).unwrap();
    let three = first.append(participant(1), b"three").unwrap();
    assert_eq!(
        (OFFSET as u64 + 1024 + three.start) % 4096,
        0,
        "on another page"
    );
    // The cut has spared the first one and the last one.
    let mut image = disk.contents();
    image[(OFFSET + 1024) / 8 + two.start as usize / 8] = 0;
    let disk = Disk::new(image, 2);
    disk.fail_once();
    let refused = log(&disk, 1).attach(participant(1), 77, 0);
    assert!(matches!(refused, Err(JournalError::Failed(Some(_)))));
    let second = attached(&disk, 2);
    assert_eq!(second.end(), one.end);
    let other = second.append(participant(2), &[4; 832]).unwrap();
    sync(&second, other.end).unwrap();
    after_a_cut(&disk, |log, found| {
        assert_eq!((found.len(), log.end()), (2, other.end));
    });
}

// Killed between the mark of a trim and its sync: the next trim must not give away space that the disk still says begins the
// journal.
#[test]
fn f22_space_is_not_used_again_before_the_mark_of_a_dead_trimmer_is_on_disk() {
    for forgets in [false, true] {
        let disk = Disk::new(empty(), 1);
        let first = attached(&disk, 1);
        let me = participant(1);
        while first.append(me, &[1; 100]).is_ok() {}
        let end = first.end();
        sync(&first, end).unwrap();
        if forgets {
            disk.fail_once();
        }
        disk.die_after_syncs(0);
        killed(&disk, 1, || drop(first.trim(end / 2, MINUTE, &|_| {})));
        let second = attached(&disk, 2);
        let start = second.trim(end / 2, MINUTE, &|_| {}).unwrap();
        assert!(start >= CAPACITY / 4);
        second.append(participant(2), &[2; 900]).unwrap();
        after_a_cut(&disk, |log, found| {
            assert!(log.start() <= start && log.end() >= end);
            let kept = found.range(start..end).filter(|(_, it)| it[..] == [1; 100]);
            assert_eq!(kept.count() as u64, (end - start) / 128);
        });
    }
}

// Whoever is killed in the middle of a mark leaves one that is not on disk: if the next one is torn as well, there is none.
#[test]
fn f22_a_mark_is_on_disk_before_the_other_one_is_touched() {
    let disk = Disk::new(vec![0; 512], 1);
    let mark = Mark::new(&Area::new(disk.memory(1), 0, mark::SIZE).unwrap(), 0).unwrap();
    let next = |value| mark.read().unwrap().next([value, 0]);
    mark.write(next(1)).unwrap();
    for value in 2..5 {
        disk.die_after_syncs(0);
        killed(&disk, 1, || drop(mark.write(next(value))));
    }
    for moment in 0..disk.moments() {
        disk.images(moment, 5000, &mut Random::seeded(), |image| {
            let disk = Disk::new(image, 2);
            let area = Area::new(disk.memory(1), 0, mark::SIZE).unwrap();
            let found = Mark::new(&area, 0).unwrap().read();
            assert!(found.is_some(), "no mark is whole at moment {moment}");
        });
    }
}

// The kernel may be short of memory for locks in one control group: that is no fault of the journal, and not for the others.
#[test]
fn f16_a_refused_lock_byte_fails_nobody_else() {
    let disk = Disk::new(empty(), 1);
    let first = attached(&disk, 1);
    disk.refuse(LockByte::Object(2));
    let refused = log(&disk, 2).attach(participant(2), 77, 0);
    assert!(matches!(refused, Err(JournalError::Failed(Some(_)))));
    let at = first.append(participant(1), b"well").unwrap();
    sync(&first, at.end).unwrap();
}

/// A journal in which one has died with a place in his hands between two records; gives where that is.
fn with_a_dead_claim() -> (Vec<u64>, u64) {
    let disk = Disk::new(empty(), 1);
    let first = attached(&disk, 1);
    let one = first.append(participant(1), b"one").unwrap();
    first.begin(participant(3), 100).unwrap();
    first.append(participant(1), b"two").unwrap();
    first.append(participant(1), b"three").unwrap();
    (disk.contents(), one.end)
}

// By another mount, in the same run of the machine, nothing is lost: a place that the dead had claimed is skipped there, too.
#[test]
fn another_mount_is_no_power_cut() {
    let (image, claim) = with_a_dead_claim();
    let disk = Disk::remounted(image.clone(), 1, 2);
    assert_eq!(visible(&attached(&disk, 1)).unwrap().len(), 3);
    // The control: after a power cut the claim is the end.
    let disk = Disk::new(image, 2);
    let after = attached(&disk, 1);
    assert_eq!((visible(&after).unwrap().len(), after.end()), (1, claim));
}

// A file system that gave itself up and is mounted anew has kept what it happened to keep: then what is whole behind a claim may
// be whole behind a gap, and must not be seen.
#[test]
fn another_mount_of_a_torn_journal_is_one() {
    let (image, claim) = with_a_dead_claim();
    let line = |at: u64| (OFFSET + 1024 + at as usize) / 8;
    let mut torn = image.clone();
    // The record behind the claim is missing, the one behind that is not.
    torn[line(claim + 128)..line(claim + 192)].fill(0);
    // Both are missing, while the tail says that they were there.
    let mut short = torn.clone();
    short[line(claim + 192)..line(claim + 256)].fill(0);
    short[OFFSET / 8] = claim + 256;
    for image in [torn, short] {
        let disk = Disk::remounted(image, 1, 2);
        let after = attached(&disk, 1);
        assert_eq!((visible(&after).unwrap().len(), after.end()), (1, claim));
    }
}

// The same among mount namespaces of the kernel's, where there is another number of the mount in each.
#[test]
fn f10_an_append_survives_a_kill_when_the_next_one_comes_from_another_mount_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = Journal::create(path.as_path(), 1 << 16).unwrap();
    journal.append(b"one").unwrap();
    let victim = Child::run(|| {
        let journal = Journal::open(path.as_path()).unwrap();
        let segment = journal.segment();
        let object = segment.object(ONLY).unwrap();
        let [capacity, rest] = object.entry().parameters;
        let lock = object.entry().offset / 64;
        let log = Log::new(object.area(), capacity, (rest >> 1) as u16, lock, true).unwrap();
        log.begin(segment.participant().unwrap(), 100).unwrap();
        // Killed here: nothing is dropped.
        std::mem::forget(journal);
    });
    victim.join();
    journal.append(b"two").unwrap();
    drop(journal);
    let elsewhere = Child::run(|| {
        let apart = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS);
        if let Err(error) = apart {
            println!("skipped: this user may not have a mount namespace ({error})");
            return;
        }
        let journal = Journal::open(path.as_path()).unwrap();
        let mut reader = journal.reader_from(0).unwrap();
        let mut record = Vec::new();
        for expected in [b"one", b"two"] {
            reader.read_until(&mut record, soon()).unwrap().unwrap();
            assert_eq!(record, expected);
        }
    });
    elsewhere.join();
}

// A copy of a file in use is torn, and adopted in the same run of the machine: the journal must end at the first gap, and be
// one that works.
#[test]
fn a_torn_copy_that_is_adopted_ends_at_its_first_gap() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("a"), directory.path().join("b"));
    let journal = Journal::create(path.as_path(), 1 << 20).unwrap();
    let record = vec![7; 6000];
    let mut last = 0..0;
    for _ in 0..3 {
        last = journal.append(&record).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let at = journal.append(&record).unwrap();
    journal.sync(at.end).unwrap();
    let mut torn = std::fs::read(&path).unwrap();
    // Of the last record every other page is the older one.
    let end = torn.len();
    let first = (end - (1 << 20) + last.end as usize).next_multiple_of(4096);
    for page in (first..first + 8192).step_by(8192) {
        torn[page..page + 4096].copy_from_slice(&before[page..page + 4096]);
    }
    std::fs::write(&copy, &torn).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(Segment::adopt(copy.as_path()).unwrap());
    for turn in 0..2_u64 {
        let journal = Journal::open(copy.as_path()).unwrap();
        assert_eq!(journal.end(), last.end + turn * 64);
        let at = journal.append(b"new").unwrap();
        journal.sync(at.end).unwrap();
        let mut reader = journal.reader_from(0).unwrap();
        let (mut count, mut found) = (0, Vec::new());
        while reader.try_read(&mut found).unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, reader.position()), (4 + turn, at.end));
    }
    assert_eq!(journal.end(), at.end, "the original is as it was");
}
