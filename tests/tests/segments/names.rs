//! Names: where they lead, who shares them, and what becomes of a segment that loses its own.

use std::fs::Permissions;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_core::region::{Region, RegionView};
use ipc_core::segment::{Place, Segment, SegmentError, SegmentOptions, default_directory};

use crate::support::{child, child_of, files, is_root, scratch, skipped, small};

#[test]
fn f12_both_sides_of_a_replaced_name_can_tell() {
    // Catches a process that works on in a segment that nobody new will ever find, without a way to notice.
    let place = scratch();
    let path = place.path().join("segment");
    let first = small().create(path.as_path()).unwrap();
    let view = Segment::open_read_only(path.as_path()).unwrap();
    first.check().unwrap();
    view.check().unwrap();
    let second = small().replace(path.as_path()).unwrap();
    assert!(matches!(first.check(), Err(SegmentError::Replaced)));
    assert!(matches!(view.check(), Err(SegmentError::Replaced)));
    second.check().unwrap();
    assert_ne!(first.header().uuid, second.header().uuid);
    assert_eq!(
        Segment::open(path.as_path()).unwrap().header().uuid,
        second.header().uuid
    );

    Segment::unlink(path.as_path()).unwrap();
    assert!(matches!(second.check(), Err(SegmentError::Replaced)));
    assert!(matches!(
        Segment::unlink(path.as_path()),
        Err(SegmentError::NotFound { .. })
    ));
    assert!(matches!(
        Segment::open(path.as_path()),
        Err(SegmentError::NotFound { .. })
    ));

    // Whoever removes the file by other means leaves no mark, but the file has no name any more.
    let third = small().replace(path.as_path()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(third.check(), Err(SegmentError::Replaced)));
    assert_eq!(files(place.path()), [""; 0]);
}

#[test]
fn a_damaged_segment_can_be_removed_and_replaced() {
    // Catches a name that is taken for ever by what nobody can open.
    let place = scratch();
    let path = place.path().join("segment");
    drop(small().create(path.as_path()).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        Segment::open(path.as_path()),
        Err(SegmentError::Checksum { .. })
    ));
    small().replace(path.as_path()).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    Segment::unlink(path.as_path()).unwrap();
    assert_eq!(files(place.path()), [""; 0]);
}

#[test]
fn a_read_only_segment_is_read_without_leave_to_write() {
    // Catches a view that maps for writing, joins, or stores somewhere.
    let place = scratch();
    let path = place.path().join("segment");
    let region = Region::<AtomicU64>::create(path.as_path()).unwrap();
    region.segment().participant().unwrap();
    region.store(5, Relaxed);
    std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let view = RegionView::<AtomicU64>::open(path.as_path()).unwrap();
    assert_eq!(view.load(Relaxed), 5);
    region.store(6, Relaxed);
    assert_eq!((view.load(Relaxed), view.copy().load(Relaxed)), (6, 6));
    let segment = view.segment();
    let lives = segment
        .participants()
        .filter(|id| format!("{:?}", segment.life(*id)).starts_with("Alive"));
    assert_eq!(lives.count(), 1);
    region.store(5, Relaxed);
    assert_eq!(
        std::fs::read(&path).unwrap(),
        before,
        "nothing was changed by looking"
    );
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of_the_file: Vec<_> = maps
        .lines()
        .filter(|line| line.ends_with(path.to_str().unwrap()))
        .collect();
    assert_eq!(
        of_the_file
            .iter()
            .filter(|line| line.contains(" r--s "))
            .count(),
        1,
        "{of_the_file:?}"
    );
    if !is_root() {
        assert!(
            Segment::open(path.as_path()).is_err(),
            "a file without leave to write"
        );
    }
}

#[test]
fn names_live_in_a_directory_of_their_own() {
    // Catches a default directory with the wrong mode, and one that is trusted although others may write to it.
    let place = scratch();
    let status = child("named_segments", place.path())
        .env("IPC_DIR", place.path().join("ipc"))
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(files(place.path()), ["ipc", "there"]);
}

