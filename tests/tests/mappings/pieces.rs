//! Mappings put together of pieces.

use ipc_core::{
    MapOptions,
    mapping::{MapError, Reservation, page_size},
};

use super::common::*;

#[test]
fn a_record_across_the_seam_of_a_mirror_reads_in_one_piece() {
    // Catches a mirror whose halves are not the same pages.
    let page = page_size();
    let ring = MapOptions::new().len(page).map_memfd("ring").unwrap();
    let file = ring.file().unwrap();
    let mut twice = Reservation::new(2 * page).unwrap();
    twice.place_file(0, &MapOptions::new(), &file).unwrap();
    twice.place_file(page, &MapOptions::new(), &file).unwrap();
    let mirror = twice.into_mapping().unwrap();
    let record: Vec<u8> = (0..100).collect();
    mirror.write_at(page - 50, &record).unwrap();
    assert_eq!(mirror.to_vec(page - 50..page + 50).unwrap(), record);
    assert_eq!(ring.to_vec(0..50).unwrap(), record[50..]);
    assert_eq!(
        mirror.to_vec(0..page).unwrap(),
        mirror.to_vec(page..).unwrap()
    );
}

#[test]
fn pages_are_seen_in_the_order_asked_for() {
    // Catches pages in another order: what remap_file_pages did of old.
    let page = page_size();
    let (_dir, path) = file_of(
        &(0..8)
            .flat_map(|number| vec![number; page])
            .collect::<Vec<u8>>(),
    );
    let file = open(&path);
    let order = [7, 0, 3, 3, 1, 6];
    let mut range = Reservation::new(order.len() * page).unwrap();
    // The order of placing does not matter.
    for (place, number) in order.iter().enumerate().rev() {
        let options = MapOptions::new().offset(number * page as u64).len(page);
        range.place_file(place * page, &options, &file).unwrap();
    }
    let mapping = range.into_mapping().unwrap();
    let seen: Vec<u64> = (0..order.len())
        .map(|place| mapping.to_vec(place * page..).unwrap()[0].into())
        .collect();
    assert_eq!(seen, order);
    // A page that is there twice is one page.
    mapping.write_at(2 * page, &[99]).unwrap();
    assert_eq!(mapping.to_vec(3 * page..3 * page + 1).unwrap(), [99]);
    let kept = mapping
        .resize(100 * page, ipc_core::mapping::Resize::MayMove)
        .unwrap_err();
    assert!(matches!(kept.error, MapError::WrongKind(_)), "{kept}");
}

#[test]
fn pieces_of_several_files_and_of_none_lie_side_by_side() {
    // Catches a piece at the wrong place, and a cut file that goes unnoticed in a layered mapping.
    let page = page_size();
    let ((_dir, one), (_other_dir, two)) = (file_of(&vec![1; page]), file_of(&vec![2; 3 * page]));
    let mut range = Reservation::new(5 * page).unwrap();
    range
        .place_file(0, &MapOptions::new(), &open(&one))
        .unwrap();
    range
        .place_anonymous(page, &MapOptions::new().len(page))
        .unwrap();
    range
        .place_file(
            2 * page,
            &MapOptions::new().offset(page as u64),
            &open(&two),
        )
        .unwrap();
    let mapping = range.into_mapping().unwrap();
    assert_eq!(mapping.len(), 4 * page);
    let firsts: Vec<u8> = (0..4)
        .map(|n| mapping.to_vec(n * page..).unwrap()[0])
        .collect();
    assert_eq!(firsts, [1, 0, 2, 2]);
    open(&two).set_len(0).unwrap();
    let error = mapping.read_at(2 * page, &mut [0]).unwrap_err();
    assert!(
        matches!(&error, MapError::CutShort { file } if file.contains(" and ")),
        "{error}"
    );
}

#[test]
fn a_piece_off_its_place_is_refused() {
    // Catches a piece that replaces another, or what lies beyond the range.
    let page = page_size();
    let piece = MapOptions::new().len(page);
    let mut range = Reservation::new(3 * page).unwrap();
    range.place_anonymous(page, &piece).unwrap();
    assert!(matches!(
        range.place_anonymous(page, &piece),
        Err(MapError::AddressTaken { .. })
    ));
    assert!(matches!(
        range.place_anonymous(0, &MapOptions::new().len(page + 1)),
        Err(MapError::AddressTaken { .. })
    ));
    assert!(matches!(
        range.place_anonymous(3 * page, &piece),
        Err(MapError::OutOfBounds { .. })
    ));
    assert!(matches!(
        range.place_anonymous(100, &piece),
        Err(MapError::OffPage { .. })
    ));
    for odd in [
        piece.clone().lock(),
        piece.clone().guard_pages(),
        piece.clone().room(1 << 20),
        piece.clone().align(64),
    ] {
        assert!(matches!(
            range.place_anonymous(0, &odd),
            Err(MapError::Options(_))
        ));
    }
    let error = range.into_mapping().unwrap_err();
    assert!(error.to_string().contains("hole"), "{error}");
    let mut range = Reservation::new(2 * page).unwrap();
    range.place_anonymous(0, &piece).unwrap();
    range
        .place_anonymous(page, &MapOptions::new().private().len(page))
        .unwrap();
    assert!(
        range
            .into_mapping()
            .unwrap_err()
            .to_string()
            .contains("all private")
    );
    assert!(matches!(Reservation::new(0), Err(MapError::ZeroLength)));
}

#[test]
fn a_reservation_replaces_nothing() {
    // Catches a reservation over somebody else's pages.
    alone(|| {
        let page = page_size();
        let range = Reservation::new(2 * page).unwrap();
        assert!(maps(range.address(), 1)[0].contains("---p"));
        let error = Reservation::at(range.address() + page, page).unwrap_err();
        assert!(matches!(error, MapError::AddressTaken { .. }), "{error}");
        let address = range.address();
        drop(range);
        assert_eq!(Reservation::at(address, page).unwrap().address(), address);
    });
}
