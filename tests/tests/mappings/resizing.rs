//! Unmapping parts, growing, shrinking and moving.
//!
//! # Safety
//!
//! The raw `munmap` takes what the test mapped itself and never uses again.
#![allow(unsafe_code)]

use std::fs;

use ipc_core::{
    MapOptions, Mapping,
    mapping::{MapError, Reservation, Resize, page_size},
};

use super::common::*;

/// A private mapping of `pages` pages, each filled with its number.
fn numbered(pages: usize) -> Mapping {
    let mapping = MapOptions::new()
        .private()
        .len(pages * page_size())
        .map_anonymous()
        .unwrap();
    for number in 0..pages {
        mapping
            .write_at(number * page_size(), &vec![number as u8; page_size()])
            .unwrap();
    }
    mapping
}

#[test]
fn a_part_is_unmapped_and_the_rest_is_whole() {
    // Catches a cut at the wrong place, by what the kernel shows before and after.
    alone(|| {
        let page = page_size();
        let mapping = numbered(6);
        let address = mapping.address();
        let mapped = |from: usize, pages: usize| maps(address + from * page, pages * page).len();
        assert_eq!(mapped(0, 6), 1);
        // From the front.
        let (front, rest) = mapping.split_at(page).unwrap();
        drop(front);
        assert_eq!((mapped(0, 1), mapped(1, 5)), (0, 1));
        // From the back.
        let (rest, back) = rest.split_at(4 * page).unwrap();
        back.unmap().unwrap();
        assert_eq!((mapped(5, 1), mapped(1, 4)), (0, 1));
        // A hole in the middle.
        let (one, rest) = rest.split_at(page).unwrap();
        let (hole, four) = rest.split_at(2 * page).unwrap();
        drop(hole);
        assert_eq!((mapped(1, 1), mapped(2, 2), mapped(4, 1)), (1, 0, 1));
        assert_eq!(one.to_vec(..).unwrap(), vec![1; page]);
        assert_eq!(four.to_vec(..).unwrap(), vec![4; page]);
        drop((one, four));
        assert_eq!(mapped(0, 6), 0);
    });
}

#[test]
fn a_cut_off_the_page_gives_the_mapping_back() {
    // Catches a mapping that is lost with the error.
    let kept = numbered(2).split_at(100).unwrap_err();
    assert!(
        matches!(kept.error, MapError::OffPage { value: 100, .. }),
        "{kept}"
    );
    assert_eq!(kept.mapping.to_vec(0..1).unwrap(), [0]);
    let kept = kept.mapping.split_at(3 * page_size()).unwrap_err();
    assert!(matches!(kept.error, MapError::OutOfBounds { .. }), "{kept}");
    // The ends are fine, and give a part of nothing.
    let (none, all) = kept.mapping.split_at(0).unwrap();
    assert_eq!((none.len(), all.len()), (0, 2 * page_size()));
    let (all, none) = all.split_at(2 * page_size()).unwrap();
    assert_eq!((all.len(), none.len()), (2 * page_size(), 0));
}

#[test]
fn munmap_takes_what_is_there() {
    // Shows the system call beneath: a range with nothing mapped succeeds, one across several mappings takes them all.
    alone(|| {
        let page = page_size();
        let range = Reservation::new(8 * page).unwrap();
        let address = range.address();
        drop(range);
        let at = |n: usize| {
            MapOptions::new()
                .len(page)
                .at(address + n * page)
                .map_anonymous()
                .unwrap()
        };
        let (one, two) = (at(1), at(5));
        let start = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: of the range only the two mappings are mapped, and they are never used or unmapped again.
        unsafe { rustix::mm::munmap(start, 8 * page) }.unwrap();
        assert_eq!(maps(address, 8 * page).len(), 0);
        // SAFETY: nothing is mapped there.
        unsafe { rustix::mm::munmap(start, 8 * page) }.unwrap();
        // The addresses are not ours any more.
        std::mem::forget((one, two));
    });
}

#[test]
fn growing_and_shrinking_keep_what_stays() {
    // Catches contents lost in a move, and garbage in what is new.
    let page = page_size();
    let mut mapping = numbered(2);
    for pages in [3, 64, 2, 1, 5000, 2] {
        mapping = mapping.resize(pages * page - 5, Resize::MayMove).unwrap();
        assert_eq!(mapping.len(), pages * page - 5);
        assert_eq!(mapping.to_vec(0..4).unwrap(), [0; 4]);
        if pages >= 3 {
            assert_eq!(
                mapping.to_vec(page..page + 4).unwrap(),
                if pages == 5000 { [0; 4] } else { [1; 4] }
            );
            assert_eq!(
                mapping.to_vec(2 * page..).unwrap(),
                vec![0; (pages - 2) * page - 5]
            );
        }
        assert!(mapping.read_at(pages * page - 5, &mut [0]).is_err());
    }
}

#[test]
fn in_place_stays_or_says_what_is_in_the_way() {
    // Catches a move where none was allowed.
    alone(|| {
        let page = page_size();
        let range = Reservation::new(4 * page).unwrap();
        let address = range.address();
        drop(range);
        let first = MapOptions::new()
            .private()
            .len(page)
            .at(address)
            .map_anonymous()
            .unwrap();
        let second = MapOptions::new()
            .private()
            .len(page)
            .at(address + 2 * page)
            .read_only()
            .map_anonymous()
            .unwrap();
        let first = first.resize(2 * page, Resize::InPlace).unwrap();
        assert_eq!(first.address(), address);
        let kept = first.resize(3 * page, Resize::InPlace).unwrap_err();
        assert!(
            matches!(&kept.error, MapError::AddressTaken { taken_by, .. } if taken_by.contains("r--p")),
            "{kept}"
        );
        let moved = kept.mapping.resize(3 * page, Resize::MayMove).unwrap();
        assert_ne!(moved.address(), address);
        drop(second);
    });
}

