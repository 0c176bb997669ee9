//! The four kinds of mapping, and how each is made.

use std::{
    fs,
    io::Write,
    os::fd::AsRawFd,
    process::Command,
    time::{Duration, Instant},
};

use ipc_core::{
    MapOptions,
    mapping::{Access, HugePages, MapError, huge_page_size, page_size},
};

use super::common::*;

#[test]
fn a_private_mapping_of_a_file_keeps_changes_to_itself() {
    // Catches a private mapping that is shared after all: a change that reaches the file or another mapping.
    let (_dir, path) = file_of(b"contents");
    let file = fs::File::open(&path).unwrap();
    let private = MapOptions::new().private().map_file(&file).unwrap();
    private.write_at(0, b"CHANGED!").unwrap();
    assert_eq!(private.to_vec(..).unwrap(), b"CHANGED!");
    assert_eq!(fs::read(&path).unwrap(), b"contents");
    let other = MapOptions::new().read_only().map_file(&file).unwrap();
    assert_eq!(other.to_vec(..).unwrap(), b"contents");
    assert!(!private.is_shared() && other.is_shared());
}

#[test]
fn a_shared_mapping_of_a_file_is_seen_by_all_and_reaches_the_file() {
    // Catches a shared mapping that is private after all, and one that is not coherent with read and write.
    let (_dir, path) = file_of(b"contents");
    let file = open(&path);
    let (one, other) = (
        MapOptions::new().map_file(&file).unwrap(),
        MapOptions::new().map_file(&file).unwrap(),
    );
    one.write_at(3, b"T").unwrap();
    assert_eq!(other.to_vec(..).unwrap(), b"conTents");
    assert_eq!(fs::read(&path).unwrap(), b"conTents");
    open(&path).write_all(b"CON").unwrap();
    assert_eq!(one.to_vec(..).unwrap(), b"CONTents");
}

#[test]
fn a_child_gets_a_copy_of_private_memory_and_shares_shared_memory() {
    // Catches the two kinds of anonymous memory taken for each other.
    as_everybody(&["fork"], |ended| {
        assert_eq!(ended.ok(), "before\nchild!\n")
    });
}

#[test]
fn anonymous_memory_is_zero_and_has_no_slices_when_it_is_shared() {
    // Catches memory that is not zero at first.
    for options in [MapOptions::new(), MapOptions::new().private()] {
        let mapping = options.len(10_000).map_anonymous().unwrap();
        assert_eq!(mapping.to_vec(..).unwrap(), vec![0; 10_000]);
        assert!(mapping.file().is_none());
    }
}

#[test]
fn a_memfd_is_passed_on_through_exec_and_a_mapping_is_not() {
    // Catches a memfd that is not the mapped memory; the program that exec starts has none of our mappings.
    let mapping = MapOptions::new().len(4096).map_memfd("passed").unwrap();
    mapping.write_at(0, b"hello").unwrap();
    let file = mapping.file().expect("a memfd is kept");
    // A descriptor without close-on-exec, for the child alone.
    let passed = rustix::io::dup(file).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_mapping_probe"))
        .args(["after-exec", &passed.as_raw_fd().to_string()])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        "hello\n",
        "{ended:?}"
    );
    assert_eq!(mapping.to_vec(0..5).unwrap(), b"child");
}

#[test]
fn dev_zero_is_anonymous_memory_under_another_name() {
    // Catches devices being refused, or taken for files of no bytes.
    let zero = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    assert!(matches!(
        MapOptions::new().map_file(&zero),
        Err(MapError::NoLength)
    ));
    let mapping = MapOptions::new()
        .private()
        .len(5000)
        .map_file(&zero)
        .unwrap();
    assert_eq!(mapping.to_vec(..).unwrap(), vec![0; 5000]);
    mapping.write_at(4999, &[1]).unwrap();
    let other = MapOptions::new()
        .private()
        .len(5000)
        .map_file(&zero)
        .unwrap();
    assert_eq!(other.to_vec(4999..).unwrap(), [0]);
}

