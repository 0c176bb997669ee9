//! Files that are no segment, not one to be trusted, or not the one that was made.

use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_core::region::Region;
use ipc_core::segment::{Place, Segment, SegmentError};
use nix::sys::stat::{Mode, SFlag};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::support::{files, is_root, scratch, scratch_on_disk, skipped, small};

fn refused(result: Result<Segment, SegmentError>, what: &str) {
    match result {
        Err(SegmentError::NotTrusted { fault, .. }) => assert!(fault.contains(what), "{fault}"),
        other => panic!("expected a refusal because of {what:?}: {other:?}"),
    }
}

#[test]
fn f13_every_length_is_refused_but_the_right_one() {
    // Catches a read or a mapping that trusts the header about the size of the file.
    let place = scratch();
    let path = place.path().join("segment");
    let full = place.path().join("full");
    let len = small().create(full.as_path()).unwrap().header().total_len;
    let bytes = std::fs::read(&full).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for short in (0..len + 4097).rev().filter(|short| *short != len) {
        file.set_len(short).unwrap();
        match Segment::open(path.as_path()) {
            Err(SegmentError::TooShort { found, .. }) => assert!(found == short && short < 4096),
            Err(SegmentError::WrongSize { found, expected }) => {
                assert_eq!((found, expected), (short, len));
            }
            other => panic!("{short} bytes: {other:?}"),
        }
    }
    std::fs::write(&path, []).unwrap();
    let text = Segment::open(path.as_path()).unwrap_err().to_string();
    assert!(text.contains("0 bytes"), "{text}");
}

#[test]
fn f13_what_is_no_regular_file_is_refused_unopened() {
    // Catches an open that waits for the other end of a pipe, follows a link, or touches a device.
    let place = scratch();
    let at = |name: &str| place.path().join(name);
    drop(small().create(at("segment")).unwrap());
    nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    symlink(at("segment"), at("link")).unwrap();
    for (name, what) in [
        ("pipe", "named pipe"),
        ("directory", "a directory"),
        ("socket", "a socket"),
        ("link", "symbolic link"),
    ] {
        refused(Segment::open(at(name)), what);
        refused(small().open_or_create(at(name)), what);
        assert!(
            matches!(small().create(at(name)), Err(SegmentError::Exists { .. })),
            "{name}"
        );
        assert!(Segment::unlink(at(name)).is_err(), "{name}");
        assert!(small().replace(at(name)).is_err(), "{name}");
        assert!(
            std::fs::symlink_metadata(at(name)).is_ok(),
            "{name} is still there"
        );
    }
    refused(Segment::open(Path::new("/dev/null")), "a device");
    if is_root() {
        nix::sys::stat::mknod(
            &at("device"),
            SFlag::S_IFCHR,
            Mode::S_IRWXU,
            nix::sys::stat::makedev(1, 5),
        )
        .unwrap();
        refused(Segment::open(at("device")), "a device");
    } else {
        skipped("only root makes a device node of its own; /dev/null was tried");
    }
}

#[test]
fn f24_a_copy_is_noticed_and_can_be_adopted() {
    // Catches a restored or copied file that two groups of processes take for one segment; and an adoption that loses data.
    let place = scratch();
    let (original, copy) = (place.path().join("original"), place.path().join("copy"));
    let region = Region::<AtomicU64>::create(original.as_path()).unwrap();
    region.store(42, Relaxed);
    std::fs::copy(&original, &copy).unwrap();
    let error = Region::<AtomicU64>::open(copy.as_path()).unwrap_err();
    assert!(matches!(error, SegmentError::Copied { .. }), "{error:?}");
    assert!(error.to_string().contains("adopt"), "{error}");
    assert!(matches!(
        Segment::open_read_only(copy.as_path()),
        Err(SegmentError::Copied { .. })
    ));

    let adopted = Segment::adopt(copy.as_path()).unwrap();
    let (old, new) = (region.segment().header(), adopted.header());
    assert_ne!(old.uuid, new.uuid);
    assert_eq!((old.adoptions, new.adoptions), (0, 1));
    let again = Region::<AtomicU64>::open(copy.as_path()).unwrap();
    assert_eq!(again.load(Relaxed), 42);
    again.store(7, Relaxed);
    assert_eq!(region.load(Relaxed), 42, "the original is another one");
    // Adopting what is no copy only opens it.
    assert_eq!(
        Segment::adopt(copy.as_path()).unwrap().header().uuid,
        new.uuid
    );
    assert_eq!(files(place.path()), ["copy", "original"]);
}

