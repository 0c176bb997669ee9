//! Typed regions: what they share, what they refuse, and what becomes of them in a forked child.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use ipc_core::bytemuck::{Pod, Zeroable};
use ipc_core::region::{Region, RegionSlice, RegionView, SharedCell, SharedSlice};
use ipc_core::segment::{Place, Segment, SegmentError, SegmentOptions};
use ipc_core::{Layout, Shared};

#[derive(Clone, Copy, Debug, Default, PartialEq, Layout, Pod, Zeroable)]
#[repr(C)]
#[layout(name = "feed.Level")]
struct Level {
    price: f64,
    qty: u32,
    _pad: [u8; 4],
}

#[derive(Layout, Shared)]
#[repr(C)]
#[layout(name = "feed.Book")]
struct Book {
    updates: AtomicU64,
    best: SharedCell<Level>,
    levels: [SharedCell<Level>; 4],
    state: State,
}

#[derive(Layout, Shared)]
#[repr(C)]
#[layout(name = "feed.State")]
struct State {
    open: AtomicU32,
    depth: [AtomicU16; 2],
    _pad: [AtomicU8; 8],
}

fn level(price: f64, qty: u32) -> Level {
    Level {
        price,
        qty,
        _pad: [0; 4],
    }
}

fn memfd(name: &str) -> Place {
    Place::Memfd(name.into())
}

/// A second handle on the memory file of `segment`, as another process would get it.
fn again(segment: &Segment) -> Place {
    segment.as_fd().try_clone_to_owned().unwrap().into()
}

#[test]
fn what_one_handle_stores_another_one_loads() {
    // Catches a region that is private, is not zero at first, or lies elsewhere for the second handle.
    let book = Region::<Book>::create(memfd("book")).unwrap();
    assert_eq!(book.updates.load(Relaxed), 0);
    assert_eq!(book.best.get(), Level::default());
    let other = Region::<Book>::open(again(book.segment())).unwrap();
    book.updates.fetch_add(7, Relaxed);
    book.best.set(level(1.5, 3));
    SharedSlice::of(&book.levels).write(2, &[level(2.5, 4)]);
    book.state.depth[1].store(9, Relaxed);
    assert_eq!(other.updates.load(Relaxed), 7);
    assert_eq!(other.best.get(), level(1.5, 3));
    assert_eq!(other.levels[2].get(), level(2.5, 4));
    assert_eq!(other.state.depth[1].load(Relaxed), 9);
}

#[test]
fn several_regions_lie_in_one_segment() {
    // Catches objects that overlap, or a name that leads to the wrong one.
    let segment = SegmentOptions::new()
        .object("first", Region::<AtomicU64>::spec())
        .object("book", Region::<Book>::spec())
        .object("samples", RegionSlice::<u16>::spec(1000).unwrap())
        .object("last", Region::<AtomicU64>::spec())
        .create(Place::Anonymous)
        .unwrap();
    let first = Region::<AtomicU64>::in_segment(&segment, "first").unwrap();
    let book = Region::<Book>::in_segment(&segment, "book").unwrap();
    let samples = RegionSlice::<u16>::in_segment(&segment, "samples").unwrap();
    let last = Region::<AtomicU64>::in_segment(&segment, "last").unwrap();
    samples.write(0, &[0xffff; 1000]);
    book.updates.store(u64::MAX, Relaxed);
    book.state.open.store(u32::MAX, Relaxed);
    assert_eq!((first.load(Relaxed), last.load(Relaxed)), (0, 0));
    assert_eq!(samples.to_vec(), [0xffff; 1000]);
    let missing = Region::<Book>::in_segment(&segment, "books")
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("books") && missing.contains("samples"),
        "{missing}"
    );
}