#[test]
fn each_protection_is_what_the_kernel_shows() {
    // Catches a protection that is not passed on.
    for (options, access, shown) in [
        (MapOptions::new().no_access(), Access::None, "---s"),
        (MapOptions::new().read_only(), Access::Read, "r--s"),
        (MapOptions::new(), Access::ReadWrite, "rw-s"),
        (MapOptions::new().executable(), Access::ReadExecute, "r-xs"),
        (MapOptions::new().private(), Access::ReadWrite, "rw-p"),
    ] {
        let mapping = options.len(4096).map_anonymous().unwrap();
        assert_eq!(mapping.access(), access);
        let lines = maps(mapping.address(), 4096);
        assert!(lines[0].contains(shown), "{lines:?}");
        assert_eq!(
            mapping.write_at(0, &[1]).is_ok(),
            access == Access::ReadWrite
        );
        assert_eq!(mapping.read_at(0, &mut [1]).is_ok(), access != Access::None);
        assert_eq!(mapping.atomic_u64(0).is_ok(), access == Access::ReadWrite);
    }
}

#[test]
fn no_reserve_costs_nothing_until_it_is_touched() {
    // Catches a lost flag: 64 GiB would be refused, or counted.
    // Guard pages keep the kernel from showing it as one with its neighbours.
    let mapping = MapOptions::new()
        .private()
        .no_reserve()
        .guard_pages()
        .len(64 << 30)
        .map_anonymous()
        .unwrap();
    assert!(vm_flags(mapping.address()).contains(" nr "));
    assert_eq!(resident(mapping.address()), 0);
    mapping.write_at(63 << 30, &[1]).unwrap();
    assert!(resident(mapping.address()) <= huge_page_size().unwrap_or(4096).max(4096));
    let sparse = MapOptions::new()
        .no_reserve()
        .len(1 << 40)
        .map_memfd("sparse")
        .unwrap();
    sparse.write_at((1 << 40) - 1, &[1]).unwrap();
    assert_eq!(sparse.to_vec((1 << 40) - 2..).unwrap(), [0, 1]);
}

#[test]
fn populate_brings_every_page_in() {
    // Catches a lost flag.
    let len = 64 * page_size();
    let idle = MapOptions::new()
        .private()
        .len(len)
        .map_anonymous()
        .unwrap();
    let full = MapOptions::new()
        .private()
        .populate()
        .len(len)
        .map_anonymous()
        .unwrap();
    assert_eq!(full.residency(..).unwrap().resident(), 64);
    assert_eq!(idle.residency(..).unwrap().resident(), 0);
}

#[test]
fn lock_at_map_time_is_shown_by_the_kernel() {
    // Catches a lost flag.
    let mapping = MapOptions::new()
        .lock()
        .len(page_size())
        .map_anonymous()
        .unwrap();
    assert!(vm_flags(mapping.address()).contains(" lo "));
    assert_eq!(mapping.residency(..).unwrap().resident(), 1);
}

#[test]
fn huge_pages_work_or_say_why_not() {
    // Catches a machine without huge pages giving an error instead of a working mapping that says so.
    let Some(size) = huge_page_size() else {
        println!("skipped: this kernel has no huge pages");
        return;
    };
    for mapping in [
        MapOptions::new()
            .private()
            .huge_pages()
            .len(2 * size)
            .map_anonymous()
            .unwrap(),
        MapOptions::new()
            .huge_pages()
            .len(2 * size)
            .map_anonymous()
            .unwrap(),
        MapOptions::new()
            .huge_pages()
            .len(2 * size)
            .map_memfd("huge")
            .unwrap(),
        MapOptions::new()
            .huge_pages()
            .guard_pages()
            .len(100)
            .map_anonymous()
            .unwrap(),
    ] {
        mapping.write_at(mapping.len() - 8, &[1; 8]).unwrap();
        match mapping.huge_pages() {
            HugePages::Reserved(got) => assert_eq!(*got, size),
            HugePages::Transparent(why) | HugePages::Unavailable(why) => {
                assert!(!why.is_empty());
                println!("not set aside: {why}");
            }
            other => panic!("{other:?}"),
        }
    }
    let plain = MapOptions::new().len(size).map_anonymous().unwrap();
    assert_eq!(*plain.huge_pages(), HugePages::NotAsked);
}

