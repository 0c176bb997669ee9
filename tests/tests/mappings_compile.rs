//! What must not compile, each beside a twin that does.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// The compiler whose messages are written down.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn what_is_gone_cannot_be_named() {
    // Catches a method that leaves the old value usable, a slice or word that outlives its pages, and a slice of bytes that
    // others may change.
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    if version.starts_with(RUSTC.as_bytes()) {
        trybuild::TestCases::new().compile_fail("tests/mappings/fail/*.rs");
    } else {
        println!("skipped: the messages written down are those of {RUSTC}*");
    }
}

/// The twins compile with this file, and run.
macro_rules! twins {
    ($($case:ident)*) => {
        const TWINS: &[&str] = &[$(stringify!($case)),*];
        $(mod $case {
            include!(concat!("mappings/pass/", stringify!($case), ".rs"));
        })*

        #[test]
        fn the_twins_compile_and_run() {
            // Catches an interface that refuses everything.
            $($case::main().unwrap();)*
        }
    };
}

twins! {
    frozen_is_written
    mapping_is_a_slice
    moved
    shrunk
    slice_outlives_advice
    slice_outlives_move
    split
    unmapped
    word_outlives_mapping
    word_outlives_protection
}

#[test]
fn every_case_has_its_twin() {
    // Catches a refused program without the twin that shows what it is refused for.
    let refused: BTreeSet<String> = fs::read_dir(Path::new("tests/mappings/fail"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().into())
        .collect();
    assert_eq!(refused, TWINS.iter().map(|twin| twin.to_string()).collect());
}
