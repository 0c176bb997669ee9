//! Writing back, protecting, advising, locking, residency.
//!
//! # Safety
//!
//! The one raw call reads a range of two words and writes five.
#![allow(unsafe_code)]

use std::fs;

use ipc_core::{
    MapOptions,
    mapping::{Access, Advice, MapError, SecretBuffer, Sync, page_size},
};

use super::common::*;

#[test]
fn after_a_sync_no_page_of_the_range_is_dirty() {
    // Catches a sync that waits for nothing, or for the wrong range.
    let page = page_size();
    // The temporary directory may be on tmpfs, where nothing is ever written back; the build directory is on a disk.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![0; 16 * page]).unwrap();
    let file = open(&path);
    file.sync_all().unwrap();
    let mapping = MapOptions::new().map_file(&file).unwrap();
    mapping.write_at(0, &vec![7; 16 * page]).unwrap();
    let Some(dirty) = dirty_pages(&file, 0, 16 * page as u64) else {
        println!("skipped: the kernel has no cachestat");
        return;
    };
    if dirty == 0 {
        println!("skipped: the file system keeps no dirty pages");
        return;
    }
    // An unaligned range is widened to the pages that hold it: 4 and 5.
    mapping
        .sync(4 * page + 100..5 * page + 1, Sync::Wait)
        .unwrap();
    assert_eq!(
        dirty_pages(&file, 4 * page as u64, 2 * page as u64),
        Some(0)
    );
    mapping.sync(.., Sync::Wait).unwrap();
    assert_eq!(dirty_pages(&file, 0, 16 * page as u64), Some(0));
    mapping.write_at(0, &[8]).unwrap();
    mapping.sync(.., Sync::Schedule).unwrap();
    mapping.sync(.., Sync::Invalidate).unwrap();
    assert_eq!(mapping.to_vec(0..1).unwrap(), [8]);
    assert!(matches!(
        mapping.sync(..16 * page + 1, Sync::Wait),
        Err(MapError::OutOfBounds { .. })
    ));
}

/// Pages of a range of a file that are dirty or on their way to the disk.
fn dirty_pages(file: &fs::File, offset: u64, len: u64) -> Option<u64> {
    use std::os::fd::AsRawFd;
    /// The number of the call, the same on every architecture that has it.
    const CACHESTAT: i64 = 451;
    let range = [offset, len];
    let mut found = [0u64; 5];
    // SAFETY: the call reads two words and writes five (cached, dirty, under writeback, evicted, recently evicted).
    let done = unsafe {
        nix::libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            found.as_mut_ptr(),
            0,
        )
    };
    (done == 0).then_some(found[1] + found[2])
}

#[test]
fn what_a_sync_covered_survives_a_power_cut() {
    // Catches a sync that returns before the bytes are on the disk. What was not synced is lost, which shows that the cut
    // is one.
    if !is_root() {
        println!("skipped: only root can mount a disk whose power is cut");
        return;
    }
    let Some(mount) = ipc_tests::mount::Mount::ext4_with_a_journal() else {
        return;
    };
    let path = mount.path().join("file");
    let page = page_size();
    fs::write(&path, vec![b'0'; 4 * page]).unwrap();
    let file = open(&path);
    file.sync_all().unwrap();
    fs::File::open(mount.path()).unwrap().sync_all().unwrap();
    let mapping = MapOptions::new().map_file(&file).unwrap();
    mapping.write_at(0, &vec![b'1'; 2 * page]).unwrap();
    mapping.sync(..2 * page, Sync::Wait).unwrap();
    mapping.write_at(2 * page, &vec![b'2'; 2 * page]).unwrap();
    mount.cut_the_power();
    let error = mapping.sync(.., Sync::Wait).unwrap_err();
    assert!(matches!(error, MapError::SyncFailed { .. }), "{error}");
    drop((mapping, file));
    mount.remount();
    let bytes = fs::read(&path).unwrap();
    assert!(
        bytes[..2 * page].iter().all(|byte| *byte == b'1'),
        "synced bytes are lost"
    );
    assert!(
        bytes[2 * page..].iter().all(|byte| *byte == b'0'),
        "the power was not cut"
    );
}