#[test]
fn huge_pages_that_are_set_aside_are_used() {
    // Catches MAP_HUGETLB and MFD_HUGETLB lost; and a wrong page size for the ranges of such a mapping.
    let pool = "/proc/sys/vm/nr_hugepages";
    /// Puts back what was there, however the test ends.
    struct Restore(&'static str, String);
    impl Drop for Restore {
        fn drop(&mut self) {
            fs::write(self.0, &self.1).unwrap();
        }
    }
    let before = fs::read_to_string(pool).unwrap_or_default();
    if fs::write(pool, "32").is_err() {
        println!("skipped: this user cannot set huge pages aside");
        return;
    }
    let _restore = Restore(pool, before);
    let size = huge_page_size().unwrap();
    // The pool is the machine's: another process may empty it in between, which is no fault of ours.
    let deadline = Instant::now() + Duration::from_secs(10);
    let (anonymous, memfd) = loop {
        fs::write(pool, "32").unwrap();
        let options = MapOptions::new().huge_pages();
        let anonymous = options.clone().len(size + 1).map_anonymous().unwrap();
        let memfd = options.len(100).map_memfd("huge").unwrap();
        let reserved = HugePages::Reserved(size);
        if *anonymous.huge_pages() == reserved && *memfd.huge_pages() == reserved {
            break (anonymous, memfd);
        }
        if fs::read_to_string(pool).unwrap().trim() == "0" {
            println!("skipped: this machine has no room for huge pages");
            return;
        }
        assert!(Instant::now() < deadline, "{anonymous:?} {memfd:?}");
    };
    assert!(vm_flags(anonymous.address()).contains(" ht "));
    anonymous.write_at(size, &[1]).unwrap();
    anonymous.sync(.., ipc_core::mapping::Sync::Wait).unwrap();
    let (front, back) = anonymous.split_at(size).unwrap();
    drop(front);
    assert_eq!(back.to_vec(..).unwrap(), [1]);
    memfd.write_at(99, &[1]).unwrap();
    drop((back, memfd));
}

#[test]
fn a_fixed_address_replaces_nothing() {
    // Catches MAP_FIXED in the place of MAP_FIXED_NOREPLACE: the first mapping would lose its bytes.
    alone(|| {
        let page = page_size();
        let first = MapOptions::new().len(page).map_anonymous().unwrap();
        first.write_at(0, &[7]).unwrap();
        let address = first.address();
        let error = MapOptions::new()
            .len(page)
            .at(address)
            .map_anonymous()
            .unwrap_err();
        assert!(
            matches!(&error, MapError::AddressTaken { taken_by, .. } if taken_by.contains("/dev/zero")),
            "{error}"
        );
        assert_eq!(first.to_vec(0..1).unwrap(), [7]);
        drop(first);
        let again = MapOptions::new()
            .len(page)
            .at(address)
            .map_anonymous()
            .unwrap();
        assert_eq!(again.address(), address);
        let error = MapOptions::new()
            .len(page)
            .at(address + 1)
            .map_anonymous()
            .unwrap_err();
        assert!(matches!(error, MapError::OffPage { .. }), "{error}");
    });
}

#[test]
fn an_alignment_is_kept_or_refused() {
    // Catches an alignment that is not what was asked for, and one that nobody can have being accepted.
    alone(|| {
        for align in [8, 64, 4096, 8192, 1 << 16, 1 << 21, 1 << 30] {
            let mapping = MapOptions::new()
                .private()
                .len(100)
                .align(align)
                .map_anonymous()
                .unwrap();
            assert_eq!(mapping.address() % align, 0);
            mapping.write_at(99, &[1]).unwrap();
            // What aligning took beyond the pages is given back; other tests have small ranges without access beside it.
            let beside = maps(mapping.address() + page_size(), 1);
            assert!(
                beside
                    .iter()
                    .all(|line| !line.contains("---p") || extent(line) < align.max(1 << 25)),
                "{beside:?}"
            );
        }
        for (align, why) in [
            (3, "power of two"),
            (48, "power of two"),
            (4, "pointer"),
            (1, "pointer"),
        ] {
            let error = MapOptions::new()
                .len(100)
                .align(align)
                .map_anonymous()
                .unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    });
}
