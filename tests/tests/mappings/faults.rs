//! Files that are cut short while they are mapped, and handlers that were there before.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use ipc_core::{
    MapOptions,
    mapping::{Advice, MapError, Resize, page_size},
};

use super::common::*;

#[test]
fn a_file_cut_short_is_an_error_and_no_signal() {
    // Catches a handler that does not cover a mapping, and a copy that does not look at the mark.
    let (_dir, path) = file_of(&[7; 3 * 4096]);
    for options in [
        MapOptions::new(),
        MapOptions::new().private(),
        MapOptions::new().guard_pages().room(1 << 20),
    ] {
        let file = open(&path);
        file.set_len(3 * 4096).unwrap();
        let mapping = options.map_file(&file).unwrap();
        mapping.read_at(4090, &mut [0; 16]).unwrap();
        file.set_len(0).unwrap();
        let error = mapping.read_at(0, &mut [0; 16]).unwrap_err();
        assert!(
            matches!(&error, MapError::CutShort { file } if file.ends_with("/file")),
            "{error}"
        );
        // It stays an error, also where there is a page, and when the file is long again.
        file.set_len(3 * 4096).unwrap();
        assert!(matches!(
            mapping.write_at(8192, &[1; 600]),
            Err(MapError::CutShort { .. })
        ));
        assert!(matches!(
            mapping.atomic_u64(0),
            Err(MapError::CutShort { .. })
        ));
        assert!(mapping.is_cut_short());
        // The parts of such a mapping are no better.
        let (front, back) = mapping.split_at(page_size()).unwrap();
        assert!(front.is_cut_short() && back.is_cut_short());
    }
}

#[test]
fn without_the_library_the_process_ends() {
    // Shows that the test above does not pass for want of a fault.
    let (_dir, path) = file_of(&[7; 4096]);
    let path = path.to_str().unwrap();
    as_everybody(&["raw-cut-short", path], |ended| {
        assert_eq!(ended.signal, Some(nix::libc::SIGBUS), "{ended:?}");
        fs::write(path, [7; 4096]).unwrap();
    });
    as_everybody(&["guarded-cut-short", path], |ended| {
        assert!(ended.ok().contains("was cut short"));
        fs::write(path, [7; 4096]).unwrap();
    });
}

#[test]
fn the_programs_own_handler_gets_what_is_not_ours() {
    // Catches a handler that swallows signals, or calls the old one with the wrong arguments, or not as it asked.
    let page = page_size() as u64;
    for (kind, calls, end) in [
        // Its second call is for the fault; it leaves with 42.
        ("information", Some(1), (Some(42), None)),
        ("plain", Some(1), (Some(42), None)),
        // Having had its one call, it gets no other.
        ("once", Some(1), (None, Some(nix::libc::SIGBUS))),
        // A signal that was sent is ignored; a fault cannot be.
        ("ignore", Some(0), (None, Some(nix::libc::SIGBUS))),
        ("default", None, (None, Some(nix::libc::SIGBUS))),
    ] {
        let (_dir, path) = file_of(b"");
        open(&path).set_len(page).unwrap();
        let ended = probe(&["chain", kind, path.to_str().unwrap()]);
        assert_eq!((ended.code, ended.signal), end, "{kind}: {ended:?}");
        if let Some(calls) = calls {
            assert!(
                ended.out.contains(&format!("calls: {calls}\n")),
                "{kind}: {ended:?}"
            );
        }
    }
}

