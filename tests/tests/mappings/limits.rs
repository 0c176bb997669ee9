//! Full disks and the limits of a process.

use std::{fs, process::Command};

use ipc_core::{
    MapOptions,
    mapping::{MapError, overcommit, page_size},
};
use ipc_tests::mount::Mount;

use super::common::*;

#[test]
fn a_full_file_system_is_an_error_before_any_store() {
    // Catches a sparse file, whose stores would raise SIGBUS; and a message without what one needs to know.
    let Some(mount) = Mount::tmpfs(256 << 10) else {
        return;
    };
    let path = mount.path().join("file");
    for run in [probe as fn(&[&str]) -> Ended, probe_as_ordinary] {
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let ended = run(&["fill", path.to_str().unwrap(), "131072"]).ok();
        for word in [
            path.to_str().unwrap(),
            "393216 bytes",
            "262144 are free",
            "filled",
            "no space for a hole",
        ] {
            assert!(ended.contains(word), "{word} is not in: {ended}");
        }
    }
}

#[test]
fn a_memory_file_that_does_not_fit_is_an_error() {
    // Catches a memfd that promises more than there is.
    let error = MapOptions::new()
        .len(1 << 50)
        .map_memfd("too big")
        .unwrap_err();
    assert!(
        error.to_string().contains("too big")
            && error.to_string().contains(&(1u64 << 50).to_string()),
        "{error}"
    );
}

#[test]
fn signals_do_not_keep_memory_from_being_reserved() {
    // Catches an interrupted call that is taken for a failure. Newer kernels interrupt it only to end the process; for the
    // older ones the loop is tested by itself, beside it.
    as_everybody(&["signal-storm", &(64 << 20).to_string()], |ended| {
        assert_eq!(ended.ok(), "reserved: true\n");
    });
}

#[test]
fn the_limit_on_file_sizes_is_an_error_and_no_signal() {
    // Catches SIGXFSZ, which would end the process.
    let (_dir, path) = file_of(b"");
    let limit = 64 << 10;
    as_everybody(
        &["size-limit", path.to_str().unwrap(), &limit.to_string()],
        |ended| {
            let out = ended.ok();
            assert!(
                out.contains("65537 bytes") && out.contains("RLIMIT_FSIZE is 65536"),
                "{out}"
            );
        },
    );
}

#[test]
fn the_limit_on_addresses_is_named() {
    // Catches a bare ENOMEM.
    let ended = probe(&["address-limit", &(1u64 << 30).to_string()]).ok();
    assert!(ended.contains("RLIMIT_AS is 1073741824 bytes"), "{ended}");
}

#[test]
fn overcommit_is_read_and_explained() {
    // Catches a refusal without its reason.
    let now = overcommit().unwrap();
    assert!(now.mode <= 2 && now.limit > 0 && now.committed > 0);
    assert!(
        now.to_string()
            .contains(&format!("vm.overcommit_memory is {}", now.mode))
    );
    match MapOptions::new().private().len(1 << 46).map_anonymous() {
        Err(MapError::Refused { why, .. }) => assert!(why.contains("overcommit"), "{why}"),
        Ok(mapping) => assert!(now.mode == 1 && mapping.len() == 1 << 46),
        Err(other) => panic!("{other}"),
    }
    // The whole of the address space is refused in every mode.
    let error = MapOptions::new()
        .private()
        .no_reserve()
        .len(1 << 62)
        .map_anonymous()
        .unwrap_err();
    assert!(matches!(error, MapError::Refused { .. }), "{error}");
}

#[test]
fn the_page_size_is_the_machines() {
    // Catches a constant in the place of the machine's word.
    let told = Command::new("getconf").arg("PAGESIZE").output().unwrap();
    assert_eq!(
        String::from_utf8(told.stdout).unwrap().trim(),
        page_size().to_string()
    );
}
