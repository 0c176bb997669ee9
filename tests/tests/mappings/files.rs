//! Parts of files, the edges of pages and files, and what is refused before the system call.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
};

use ipc_core::{
    MapOptions,
    mapping::{MapError, page_size},
};

use super::common::*;

#[test]
fn a_part_of_a_file_begins_where_it_was_asked_to() {
    // Catches a wrong offset, by a page or by the bytes below the page.
    let page = page_size();
    let bytes: Vec<u8> = (0..3 * page).map(|i| (i / 16) as u8).collect();
    let (_dir, path) = file_of(&bytes);
    let file = open(&path);
    let part = MapOptions::new()
        .offset(page as u64)
        .len(100)
        .map_file(&file)
        .unwrap();
    assert_eq!(part.to_vec(..).unwrap(), bytes[page..page + 100]);
    let rest = MapOptions::new()
        .offset(page as u64)
        .map_file(&file)
        .unwrap();
    assert_eq!(rest.len(), 2 * page);
    for offset in [1, 100, page - 1, page + 1, 2 * page + 4095] {
        let odd = MapOptions::new()
            .offset(offset as u64)
            .any_offset()
            .map_file(&file)
            .unwrap();
        assert_eq!(odd.to_vec(..).unwrap(), bytes[offset..], "offset {offset}");
        odd.sync(.., ipc_core::mapping::Sync::Wait).unwrap();
    }
}

#[test]
fn an_offset_off_the_page_is_refused_with_both_numbers() {
    // Catches a bare EINVAL.
    let (_dir, path) = file_of(&[0; 10_000]);
    let error = MapOptions::new()
        .offset(5000)
        .map_file(&open(&path))
        .unwrap_err()
        .to_string();
    for word in ["5000", "4096", "8192", "any_offset"] {
        assert!(error.contains(word), "{word} is not in: {error}");
    }
}

#[test]
fn a_mapping_outlives_its_descriptor() {
    // Catches a mapping that needs the file to stay open.
    let (_dir, path) = file_of(b"still here");
    let mapping = MapOptions::new().map_file(&open(&path)).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(mapping.to_vec(..).unwrap(), b"still here");
    assert!(mapping.file().is_none());
}

#[test]
fn an_empty_file_is_a_mapping_of_no_bytes() {
    // Catches the EINVAL that mmap gives for no bytes.
    let (_dir, path) = file_of(b"");
    let mapping = MapOptions::new().map_file(&open(&path)).unwrap();
    assert!(mapping.is_empty());
    assert!(mapping.to_vec(..).unwrap().is_empty());
    assert!(mapping.read_at(0, &mut [0]).is_err());
    mapping.sync(.., ipc_core::mapping::Sync::Wait).unwrap();
    assert!(mapping.residency(..).unwrap().pages.is_empty());
    mapping.unmap().unwrap();
}

#[test]
fn what_lies_past_the_end_in_the_last_page_is_zero_shared_and_not_in_the_file() {
    // Catches the tail of the last page reaching the file, or not being shared.
    let page = page_size();
    let (_dir, path) = file_of(&[7; 100]);
    let file = open(&path);
    // The length is rounded up to the page, but no further.
    let (one, other) = (MapOptions::new().len(page), MapOptions::new().len(page));
    let (one, other) = (one.map_file(&file).unwrap(), other.map_file(&file).unwrap());
    assert_eq!(one.to_vec(100..).unwrap(), vec![0; page - 100]);
    one.write_at(200, b"tail").unwrap();
    assert_eq!(other.to_vec(200..204).unwrap(), b"tail");
    one.sync(.., ipc_core::mapping::Sync::Wait).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [7; 100]);
    // When the file grows over them, the kernel has zeros there again or the bytes; the file has what the page has.
    file.set_len(page as u64).unwrap();
    assert_eq!(fs::read(&path).unwrap()[..], one.to_vec(..).unwrap());
}