#[test]
fn room_is_grown_into_without_moving() {
    // Catches growth that moves or eats the guard page although there is room.
    let page = page_size();
    for options in [
        MapOptions::new().private(),
        MapOptions::new().private().guard_pages(),
    ] {
        let mapping = options.len(page).room(8 * page).map_anonymous().unwrap();
        let address = mapping.address();
        mapping.write_at(0, &[7]).unwrap();
        let mapping = mapping.resize(8 * page, Resize::InPlace).unwrap();
        assert_eq!(mapping.address(), address);
        assert_eq!(mapping.to_vec(0..2).unwrap(), [7, 0]);
        mapping.write_at(8 * page - 1, &[8]).unwrap();
        // Shrunk, it keeps its room.
        let mapping = mapping
            .resize(1, Resize::InPlace)
            .unwrap()
            .resize(8 * page, Resize::InPlace)
            .unwrap();
        assert_eq!(mapping.address(), address);
        assert_eq!(mapping.to_vec(8 * page - 1..).unwrap(), [0]);
        // Beyond its room, whether it can stay depends on what else the process has just mapped there.
        let mapping = match mapping.resize(9 * page, Resize::InPlace) {
            Ok(stayed) => {
                assert_eq!(stayed.address(), address);
                stayed
            }
            Err(kept) => match kept.mapping.resize(9 * page, Resize::MayMove) {
                Ok(moved) => moved,
                Err(kept) => panic!("{kept}"),
            },
        };
        assert_eq!(mapping.to_vec(0..1).unwrap(), [7]);
    }
}

#[test]
fn guard_pages_move_along() {
    // Catches a mapping that loses its fence when it moves.
    let page = page_size();
    let mapping = MapOptions::new()
        .private()
        .guard_pages()
        .len(page)
        .map_anonymous()
        .unwrap();
    mapping.write_at(0, &[7]).unwrap();
    let mapping = mapping.resize(3 * page, Resize::MayMove).unwrap();
    assert_eq!(mapping.to_vec(0..1).unwrap(), [7]);
    assert!(maps(mapping.address() - 1, 1)[0].contains("---p"));
    assert!(maps(mapping.address() + 3 * page, 1)[0].contains("---p"));
}

#[test]
fn a_file_grows_with_its_mapping() {
    // Catches a mapping past the end of the file, which would fault.
    let page = page_size();
    let (_dir, path) = file_of(&[5; 100]);
    let kept = MapOptions::new()
        .map_file(&open(&path))
        .unwrap()
        .resize(2 * page, Resize::MayMove)
        .unwrap_err();
    assert!(matches!(kept.error, MapError::NoFile), "{kept}");
    for options in [
        MapOptions::new().keep_file(),
        MapOptions::new().keep_file().room(1 << 20),
    ] {
        fs::write(&path, [5; 100]).unwrap();
        let mapping = options.map_file(&open(&path)).unwrap();
        let mapping = mapping.resize(3 * page, Resize::MayMove).unwrap();
        mapping.write_at(3 * page - 1, &[6]).unwrap();
        assert_eq!(mapping.to_vec(99..101).unwrap(), [5, 0]);
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 * page as u64);
        assert_eq!(fs::read(&path).unwrap()[3 * page - 1], 6);
        // Shrinking the mapping leaves the file alone.
        let mapping = mapping.resize(10, Resize::InPlace).unwrap();
        assert_eq!(
            (mapping.len(), fs::metadata(&path).unwrap().len()),
            (10, 3 * page as u64)
        );
    }
}

#[test]
fn shared_anonymous_memory_shrinks_but_does_not_grow() {
    // Catches the SIGBUS that the new part would raise.
    let page = page_size();
    let mapping = MapOptions::new().len(2 * page).map_anonymous().unwrap();
    let kept = mapping.resize(3 * page, Resize::MayMove).unwrap_err();
    assert!(kept.error.to_string().contains("map_memfd"), "{kept}");
    let mapping = kept.mapping.resize(page, Resize::InPlace).unwrap();
    mapping.write_at(page - 1, &[1]).unwrap();
    assert!(mapping.write_at(page, &[1]).is_err());
    assert!(mapping.resize(2 * page, Resize::MayMove).is_err());
}

#[test]
fn a_mapping_moves_to_a_reserved_place() {
    // Catches a move elsewhere, or one that leaves the old place mapped.
    alone(|| {
        let page = page_size();
        let mapping = numbered(3);
        let before = mapping.address();
        let range = Reservation::new(8 * page).unwrap();
        let place = range.address();
        let mapping = mapping.move_into(range).unwrap();
        assert_eq!(mapping.address(), place);
        assert_eq!(maps(before, 3 * page).len(), 0);
        assert_eq!(mapping.to_vec(page - 1..page + 1).unwrap(), [0, 1]);
        // The rest of the range is room to grow.
        let mapping = mapping.resize(8 * page, Resize::InPlace).unwrap();
        assert_eq!(mapping.address(), place);
        let kept = mapping
            .move_into(Reservation::new(page).unwrap())
            .unwrap_err();
        assert_eq!(kept.mapping.to_vec(page..page + 1).unwrap(), [1]);
    });
}
