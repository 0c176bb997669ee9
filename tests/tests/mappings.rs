//! Mappings through the public interface: kinds, parts of files, edges, refusals.

use std::fs::{File, OpenOptions};

use ipc_core::{MapOptions, mapping::MapError};

/// A file of `bytes` in a directory that vanishes with the value.
fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn open(path: &std::path::Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn a_file_cut_short_is_an_error_and_no_signal() {
    // Catches a handler that does not cover a mapping, and a copy that does not look at the mark.
    let (_dir, path) = file_of(&[7; 3 * 4096]);
    let file = open(&path);
    let mapping = MapOptions::new().map_file(&file).unwrap();
    assert_eq!(mapping.len(), 3 * 4096);
    let mut bytes = [0; 16];
    mapping.read_at(4090, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 16]);
    file.set_len(0).unwrap();
    let error = mapping.read_at(0, &mut bytes).unwrap_err();
    assert!(
        matches!(&error, MapError::CutShort { file } if file.ends_with("/file")),
        "{error}"
    );
    assert!(matches!(
        mapping.write_at(8192, &[1; 600]),
        Err(MapError::CutShort { .. })
    ));
    assert!(mapping.is_cut_short());
}