#[test]
fn a_page_past_the_end_is_refused_and_raises_sigbus_without_us() {
    // Catches a range that would fault being mapped; the raw fault shows that the refusal is needed.
    let page = page_size();
    let (_dir, path) = file_of(&[7; 100]);
    let error = MapOptions::new()
        .len(page + 1)
        .map_file(&open(&path))
        .unwrap_err();
    assert!(
        matches!(error, MapError::PastEnd { size: 100, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("extend_file"), "{error}");
    assert!(
        MapOptions::new()
            .offset(page as u64)
            .map_file(&open(&path))
            .is_err()
    );
    let path = path.to_str().unwrap();
    as_everybody(&["raw-past-end", path], |ended| {
        assert_eq!(ended.out, "in the last page: 7\n");
        assert_eq!(ended.signal, Some(nix::libc::SIGBUS), "{ended:?}");
    });
}

#[test]
fn a_file_ends_exactly_at_a_page_edge() {
    // Catches an end that is off by one where there is no tail.
    let page = page_size();
    let (_dir, path) = file_of(&vec![9; 2 * page]);
    let mapping = MapOptions::new().map_file(&open(&path)).unwrap();
    assert_eq!(mapping.len(), 2 * page);
    assert_eq!(mapping.to_vec(2 * page - 1..).unwrap(), [9]);
    assert!(mapping.read_at(2 * page, &mut [0]).is_err());
    mapping.read_at(2 * page, &mut []).unwrap();
    assert!(mapping.write_at(usize::MAX, &[1]).is_err());
}

#[test]
fn the_mode_of_the_descriptor_is_looked_at_first() {
    // Catches a bare EACCES, and a mapping that is refused although it would work.
    let (_dir, path) = file_of(&[1; 100]);
    let read = fs::File::open(&path).unwrap();
    let write = OpenOptions::new().write(true).open(&path).unwrap();
    let path_only = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(&path)
        .unwrap();
    let error = MapOptions::new().map_file(&read).unwrap_err();
    assert!(matches!(error, MapError::ReadOnlyFile { .. }), "{error}");
    for word in [path.to_str().unwrap(), "read_only()", "private()"] {
        assert!(
            error.to_string().contains(word),
            "{word} is not in: {error}"
        );
    }
    for options in [
        MapOptions::new(),
        MapOptions::new().read_only(),
        MapOptions::new().private(),
    ] {
        assert!(matches!(
            options.map_file(&write),
            Err(MapError::WriteOnly { .. })
        ));
        assert!(matches!(
            options.map_file(&path_only),
            Err(MapError::NotMappable { .. })
        ));
    }
    MapOptions::new().read_only().map_file(&read).unwrap();
    MapOptions::new()
        .private()
        .map_file(&read)
        .unwrap()
        .write_at(0, &[2])
        .unwrap();
    assert!(matches!(
        MapOptions::new()
            .private()
            .len(9000)
            .extend_file()
            .map_file(&read),
        Err(MapError::ReadOnlyFile { .. })
    ));
    // Nor can the protection be changed to what the descriptor did not allow.
    let mut mapping = MapOptions::new().read_only().map_file(&read).unwrap();
    let error = mapping
        .protect(ipc_core::mapping::Access::ReadWrite)
        .unwrap_err();
    assert!(matches!(error, MapError::ReadOnlyFile { .. }), "{error}");
    assert!(mapping.write_at(0, &[1]).is_err());
}

#[test]
fn what_is_no_file_is_named() {
    // Catches a bare ENODEV.
    let dir = scratch();
    let directory = fs::File::open(dir.path()).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    for (fd, what) in [
        (&OwnedFd::from(directory), "directory"),
        (&OwnedFd::from(pipe), "pipe"),
        (&socket, "socket"),
    ] {
        let error = MapOptions::new().read_only().map_file(fd).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    // Catches an overflow, and a bare EINVAL.
    let (_dir, path) = file_of(&[1; 100]);
    let file = open(&path);
    assert!(matches!(
        MapOptions::new().map_anonymous(),
        Err(MapError::NoLength)
    ));
    assert!(matches!(
        MapOptions::new().len(0).map_anonymous(),
        Err(MapError::ZeroLength)
    ));
    assert!(matches!(
        MapOptions::new().len(0).map_file(&file),
        Err(MapError::ZeroLength)
    ));
    assert!(matches!(
        MapOptions::new().len(usize::MAX).map_anonymous(),
        Err(MapError::TooLong { .. })
    ));
    assert!(matches!(
        MapOptions::new()
            .len(9)
            .offset(u64::MAX - 4095)
            .map_file(&file),
        Err(MapError::PastEnd { .. })
    ));
    assert!(matches!(
        MapOptions::new()
            .len(usize::MAX)
            .offset(8192)
            .map_file(&file),
        Err(MapError::TooLong { .. })
    ));
    assert!(matches!(
        MapOptions::new().len(9).offset(4096).map_anonymous(),
        Err(MapError::Options(_))
    ));
    assert!(matches!(
        MapOptions::new().len(9).offset(4096).map_memfd("x"),
        Err(MapError::Options(_))
    ));
}

#[test]
fn a_file_that_grows_has_all_its_blocks() {
    // Catches a file with holes: a later store could then find the file system full.
    use std::os::unix::fs::MetadataExt;
    let (_dir, path) = file_of(b"begin");
    let file = open(&path);
    let mapping = MapOptions::new()
        .len(1 << 20)
        .extend_file()
        .map_file(&file)
        .unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(
        metadata.blocks() * 512 >= 1 << 20,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(mapping.to_vec(0..6).unwrap(), b"begin\0");
    // A hole in a file that is long enough is filled too.
    let sparse = open(&file_of(b"").1.with_file_name("file"));
    drop(sparse);
    let dir = scratch();
    let sparse = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.path().join("sparse"))
        .unwrap();
    sparse.set_len(1 << 20).unwrap();
    let _mapping = MapOptions::new().extend_file().map_file(&sparse).unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 >= 1 << 20);
}

#[test]
fn the_file_is_kept_for_growing_locking_and_syncing() {
    // Catches a descriptor that is not the file's.
    let (_dir, path) = file_of(&[1; 100]);
    let mapping = MapOptions::new()
        .keep_file()
        .map_file(&open(&path))
        .unwrap();
    mapping.write_at(0, &[2]).unwrap();
    mapping.sync_file().unwrap();
    let kept = mapping.file().unwrap();
    rustix::fs::flock(kept, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let other = rustix::fs::flock(
        open(&path),
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    );
    assert_eq!(other.unwrap_err(), rustix::io::Errno::WOULDBLOCK);
    drop(mapping);
    rustix::fs::flock(
        open(&path),
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    )
    .unwrap();
    let without = MapOptions::new().map_file(&open(&path)).unwrap();
    assert!(matches!(without.sync_file(), Err(MapError::NoFile)));
}

#[test]
fn growing_a_file_never_moves_a_mapping_that_others_use() {
    // Catches growth by moving under threads that read and write meanwhile.
    let page = page_size();
    let mapping = MapOptions::new().len(page).map_memfd("grows").unwrap();
    let address = mapping.address();
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..2)
            .map(|user: usize| {
                let mapping = &mapping;
                scope.spawn(move || {
                    for round in 0..2000u64 {
                        mapping.write_at(user * 8, &round.to_ne_bytes()).unwrap();
                        assert_eq!(
                            mapping.to_vec(user * 8..user * 8 + 8).unwrap(),
                            round.to_ne_bytes()
                        );
                    }
                })
            })
            .collect();
        // Whoever wants the new pages maps them beside the old.
        for pages in 2..10 {
            let file = mapping.file().unwrap();
            let more = MapOptions::new()
                .len(pages * page)
                .extend_file()
                .map_file(&file)
                .unwrap();
            more.write_at(pages * page - 1, &[1]).unwrap();
        }
        users.into_iter().for_each(|user| user.join().unwrap());
    });
    assert_eq!(mapping.address(), address);
}

#[test]
fn a_write_to_the_file_shows_in_a_private_mapping_that_has_not_copied_the_page() {
    // Shows why a private mapping of a file gives no slices.
    let (_dir, path) = file_of(b"old");
    let mapping = MapOptions::new().private().map_file(&open(&path)).unwrap();
    assert_eq!(mapping.to_vec(..).unwrap(), b"old");
    open(&path).write_all(b"new").unwrap();
    assert_eq!(mapping.to_vec(..).unwrap(), b"new");
}
