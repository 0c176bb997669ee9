//! Memory that is given as slices, and memory that is not.

use std::fs;

use ipc_core::{
    MapOptions,
    mapping::{Advice, MapError, Resize, page_size},
};

use super::common::*;

#[test]
fn private_memory_is_a_slice() {
    // Catches a slice of the wrong bytes, in any of the shapes that a mapping can have.
    for options in [
        MapOptions::new(),
        MapOptions::new().guard_pages(),
        MapOptions::new().room(1 << 20),
        MapOptions::new().align(1 << 16),
    ] {
        let mapping = options.private().len(10_000).map_anonymous().unwrap();
        mapping.write_at(5000, b"here").unwrap();
        let mut memory = mapping.into_private().unwrap();
        assert_eq!((memory.len(), &memory[5000..5004]), (10_000, &b"here"[..]));
        memory[9999] = 9;
        let mut memory = memory.resize(100_000, Resize::MayMove).unwrap();
        assert_eq!((memory[9999], memory[10_000], memory[99_999]), (9, 0, 0));
        memory.advise(.., Advice::DontDump).unwrap();
        assert!(
            memory.advise(.., Advice::Free).is_err()
                && memory.advise(.., Advice::DontFork).is_err()
        );
        let frozen = memory.freeze().unwrap();
        assert_eq!(frozen[9999], 9);
        assert!(maps(frozen.as_ptr().addr(), 1)[0].contains("r--p"));
        assert!(frozen.file().is_none());
    }
}

#[test]
fn what_others_may_change_is_no_slice() {
    // Catches a slice over bytes that change under it.
    let page = page_size();
    let (_dir, path) = file_of(&[1; 100]);
    let private = || MapOptions::new().private().len(page);
    let freed = private().map_anonymous().unwrap();
    freed.advise(.., Advice::Free).unwrap();
    let not_forked = private().map_anonymous().unwrap();
    not_forked.advise(.., Advice::DontFork).unwrap();
    for mapping in [
        MapOptions::new().len(page).map_anonymous().unwrap(),
        MapOptions::new().private().map_file(&open(&path)).unwrap(),
        MapOptions::new().map_file(&open(&path)).unwrap(),
        MapOptions::new()
            .private()
            .len(page)
            .map_memfd("x")
            .unwrap(),
        private().read_only().map_anonymous().unwrap(),
        freed,
        not_forked,
    ] {
        let kept = mapping.into_private().unwrap_err();
        assert!(matches!(kept.error, MapError::WrongKind(_)));
        drop(kept.mapping);
    }
}

#[test]
fn a_sealed_memfd_is_a_slice_here_and_elsewhere() {
    // Catches a slice of a memfd that can still change: every way to change it is tried.
    let mapping = MapOptions::new().len(5000).map_memfd("sealed").unwrap();
    mapping.write_at(4990, b"0123456789").unwrap();
    assert!(
        MapOptions::new()
            .map_sealed(&mapping.file().unwrap())
            .is_err(),
        "it is not sealed yet"
    );
    let frozen = mapping.seal().unwrap();
    assert_eq!((frozen.len(), &frozen[4990..]), (5000, &b"0123456789"[..]));
    let file = frozen.file().unwrap();
    assert!(
        rustix::fs::ftruncate(file, 0).is_err() && rustix::fs::ftruncate(file, 1 << 20).is_err()
    );
    assert!(rustix::io::pwrite(file, b"x", 0).is_err());
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert!(rustix::fs::fallocate(file, hole, 0, 4096).is_err());
    assert!(MapOptions::new().map_file(&file).is_err());
    let other = MapOptions::new().map_sealed(&file).unwrap();
    assert_eq!(other[..], frozen[..]);
    assert!(MapOptions::new().len(8193).map_sealed(&file).is_err());
}

#[test]
fn a_memfd_that_others_write_is_not_sealed() {
    // Catches the seal being given up silently, or the mapping being lost.
    let mapping = MapOptions::new().len(4096).map_memfd("busy").unwrap();
    mapping.write_at(0, b"kept").unwrap();
    let other = MapOptions::new()
        .map_file(&mapping.file().unwrap())
        .unwrap();
    let kept = mapping.seal().unwrap_err();
    assert!(kept.error.to_string().contains("somebody else"), "{kept}");
    assert_eq!(kept.mapping.to_vec(0..4).unwrap(), b"kept");
    kept.mapping.write_at(0, b"more").unwrap();
    assert_eq!(other.to_vec(0..4).unwrap(), b"more");
    drop(other);
    assert_eq!(&kept.mapping.seal().unwrap()[0..4], b"more");
    // Files have no seals.
    let (_dir, path) = file_of(&[1; 100]);
    let mapping = MapOptions::new()
        .keep_file()
        .map_file(&open(&path))
        .unwrap();
    assert!(
        mapping
            .seal()
            .unwrap_err()
            .error
            .to_string()
            .contains("memfd")
    );
    assert!(
        MapOptions::new()
            .map_sealed(&fs::File::open(&path).unwrap())
            .is_err()
    );
}