pub fn named_segments(place: &Path) {
    let directory = place.join("ipc");
    assert_eq!(default_directory(), directory);
    assert!(matches!(
        Segment::open("nothing"),
        Err(SegmentError::NotFound { .. })
    ));
    assert!(!directory.exists(), "an open makes no directory");
    let segment = small().open_or_create("some").unwrap();
    assert_eq!(
        std::fs::metadata(&directory).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(segment.path(), Some(directory.join("some").as_path()));
    assert_eq!(
        Segment::open("some").unwrap().header().uuid,
        segment.header().uuid
    );
    assert_eq!(files(&directory), ["some"]);
    Segment::unlink("some").unwrap();
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../some",
        "line\nbreak",
        &"x".repeat(201),
    ] {
        assert!(
            matches!(small().create(name), Err(SegmentError::BadName { .. })),
            "{name:?}"
        );
    }
    small().create("x".repeat(200)).unwrap();
    small().replace("x".repeat(200)).unwrap();
    Segment::unlink("x".repeat(200)).unwrap();

    std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let error = small().create("some").unwrap_err();
    assert!(
        matches!(error, SegmentError::OpenDirectory { mode: 0o755, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("chmod 700"), "{error}");
    if is_root() {
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(65534), None).unwrap();
        assert!(matches!(
            Segment::open("some"),
            Err(SegmentError::ForeignDirectory { owner: 65534, .. })
        ));
    }
    // A link to a directory of ours is not followed: it may be another's.
    std::fs::rename(&directory, place.join("there")).unwrap();
    std::os::unix::fs::symlink(place.join("there"), &directory).unwrap();
    assert!(matches!(
        Segment::open("some"),
        Err(SegmentError::NotADirectory { .. })
    ));
    std::fs::remove_file(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
}

#[test]
fn a_runtime_directory_that_is_gone_is_told() {
    // Catches a message that leaves the user of `su` or of a container alone with a path he has never heard of.
    let place = scratch();
    let gone = place.path().join("gone");
    let status = child("named_nowhere", place.path())
        .env("XDG_RUNTIME_DIR", &gone)
        .status()
        .unwrap();
    assert!(status.success());
}

pub fn named_nowhere(place: &Path) {
    assert_eq!(default_directory(), place.join("gone/ipc"));
    assert!(matches!(
        Segment::open("some"),
        Err(SegmentError::NotFound { .. })
    ));
    let error = small().create("some").unwrap_err();
    assert!(matches!(error, SegmentError::NoParent { .. }), "{error:?}");
    assert!(error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
}

#[test]
fn a_group_shares_a_directory() {
    // Catches a group that cannot open what a member made, and one that is trusted in a directory open to others.
    let place = scratch();
    let directory = place.path().join("shared");
    std::fs::create_dir(&directory).unwrap();
    let shared = || Place::group(directory.as_path(), "segment");
    let mode = |mode| std::fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
    for wrong in [0o700, 0o770, 0o2777, 0o2771] {
        mode(wrong);
        let error = small().create(shared()).unwrap_err();
        assert!(
            matches!(error, SegmentError::GroupDirectory { .. }),
            "{wrong:o}: {error:?}"
        );
        assert!(error.to_string().contains("chmod 2770"), "{error}");
    }
    mode(0o2770);
    let region = Region::<AtomicU64>::create(shared()).unwrap();
    assert_eq!(
        std::fs::metadata(directory.join("segment")).unwrap().mode() & 0o7777,
        0o660
    );
    Region::<AtomicU64>::open(shared()).unwrap();
    assert!(
        Segment::open(directory.join("segment")).is_err(),
        "by its path nobody has said that the group is trusted"
    );

    if !is_root() {
        return skipped("only root runs a second user");
    }
    chown(&directory, None, Some(65534)).unwrap();
    Segment::unlink(shared()).unwrap();
    drop(region);
    let region = Region::<AtomicU64>::create(shared()).unwrap();
    assert_eq!(
        std::fs::metadata(directory.join("segment")).unwrap().gid(),
        65534
    );
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    // The copy of this program, since a user may not search root's directories.
    let program = place.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let status = child_of(&program, "a_member_of_the_group", &directory)
        .uid(65534)
        .gid(65534)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(region.load(Relaxed), 12);
    // What the member made is open to us as well.
    assert_eq!(
        Region::<AtomicU64>::open(Place::group(&directory, "theirs"))
            .unwrap()
            .load(Relaxed),
        13
    );
}

pub fn a_member_of_the_group(directory: &Path) {
    let region = Region::<AtomicU64>::open(Place::group(directory, "segment")).unwrap();
    region.store(12, Relaxed);
    Region::<AtomicU64>::create(Place::group(directory, "theirs"))
        .unwrap()
        .store(13, Relaxed);
}

#[test]
fn a_memory_file_is_passed_on_by_its_descriptor() {
    // Catches a memory file that the second opener sees otherwise, or whose locks it shares.
    let segment = small().create(Place::Memfd("passed".into())).unwrap();
    let second = Segment::open(segment.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(segment.header(), second.header());
    assert_eq!(second.path(), None);
    assert_ne!(
        segment.participant().unwrap(),
        second.participant().unwrap()
    );
    second.check().unwrap();
    for place in [Place::Memfd("passed".into()), Place::Anonymous] {
        assert!(matches!(
            Segment::open(place),
            Err(SegmentError::BadName { .. })
        ));
    }
}

#[test]
fn what_cannot_be_a_segment_is_refused_before_it_is_made() {
    // Catches a plan that overflows, or a directory with two objects of one name.
    let spec = |len| ipc_core::segment::ObjectSpec {
        kind: *b"example\0",
        version: 1,
        len,
        schema: String::new(),
        parameters: [0; 2],
    };
    let options = SegmentOptions::new;
    for options in [
        options().object("same", spec(1)).object("same", spec(1)),
        options().object("", spec(1)),
        options().object(&"x".repeat(64), spec(1)),
        options().participants(0),
        options().participants(16_383),
        options().object("huge", spec(usize::MAX)),
        options().object("huge", spec(isize::MAX as usize)),
    ] {
        let error = options.create(Place::Anonymous).unwrap_err();
        assert!(
            matches!(error, SegmentError::Object(_) | SegmentError::TooLarge),
            "{error:?}"
        );
    }
    assert_eq!(options().create(Place::Anonymous).unwrap().entries(), []);
}