#[test]
fn a_region_of_another_type_is_refused_field_by_field() {
    // Catches an open that trusts the caller's type, and a message that does not say what differs.
    #[derive(Layout, Shared)]
    #[repr(C)]
    #[layout(name = "feed.State")]
    struct Newer {
        open: AtomicU32,
        depth: AtomicU32,
        _pad: [AtomicU8; 8],
    }
    let old = Region::<State>::create(memfd("state")).unwrap();
    let error = Region::<Newer>::open(again(old.segment())).unwrap_err();
    assert!(
        matches!(error, SegmentError::OtherLayout { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("depth: expected atomic<u32> at 4, found [atomic<u16>; 2] at 4"),
        "{text}"
    );
    let error = RegionSlice::<u64>::open(again(old.segment()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("region") && error.contains("slice"),
        "{error}"
    );
}

#[test]
fn a_projection_keeps_the_whole_mapped() {
    // Catches a projection that dangles once the region it was made from is gone.
    let book = Region::<Book>::create(memfd("book")).unwrap();
    let other = Region::<Book>::open(again(book.segment())).unwrap();
    let state = book.project(|book| &book.state);
    let depth = state.project(|state| &state.depth[1]);
    drop((book, state));
    depth.store(5, Relaxed);
    assert_eq!(other.state.depth[1].load(Relaxed), 5);
}

#[test]
#[should_panic(expected = "not a part")]
fn a_projection_to_elsewhere_is_refused() {
    // Catches a projection that claims to keep mapped what it does not.
    static ELSEWHERE: AtomicU64 = AtomicU64::new(0);
    let book = Region::<Book>::create(memfd("book")).unwrap();
    book.project(|_| &ELSEWHERE);
}

#[test]
fn a_view_loads_and_copies_part_by_part() {
    // Catches a projection that is off, a load of the wrong size, and a view that does not see later stores.
    let book = Region::<Book>::create(memfd("book")).unwrap();
    let view = RegionView::<Book>::open(again(book.segment())).unwrap();
    let depth = view
        .project(|book| &book.state)
        .project(|state| &state.depth[1]);
    let third = view.project(|book| &book.levels[3]);
    let updates = view.project(|book| &book.updates);
    book.state.depth[1].store(0xABCD, Relaxed);
    book.levels[3].set(level(-1.0, 9));
    book.updates.store(u64::MAX, Relaxed);
    assert_eq!(
        (depth.load(Relaxed), third.get(), updates.load(Relaxed)),
        (0xABCD, level(-1.0, 9), u64::MAX)
    );
    let copy = view.copy();
    book.updates.store(1, Relaxed);
    assert_eq!(copy.updates.load(Relaxed), u64::MAX, "a copy is private");
    assert_eq!(copy.levels[3].get(), level(-1.0, 9));
    assert_eq!(updates.load(Relaxed), 1);
    assert!(RegionView::<State>::open(again(book.segment())).is_err());
}

#[derive(Layout, Shared)]
#[repr(C)]
struct Shelf {
    books: [SharedCell<[u64; 512]>; 4096],
}

#[test]
fn a_view_of_a_large_region_needs_no_large_stack() {
    // Catches a model or a copy of the region that is made on the stack: 16 MiB end a thread.
    let shelf = Region::<Shelf>::create(memfd("shelf")).unwrap();
    let view = RegionView::<Shelf>::open(again(shelf.segment())).unwrap();
    shelf.books[4095].set([7; 512]);
    assert_eq!(view.project(|shelf| &shelf.books[4095]).get(), [7; 512]);
    assert_eq!(view.copy().books[4095].get(), [7; 512]);
}

#[test]
#[should_panic(expected = "not a part")]
fn a_view_of_elsewhere_is_refused() {
    // Catches a view that loads from an address which is not in the region.
    static ELSEWHERE: AtomicU64 = AtomicU64::new(0);
    let book = Region::<Book>::create(memfd("book")).unwrap();
    RegionView::<Book>::open(again(book.segment()))
        .unwrap()
        .project(|_| &ELSEWHERE);
}

#[test]
fn a_slice_is_as_long_as_its_creator_made_it() {
    // Catches a length that is taken from the opener, or from a directory that lies about it.
    let slice = RegionSlice::<u32>::create(memfd("slice"), 10).unwrap();
    let other = RegionSlice::<u32>::open(again(slice.segment())).unwrap();
    assert_eq!(other.len(), 10);
    slice[9].set(5);
    assert_eq!(other.to_vec(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert!(RegionSlice::<u64>::open(again(slice.segment())).is_err());
    assert!(matches!(
        RegionSlice::<u64>::spec(usize::MAX / 4),
        Err(SegmentError::TooLarge)
    ));
    let mut lie = RegionSlice::<u32>::spec(10).unwrap();
    lie.parameters[0] = 11;
    let segment = SegmentOptions::new()
        .object("lie", lie)
        .create(Place::Anonymous)
        .unwrap();
    assert!(matches!(
        RegionSlice::<u32>::in_segment(&segment, "lie"),
        Err(SegmentError::Damaged(_))
    ));
    let mut short = Region::<Book>::spec();
    short.len -= 1;
    let segment = SegmentOptions::new()
        .object("short", short)
        .create(Place::Anonymous)
        .unwrap();
    assert!(matches!(
        Region::<Book>::in_segment(&segment, "short"),
        Err(SegmentError::Damaged(_))
    ));
}

#[test]
fn a_region_is_written_back_by_sync() {
    // Catches a sync that covers other bytes than those of the region.
    let place = tempfile::tempdir().unwrap();
    let region = Region::<AtomicU64>::create(place.path().join("region")).unwrap();
    region.store(0x0123_4567_89AB_CDEF, Relaxed);
    region.sync().unwrap();
    region.segment().sync().unwrap();
    region.segment().check().unwrap();
    let bytes = std::fs::read(place.path().join("region")).unwrap();
    let at = region.segment().entries()[0].offset as usize;
    assert_eq!(bytes[at..at + 8], 0x0123_4567_89AB_CDEF_u64.to_ne_bytes());
}

const REFUSED: &str = "tests/regions/fail";
const RUSTC: &str = "rustc 1.95.";

#[test]
fn f33_what_could_be_an_invalid_value_does_not_compile() {
    // Catches a region or a cell of a type that a peer could make invalid, and a view or a region that gives too much away.
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let version = std::process::Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    if !version.starts_with(RUSTC.as_bytes()) {
        return println!("skipped: {REFUSED}, the messages of which are those of {RUSTC}*");
    }
    trybuild::TestCases::new().compile_fail(format!("{REFUSED}/*.rs"));
}

/// The twins differ in a token or two and compile with this file: that catches a refusal for another reason.
mod twins {
    #![allow(dead_code)]
    mod cell_of_bool {
        include!("regions/pass/cell_of_bool.rs");
    }
    mod exclusive {
        include!("regions/pass/exclusive.rs");
    }
    mod plain_type {
        include!("regions/pass/plain_type.rs");
    }
    mod store_through_a_view {
        include!("regions/pass/store_through_a_view.rs");
    }
}
