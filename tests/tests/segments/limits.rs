//! Creating a segment where there is not enough of something.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_core::mapping::MapError;
use ipc_core::region::{Region, RegionSlice};
use ipc_core::segment::{Place, Segment, SegmentError, SegmentOptions};
use ipc_core::{MapOptions, Mapping};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::{
    child, child_skipped, files, is_root, mounts_of_its_own, play, scratch, scratch_on_disk,
    skipped, small,
};

/// The options of a segment with so many bytes in it.
fn large(bytes: usize) -> SegmentOptions {
    small().object("bytes", RegionSlice::<u8>::spec(bytes).unwrap())
}

fn no_room(result: Result<Segment, SegmentError>) {
    match result {
        Err(SegmentError::Map(error @ MapError::NoSpace { .. })) => {
            let text = error.to_string();
            assert!(text.contains("free"), "{text}");
        }
        other => panic!("expected no room: {other:?}"),
    }
}

/// On a file system of a few pages: too much is refused and leaves nothing behind, what fits works.
fn refuses_what_has_no_room(directory: &Path, room: usize) {
    let path = directory.join("segment");
    let before = files(directory);
    no_room(large(2 * room).create(path.as_path()));
    no_room(large(2 * room).open_or_create(path.as_path()));
    no_room(large(2 * room).replace(path.as_path()));
    assert_eq!(files(directory), before);
    let segment = large(room / 8).create(path.as_path()).unwrap();
    // It cannot be replaced by what does not fit either, and stays.
    no_room(large(2 * room).replace(path.as_path()));
    segment.check().unwrap();
    // Every page of it is there, however full the rest of the file system gets.
    let _ = std::fs::write(directory.join("rest"), vec![1; 2 * room]);
    RegionSlice::<u8>::in_segment(&segment, "bytes")
        .unwrap()
        .write(0, &vec![7; room / 8]);
    segment.sync().unwrap();
    segment.check().unwrap();
}

#[test]
fn f16_no_room_on_the_file_system() {
    // Catches a file with holes, which ends whoever writes to it when the file system is full.
    if !is_root() {
        return skipped("only root mounts a small file system");
    }
    play("on_a_full_tmpfs", scratch().path());
    play("on_a_full_disk", scratch_on_disk().path());
}

pub fn on_a_full_tmpfs(directory: &Path) {
    if mounts_of_its_own() {
        mount(
            Some("none"),
            directory,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=64k,mode=700"),
        )
        .unwrap();
        refuses_what_has_no_room(directory, 64 << 10);
    }
}

pub fn on_a_full_disk(directory: &Path) {
    if !mounts_of_its_own() {
        return;
    }
    let (image, place) = (directory.join("image"), directory.join("place"));
    std::fs::create_dir(&place).unwrap();
    if !mount_ext4(&image, 2 << 20, &place) {
        return;
    }
    refuses_what_has_no_room(&place, 1 << 20);
    Command::new("umount").arg(&place).status().unwrap();
}

/// Mounts a new file system in a file of that size. False, and says why, if that cannot be.
fn mount_ext4(image: &Path, size: u64, place: &Path) -> bool {
    std::fs::File::create(image).unwrap().set_len(size).unwrap();
    let image = image.as_os_str();
    for (program, args) in [
        (
            "mkfs.ext4",
            vec!["-q".as_ref(), "-O".as_ref(), "^has_journal".as_ref(), image],
        ),
        (
            "mount",
            vec!["-o".as_ref(), "loop".as_ref(), image, place.as_os_str()],
        ),
    ] {
        match Command::new(program).args(args).status() {
            Ok(status) if status.success() => {}
            other => {
                child_skipped(format!("no ext4 on a loop device: {program}: {other:?}"));
                return false;
            }
        }
    }
    true
}

#[test]
fn f17_an_odd_file_system_is_named_in_a_warning() {
    // Catches a user who is left alone with a file system that does not keep what was set aside.
    let place = scratch();
    assert_eq!(
        small()
            .create(place.path().join("segment"))
            .unwrap()
            .warnings(),
        [""; 0]
    );
    if !is_root() {
        return skipped("only root mounts other file systems");
    }
    play("on_odd_file_systems", place.path());
}