#[test]
fn f24_two_that_adopt_the_same_copy_adopt_it_once() {
    // Catches two successors of one copy, of which each counts as the first: ids from both would be the same.
    let place = scratch();
    let original = place.path().join("original");
    small().create(original.as_path()).unwrap();
    for round in 0..100 {
        let copy = place.path().join(format!("copy{round}"));
        std::fs::copy(&original, &copy).unwrap();
        let start = std::sync::Barrier::new(2);
        let adopt = || {
            start.wait();
            let segment = Segment::adopt(copy.as_path()).unwrap();
            (segment.header().uuid, segment.header().adoptions)
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(adopt);
            (adopt(), other.join().unwrap())
        });
        assert_eq!(one, other, "round {round}");
        assert_eq!(one.1, 1, "round {round}");
    }
}

#[test]
fn f24_a_segment_that_is_moved_stays_itself() {
    // Catches an identity made of what a rename or another mount point changes.
    let place = scratch_on_disk();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let uuid = small().create(from.as_path()).unwrap().header().uuid;
    std::fs::rename(&from, &to).unwrap();
    assert_eq!(Segment::open(to.as_path()).unwrap().header().uuid, uuid);
}

#[test]
fn f26_owner_mode_and_hard_links_are_checked() {
    // Catches a file that somebody else may write to, or has another name for.
    let place = scratch();
    let path = place.path().join("segment");
    drop(small().create(path.as_path()).unwrap());
    let mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    mode(0o602);
    refused(Segment::open(path.as_path()), "anybody may write");
    mode(0o620);
    refused(Segment::open(path.as_path()), "may write to it (mode 0620)");
    let group = std::fs::metadata(&path).unwrap().gid();
    small().group(group).open(path.as_path()).unwrap();
    mode(0o644);
    Segment::open(path.as_path()).unwrap();
    mode(0o600);

    let link = place.path().join("link");
    std::fs::hard_link(&path, &link).unwrap();
    refused(Segment::open(path.as_path()), "hard links");
    std::fs::remove_file(&link).unwrap();
    Segment::open(path.as_path()).unwrap();

    if !is_root() {
        return skipped("only root gives a file to another user");
    }
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    refused(Segment::open(path.as_path()), "belongs to user 65534");
    small().owner(65534).open(path.as_path()).unwrap();
}

#[test]
fn f26_a_mode_does_not_follow_the_umask_and_must_make_sense() {
    // Catches a mode that the umask changes, and one that every open would refuse later.
    let place = scratch();
    let path = place.path().join("segment");
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let created = small().mode(0o644).create(path.as_path());
    rustix::process::umask(old);
    drop(created.unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    let other = place.path().join("other");
    for mode in [0o606, 0o660, 0o400, 0o4600] {
        assert!(
            matches!(
                small().mode(mode).create(other.as_path()),
                Err(SegmentError::BadMode { .. })
            ),
            "{mode:o}"
        );
    }
    assert_eq!(files(place.path()), ["segment"]);
}

#[test]
fn f27_a_planted_file_or_link_leads_nowhere() {
    // Catches a create that writes through a link, or into a file that somebody put there before.
    let place = scratch();
    let at = |name: &str| place.path().join(name);
    let victim = at("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, at("link")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    for name in ["link", "dangling"] {
        assert!(small().create(at(name)).is_err());
        assert!(small().open_or_create(at(name)).is_err());
        assert!(small().replace(at(name)).is_err());
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!at("nothing").exists());
    // A file that is no segment is neither opened, nor replaced, nor removed.
    for result in [
        small().open_or_create(victim.as_path()),
        small().replace(victim.as_path()),
    ] {
        assert!(
            matches!(
                result,
                Err(SegmentError::TooShort { .. } | SegmentError::NoSegment { .. })
            ),
            "{result:?}"
        );
    }
    assert!(matches!(
        Segment::unlink(victim.as_path()),
        Err(SegmentError::NoSegment { .. })
    ));
    if is_root() {
        std::os::unix::fs::chown(&victim, Some(65534), Some(65534)).unwrap();
        refused(
            small().open_or_create(victim.as_path()),
            "belongs to user 65534",
        );
    } else {
        skipped("only root plants a file in another user's name");
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn f30_a_memory_file_must_be_sealed() {
    // Catches a descriptor of a memory file that its sender can cut short at any time.
    let sealed = small().create(Place::Memfd("sealed".into())).unwrap();
    let second = sealed.as_fd().try_clone_to_owned().unwrap();
    Segment::open(second).unwrap();
    let unsealed = File::from(
        memfd_create(c"unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap(),
    );
    let len = sealed.header().total_len;
    unsealed.set_len(len).unwrap();
    refused(Segment::open(OwnedFd::from(unsealed)), "not sealed");
}