#[test]
fn a_file_that_is_cut_again_and_again_ends_nobody() {
    // Catches a fault in a window between looking and copying: a million accesses while another thread cuts the file.
    let page = page_size();
    let (_dir, path) = file_of(b"");
    let file = open(&path);
    let stop = AtomicBool::new(false);
    let (mut whole, mut cut) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = open(&path);
            while !stop.load(Relaxed) {
                file.set_len(4 * page as u64).unwrap();
                std::thread::yield_now();
                file.set_len(0).unwrap();
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut bytes = [0; 100];
        for round in 0.. {
            let done = round >= 10_000 && whole > 0 && cut > 0;
            if done || Instant::now() > deadline {
                break;
            }
            let Ok(mapping) = MapOptions::new().len(4 * page).map_file(&file) else {
                continue;
            };
            for at in 0..100 {
                let offset = (round * 7919 + at * 613) % (4 * page - 100);
                let result = if at % 2 == 0 {
                    mapping.read_at(offset, &mut bytes)
                } else {
                    mapping.write_at(offset, &bytes)
                };
                match result {
                    Ok(()) => whole += 1,
                    Err(MapError::CutShort { .. }) => cut += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        stop.store(true, Relaxed);
    });
    assert!(
        whole > 0 && cut > 0,
        "{whole} whole, {cut} cut: the threads never met"
    );
}

#[test]
fn many_mappings_are_watched_and_forgotten() {
    // Catches a table of ranges that overflows, and a slot that is not given back.
    let (_dir, path) = file_of(&[7; 4096]);
    let file = open(&path);
    for _ in 0..3 {
        let mappings: Vec<_> = (0..1000)
            .map(|_| MapOptions::new().len(4096).map_file(&file).unwrap())
            .collect();
        file.set_len(0).unwrap();
        for mapping in &mappings {
            assert!(matches!(
                mapping.read_at(0, &mut [0]),
                Err(MapError::CutShort { .. })
            ));
        }
        file.set_len(4096).unwrap();
        // New mappings begin with a clean mark.
        assert!(!MapOptions::new().map_file(&file).unwrap().is_cut_short());
    }
}

#[test]
fn ranges_come_and_go_while_others_fault() {
    // Catches a handler that sees half of a range that changes, and so takes a fault for somebody else's, or for nobody's.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (_dir, path) = file_of(b"");
                let file = open(&path);
                for round in 0..2000 {
                    file.set_len(8192).unwrap();
                    let whole = MapOptions::new().len(4096).map_file(&file).unwrap();
                    let cut = MapOptions::new().offset(4096).map_file(&file).unwrap();
                    file.set_len(4096).unwrap();
                    let touched = cut.write_at(round, &[1]);
                    assert!(
                        matches!(touched, Err(MapError::CutShort { .. })),
                        "{touched:?}"
                    );
                    whole.write_at(round, &[1]).unwrap();
                }
            });
        }
    });
}

#[test]
fn populating_a_cut_file_is_an_error() {
    // Catches the EFAULT of the kernel passed on bare; no signal comes of this call at all.
    let (_dir, path) = file_of(&[7; 8192]);
    let file = open(&path);
    let mapping = MapOptions::new().map_file(&file).unwrap();
    file.set_len(0).unwrap();
    let error = mapping.advise(.., Advice::PopulateRead).unwrap_err();
    assert!(matches!(error, MapError::CutShort { .. }), "{error}");
}

#[test]
fn a_hole_punched_by_somebody_else_reads_as_zeros() {
    // Catches a hole taken for an end: there is a page, and it is zero.
    let mapping = MapOptions::new().len(8192).map_memfd("punched").unwrap();
    mapping.write_at(0, &[7; 8192]).unwrap();
    let file = mapping.file().unwrap();
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, 0, 4096).unwrap();
    assert_eq!(mapping.to_vec(4095..4097).unwrap(), [0, 7]);
    assert!(!mapping.is_cut_short());
}

#[test]
fn a_cut_file_does_not_grow_under_a_mapping() {
    // Catches a mark that is lost when the mapping moves.
    let mapping = MapOptions::new().len(4096).map_memfd("cut").unwrap();
    rustix::fs::ftruncate(mapping.file().unwrap(), 0).unwrap();
    assert!(mapping.read_at(0, &mut [0]).is_err());
    let kept = mapping.resize(8192, Resize::MayMove).unwrap_err();
    assert!(matches!(kept.error, MapError::CutShort { .. }), "{kept}");
    assert!(kept.mapping.is_cut_short());
}

#[test]
fn guard_pages_fault_at_once() {
    // Catches guard pages that are missing on a side, or the body being short.
    for side in ["before", "after"] {
        as_everybody(&["overrun", side], |ended| {
            assert_eq!(ended.out, "inside\n");
            assert_eq!(ended.signal, Some(nix::libc::SIGSEGV), "{side}: {ended:?}");
        });
    }
}

#[test]
fn a_protected_page_refuses_the_safe_call_and_faults_the_raw_one() {
    // Catches a protection that only the library knows of, or only the kernel.
    as_everybody(&["write-protected"], |ended| {
        assert_eq!(
            ended.out,
            "the mapping is read-only: it cannot be written\n"
        );
        assert_eq!(ended.signal, Some(nix::libc::SIGSEGV), "{ended:?}");
    });
    as_everybody(&["touch-reserved"], |ended| {
        assert_eq!(
            ended.out,
            "the mapping is without access: it cannot be read\n"
        );
        assert_eq!(ended.signal, Some(nix::libc::SIGSEGV), "{ended:?}");
    });
}