pub fn on_odd_file_systems(directory: &Path) {
    if !mounts_of_its_own() {
        return;
    }
    let at = |name: &str| {
        let path = directory.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    // It has no fallocate: its room is taken by writing.
    let ram = at("ram");
    mount(
        Some("none"),
        &ram,
        Some("ramfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let region = Region::<AtomicU64>::create(ram.join("segment")).unwrap();
    region.store(1, Relaxed);
    assert_eq!(
        Region::<AtomicU64>::open(ram.join("segment"))
            .unwrap()
            .load(Relaxed),
        1
    );

    let (lower, upper, work, merged) = (at("lower"), at("upper"), at("work"), at("merged"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    match mount(
        Some("none"),
        &merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    ) {
        Err(error) => child_skipped(format!("no overlayfs: {error}")),
        Ok(()) => {
            let path = merged.join("segment");
            let segment = small().create(path.as_path()).unwrap();
            assert!(
                segment.warnings()[0].contains("overlayfs"),
                "{:?}",
                segment.warnings()
            );
            let again = Segment::open(path.as_path()).unwrap();
            assert!(again.warnings()[0].contains("overlayfs"));
            assert_eq!(again.header().uuid, segment.header().uuid);
        }
    }
}

#[test]
fn f18_a_limit_is_an_error_that_names_it_and_no_signal() {
    // Catches SIGXFSZ, which ends a process that makes a file larger than its limit, and errors that do not say which limit.
    for limit in ["fsize", "as", "nofile", "memlock", "maps"] {
        let place = scratch();
        play("within_limits", place.path().join(limit));
        assert_eq!(files(place.path()), [""; 0], "{limit}");
    }
}

/// The last part of the path says which limit.
pub fn within_limits(path: &Path) {
    let limit = |resource, soft| setrlimit(resource, soft, getrlimit(resource).unwrap().1).unwrap();
    let places = || {
        [
            Place::Path(path.to_owned()),
            Place::Memfd("limited".into()),
            Place::Anonymous,
        ]
    };
    match path.file_name().unwrap().to_str().unwrap() {
        "fsize" => {
            let len = small().create(Place::Anonymous).unwrap().header().total_len;
            for soft in [0, 1, len - 1] {
                limit(Resource::RLIMIT_FSIZE, soft);
                for place in places().into_iter().take(2) {
                    match small().create(place) {
                        Err(SegmentError::Map(MapError::FileSizeLimit { limit, .. })) => {
                            assert_eq!(limit, soft)
                        }
                        other => panic!("{soft}: {other:?}"),
                    }
                }
            }
            limit(Resource::RLIMIT_FSIZE, len);
            small().create(Place::Memfd("it fits".into())).unwrap();
        }
        "as" => {
            limit(Resource::RLIMIT_AS, 512 << 20);
            for place in places() {
                let error = large(1 << 30).create(place).unwrap_err();
                assert!(matches!(error, SegmentError::Map(_)), "{error:?}");
                assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
            }
        }
        "nofile" => {
            limit(Resource::RLIMIT_NOFILE, 3);
            for place in places() {
                let error = small().create(place).unwrap_err();
                assert!(error.to_string().contains("Too many open files"), "{error}");
            }
        }
        "memlock" => {
            limit(Resource::RLIMIT_MEMLOCK, 0);
            for place in places() {
                small().create(place).unwrap();
            }
            std::fs::remove_file(path).unwrap();
        }
        "maps" => {
            let most: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            if most > 100_000 {
                return child_skipped(format!(
                    "a process may have {most} mappings here, too many to fill up"
                ));
            }
            // Neighbours of different access are not merged into one.
            let one = MapOptions::new().len(1).private();
            let maps: Vec<Mapping> = (0..most)
                .map_while(|i| {
                    if i % 2 == 0 {
                        one.clone()
                    } else {
                        one.clone().read_only()
                    }
                    .map_anonymous()
                    .ok()
                })
                .collect();
            assert!(maps.len() > most / 2);
            for place in places() {
                let error = small().create(place).unwrap_err();
                assert!(error.to_string().contains("max_map_count"), "{error}");
            }
        }
        other => panic!("{other}"),
    }
}

/// A setting of the machine that gets its old value back when the test ends, however it ends.
struct Restored(&'static str, String);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0, &self.1);
    }
}

#[test]
fn f19_huge_pages_are_taken_if_there_are_enough() {
    // Catches a segment that is killed at its first touch because huge pages had only been promised.
    const COUNT: &str = "/proc/sys/vm/nr_hugepages";
    let options = || large(3 << 20).huge_pages();
    let works = |segment: &Segment| {
        let bytes = RegionSlice::<u8>::in_segment(segment, "bytes").unwrap();
        bytes.write(0, &vec![9; 3 << 20]);
        let again = Segment::open(segment.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(
            RegionSlice::<u8>::in_segment(&again, "bytes").unwrap()[(3 << 20) - 1].get(),
            9
        );
    };
    let before = std::fs::read_to_string(COUNT).unwrap_or_default();
    if before.trim() == "0" {
        let segment = options().create(Place::Memfd("huge".into())).unwrap();
        assert!(
            segment.warnings()[0].contains("huge pages"),
            "{:?}",
            segment.warnings()
        );
        works(&segment);
    }
    if std::fs::write(COUNT, "4").is_err() {
        return skipped("only root sets huge pages aside");
    }
    let _restored = Restored(COUNT, before);
    let set_aside = std::fs::read_to_string(COUNT).unwrap();
    let segment = options().create(Place::Memfd("huge".into()));
    let usable = set_aside.trim().parse::<u32>().unwrap() >= 2;
    if usable {
        let segment = segment.unwrap();
        assert_eq!(segment.warnings(), [""; 0]);
        assert_eq!(segment.header().total_len % (2 << 20), 0);
        works(&segment);
        // Not enough for another one: ordinary pages, and it says so.
        let more = large(64 << 20)
            .huge_pages()
            .create(Place::Memfd("more".into()))
            .unwrap();
        assert!(
            more.warnings()[0].contains("huge pages"),
            "{:?}",
            more.warnings()
        );
    } else {
        skipped(format!(
            "of 4 huge pages the machine gives {}",
            set_aside.trim()
        ));
    }
}

#[test]
fn f20_a_creator_out_of_its_memory_leaves_no_name() {
    // Catches a segment that is charged to whoever touches it first, and is found half made after an out-of-memory kill.
    if !is_root() {
        return skipped("only root makes a control group");
    }
    let place = scratch();
    play("in_a_small_group", place.path().join("group"));
    assert!(!place.path().join("segment").exists());
}

pub fn in_a_small_group(group: &Path) {
    if !mounts_of_its_own() {
        return;
    }
    let root = group.with_file_name("cgroup");
    std::fs::create_dir(&root).unwrap();
    if let Err(error) = mount(
        Some("none"),
        &root,
        Some("cgroup2"),
        MsFlags::empty(),
        None::<&str>,
    ) {
        std::fs::remove_dir(&root).unwrap();
        return child_skipped(format!("no control groups: {error}"));
    }
    let ours = root.join(format!("ipc-test-{}", std::process::id()));
    let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
    let made =
        std::fs::create_dir(&ours).and_then(|()| std::fs::write(ours.join("memory.max"), "8M"));
    if let Err(error) = made {
        let _ = std::fs::remove_dir(&ours);
        return child_skipped(format!("no memory controller: {error}"));
    }
    let creator = child("creator_of_much", group.with_file_name("segment"));
    // A shell moves itself into the group and becomes the creator.
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", ours.display());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script.as_str(), "sh"])
        .arg(creator.get_program())
        .args(creator.get_args());
    shell.envs(
        creator
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let status = shell.status().unwrap();
    assert!(!status.success(), "64 MiB within 8 MiB");
    let _ = std::fs::remove_dir(&ours);
}

pub fn creator_of_much(path: &Path) {
    large(64 << 20).create(path).unwrap();
}

#[test]
fn f21_a_failed_sync_is_remembered_for_good() {
    // Catches a sync that succeeds after one that failed: the kernel has forgotten by then which pages it could not write.
    if !is_root() {
        return skipped("only root mounts a disk that fails");
    }
    play("on_a_failing_disk", scratch().path());
}

/// The disk is a file on a small tmpfs, which is full when the blocks are to be written.
pub fn on_a_failing_disk(directory: &Path) {
    if !mounts_of_its_own() {
        return;
    }
    mount(
        Some("none"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=8m,mode=700"),
    )
    .unwrap();
    let (image, place) = (directory.join("image"), directory.join("place"));
    std::fs::create_dir(&place).unwrap();
    if !mount_ext4(&image, 64 << 20, &place) {
        return;
    }
    let path = place.join("segment");
    let segment = large(12 << 20).create(path.as_path()).unwrap();
    let bytes = RegionSlice::<u8>::in_segment(&segment, "bytes").unwrap();
    let other = Segment::open(path.as_path()).unwrap();
    segment.sync().unwrap();
    other.check().unwrap();
    bytes.write(0, &vec![7; 12 << 20]);
    let error = bytes.sync().unwrap_err();
    assert!(
        matches!(error, SegmentError::SyncFailed { error: Some(_) }),
        "{error:?}"
    );
    // Nothing is written by the next one, which would succeed therefore.
    for error in [segment.sync(), other.sync(), other.check(), segment.check()] {
        assert!(
            matches!(error, Err(SegmentError::SyncFailed { error: None })),
            "{error:?}"
        );
    }
    let later = Segment::open(path.as_path()).unwrap();
    assert!(matches!(
        later.check(),
        Err(SegmentError::SyncFailed { .. })
    ));
}