#[test]
fn a_failed_sync_is_remembered() {
    // Catches a second sync that succeeds because the kernel has forgotten the first one's failure.
    if !is_root() {
        println!("skipped: only root can mount the file system that fails");
        return;
    }
    let Some(mount) = ipc_tests::mount::Mount::ext4_on_a_full_disk() else {
        return;
    };
    let path = mount.path().join("file");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let len = 8 << 20;
    let mapping = MapOptions::new()
        .len(len)
        .extend_file()
        .map_file(&file)
        .unwrap();
    mount.fill_the_disk();
    mapping.write_at(0, &vec![7; len]).unwrap();
    let error = mapping.sync(.., Sync::Wait).unwrap_err();
    assert!(
        matches!(error, MapError::SyncFailed { before: false, .. }),
        "{error}"
    );
    mount.empty_the_disk();
    let error = mapping.sync(.., Sync::Wait).unwrap_err();
    assert!(
        matches!(error, MapError::SyncFailed { before: true, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("a later success would prove nothing"),
        "{error}"
    );
    // The parts remember it too.
    let (front, back) = mapping.split_at(4096).unwrap();
    assert!(front.sync(.., Sync::Wait).is_err() && back.sync(.., Sync::Wait).is_err());
}

#[test]
fn protection_changes_and_shows() {
    // Catches a change that does not reach the kernel, or the checks.
    let mut mapping = MapOptions::new()
        .private()
        .len(4096)
        .map_anonymous()
        .unwrap();
    mapping.write_at(0, &[0xc3]).unwrap();
    for (access, shown) in [
        (Access::Read, "r--p"),
        (Access::ReadExecute, "r-xp"),
        (Access::None, "---p"),
        (Access::ReadWrite, "rw-p"),
    ] {
        mapping.protect(access).unwrap();
        assert!(maps(mapping.address(), 1)[0].contains(shown));
        assert_eq!(
            mapping.write_at(0, &[0xc3]).is_ok(),
            access == Access::ReadWrite
        );
    }
    // A part is protected by itself once it is cut off.
    let mapping = MapOptions::new()
        .private()
        .len(3 * page_size())
        .map_anonymous()
        .unwrap();
    let (front, rest) = mapping.split_at(page_size()).unwrap();
    let (mut middle, back) = rest.split_at(page_size()).unwrap();
    middle.protect(Access::Read).unwrap();
    assert!(
        front.write_at(0, &[1]).is_ok()
            && middle.write_at(0, &[1]).is_err()
            && back.write_at(0, &[1]).is_ok()
    );
    assert_eq!(maps(front.address(), 3 * page_size()).len(), 3);
}

#[test]
fn advice_reaches_the_kernel() {
    // Catches advice taken for other advice.
    let page = page_size();
    let private = || {
        MapOptions::new()
            .private()
            .len(4 * page)
            .map_anonymous()
            .unwrap()
    };
    for (advice, flag) in [
        (Advice::Random, " rr "),
        (Advice::Sequential, " sr "),
        (Advice::DontFork, " dc "),
        (Advice::WipeOnFork, " wf "),
        (Advice::DontDump, " dd "),
    ] {
        let mapping = private();
        assert!(!vm_flags(mapping.address()).contains(flag));
        mapping.advise(.., advice).unwrap();
        assert!(vm_flags(mapping.address()).contains(flag), "{advice:?}");
        for undo in [
            Advice::Normal,
            Advice::DoFork,
            Advice::KeepOnFork,
            Advice::DoDump,
        ] {
            mapping.advise(.., undo).unwrap();
        }
        assert!(!vm_flags(mapping.address()).contains(flag), "{advice:?}");
        mapping.write_at(0, &[1]).unwrap();
    }
    for (advice, flag) in [(Advice::HugePage, " hg "), (Advice::NoHugePage, " nh ")] {
        let mapping = private();
        match mapping.advise(.., advice) {
            Ok(()) => assert!(vm_flags(mapping.address()).contains(flag), "{advice:?}"),
            Err(error) => println!("skipped: {advice:?}: {error}"),
        }
    }
    let mapping = private();
    mapping.write_at(0, &vec![7; 4 * page]).unwrap();
    for advice in [Advice::WillNeed, Advice::Cold, Advice::PageOut] {
        mapping.advise(.., advice).unwrap();
        assert_eq!(
            mapping.to_vec(..).unwrap(),
            vec![7; 4 * page],
            "{advice:?} keeps the bytes"
        );
    }
    // The bytes may go, or not: what is read is either.
    mapping.advise(.., Advice::Free).unwrap();
    assert!(
        mapping
            .to_vec(..)
            .unwrap()
            .iter()
            .all(|byte| *byte == 7 || *byte == 0)
    );
    let error = mapping.advise(.., Advice::Remove).unwrap_err();
    assert!(
        matches!(
            error,
            MapError::Os {
                call: "madvise",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn dont_need_gives_zeros_or_the_file_again() {
    // Catches dont-need on the wrong range; and shows that it drops nothing that is shared.
    let page = page_size();
    let anonymous = MapOptions::new()
        .private()
        .len(2 * page)
        .map_anonymous()
        .unwrap();
    anonymous.write_at(0, &vec![7; 2 * page]).unwrap();
    anonymous.advise(page.., Advice::DontNeed).unwrap();
    assert_eq!(anonymous.to_vec(page - 1..page + 1).unwrap(), [7, 0]);
    let (_dir, path) = file_of(&vec![5; page]);
    let private = MapOptions::new().private().map_file(&open(&path)).unwrap();
    private.write_at(0, &[7; 10]).unwrap();
    private.advise(.., Advice::DontNeed).unwrap();
    assert_eq!(private.to_vec(0..10).unwrap(), [5; 10]);
    let shared = MapOptions::new().map_file(&open(&path)).unwrap();
    shared.write_at(0, &[9]).unwrap();
    shared.advise(.., Advice::DontNeed).unwrap();
    assert_eq!(shared.to_vec(0..1).unwrap(), [9]);
}

#[test]
fn residency_follows_populate_and_dont_need() {
    // Catches pages counted in the wrong place.
    let page = page_size();
    let mapping = MapOptions::new()
        .private()
        .len(8 * page)
        .map_anonymous()
        .unwrap();
    mapping.advise(.., Advice::NoHugePage).unwrap();
    assert_eq!(mapping.residency(..).unwrap().resident(), 0);
    mapping
        .advise(2 * page..4 * page, Advice::PopulateWrite)
        .unwrap();
    let found = mapping.residency(..).unwrap();
    assert_eq!(
        found.pages,
        [false, false, true, true, false, false, false, false]
    );
    mapping
        .advise(2 * page..3 * page, Advice::DontNeed)
        .unwrap();
    assert_eq!(
        mapping.residency(page..4 * page).unwrap().pages,
        [false, false, true]
    );
    // For a file it tells of the page cache, whoever filled it.
    let (_dir, path) = file_of(&vec![1; 4 * page]);
    let file = MapOptions::new()
        .read_only()
        .map_file(&open(&path))
        .unwrap();
    assert_eq!(file.residency(..).unwrap().resident(), 4);
}

#[test]
fn of_a_foreign_file_all_is_said_to_be_resident() {
    // Shows what the documentation says: the kernel tells nobody about the cache of files that are not his to write.
    if !is_root() {
        println!(
            "skipped: only root has a file that is somebody else's, and a way to drop it from the cache"
        );
        return;
    }
    let dir = scratch();
    let path = dir.path().join("foreign");
    let page = page_size();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    // A hole: nothing of it is in the cache.
    file.set_len(8 * page as u64).unwrap();
    let mine = MapOptions::new().read_only().map_file(&file).unwrap();
    assert_eq!(mine.residency(..).unwrap().resident(), 0);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    as_everybody(&["resident", path.to_str().unwrap()], |ended| {
        let own = ended.out == "0 of 8\n";
        let foreign = ended.out == "8 of 8\n";
        assert!(own || foreign, "{ended:?}");
    });
    assert_eq!(
        probe_as_ordinary(&["resident", path.to_str().unwrap()]).ok(),
        "8 of 8\n"
    );
}

#[test]
fn a_hole_gives_blocks_back_and_reads_as_zeros() {
    // Catches a hole in the wrong place, or none at all.
    use std::os::unix::fs::MetadataExt;
    let page = page_size();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.path().join("file"))
        .unwrap();
    let mapping = MapOptions::new()
        .len(8 * page)
        .extend_file()
        .map_file(&file)
        .unwrap();
    mapping.write_at(0, &vec![7; 8 * page]).unwrap();
    let before = file.metadata().unwrap().blocks();
    mapping.advise(2 * page..6 * page, Advice::Remove).unwrap();
    let after = file.metadata().unwrap().blocks();
    assert_eq!((before - after) * 512, 4 * page as u64);
    assert_eq!(mapping.to_vec(2 * page - 1..2 * page + 1).unwrap(), [7, 0]);
    assert_eq!(mapping.to_vec(6 * page - 1..6 * page + 1).unwrap(), [0, 7]);
}

#[test]
fn a_mapping_kept_from_children_is_an_error_there() {
    // Catches the SIGSEGV that the child would get.
    as_everybody(&["dont-fork"], |ended| assert_eq!(ended.ok(), "kept\n"));
}

#[test]
fn locks_do_not_nest_and_are_not_inherited() {
    // Catches locks that are counted; what is mapped over is not locked any more.
    as_everybody(&["lock-not-inherited"], |ended| {
        assert_eq!(
            ended.ok(),
            "locked: 4 pages\nchild: 0\nunlocked: 0\nrest: 1 pages\n"
        );
    });
}

#[test]
fn a_page_stays_locked_while_one_who_shares_it_has_it_locked() {
    // Catches unlocking by one taken for unlocking by all.
    let page = page_size();
    let one = MapOptions::new().len(page).map_memfd("shared").unwrap();
    let other = MapOptions::new().map_file(&one.file().unwrap()).unwrap();
    one.lock(..).unwrap();
    other.lock(..).unwrap();
    one.unlock(..).unwrap();
    assert!(!vm_flags(one.address()).contains(" lo "));
    assert!(vm_flags(other.address()).contains(" lo "));
    // The page cannot leave, since the other has it locked.
    other.advise(.., Advice::PageOut).unwrap_err();
    assert_eq!(one.residency(..).unwrap().resident(), 1);
}

#[test]
fn everything_is_locked_now_and_later() {
    // Catches the two flags mixed up. An ordinary user has too little to lock, and is told the limit.
    if is_root() {
        assert_eq!(
            probe(&["all-locked"]).ok(),
            "resident: 16\nlocked: true\nlocked: false\n"
        );
    } else {
        println!("skipped: an ordinary user may not lock a whole process");
    }
}

#[test]
fn the_limit_on_locked_memory_is_named() {
    // Catches a bare ENOMEM. Root has no such limit, so this is done as an ordinary user.
    let ended = probe_as_ordinary(&["lock-limit", "65536"]).ok();
    for word in [
        "1048576 bytes",
        "RLIMIT_MEMLOCK is 65536 bytes",
        "ulimit -l",
    ] {
        assert!(ended.contains(word), "{word} is not in: {ended}");
    }
}

#[test]
fn a_secret_is_locked_not_dumped_and_not_inherited() {
    // Catches each of the three left out, and a Debug that prints the secret.
    as_everybody(&["secret"], |ended| {
        assert_eq!(ended.ok(), "SecretBuffer of 100 bytes\n")
    });
    let mut secret = SecretBuffer::new(10).unwrap();
    secret[9] = 1;
    let address = secret.as_ptr().addr();
    assert!(maps(address - page_size(), 1)[0].contains("---p"));
    assert!(maps(address + page_size(), 1)[0].contains("---p"));
    drop(secret);
}
