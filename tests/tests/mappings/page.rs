//! The tables of `docs/mappings.md` against what there is.

use std::{fs, path::Path};

#[test]
fn every_name_in_the_tables_exists() {
    // Catches a row whose test or example was renamed or never written, and an example that no row names.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let page = read("docs/mappings.md");
    let (_, tables) = page
        .split_once("## What is shown and tested where")
        .unwrap();
    let rows = tables
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("| tests"));
    let names = |cell: &str| -> Vec<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(String::from)
            .collect()
    };

    let mut sources = read("ipc-examples/tests/programs.rs")
        + &read("ipc-examples/tests/pairs.rs")
        + &read("tests/tests/mappings_compile.rs");
    for entry in fs::read_dir(root.join("tests/tests/mappings")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            sources += &fs::read_to_string(path).unwrap();
        }
    }
    let exists = |example: &str| {
        root.join(format!("ipc-examples/src/bin/{example}.rs"))
            .exists()
    };
    let mut operations = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let (tests, examples) = match cells[..] {
            [_, tests, examples] => (names(tests), names(examples)),
            [programs, tests] => (names(tests), names(programs)),
            _ => panic!("an odd row: {row}"),
        };
        operations += usize::from(cells.len() == 3);
        assert!(
            !tests.is_empty() && (!examples.is_empty() || row.contains("all of them")),
            "{row}"
        );
        for test in tests {
            assert!(
                sources.contains(&format!("fn {test}(")),
                "there is no test {test}"
            );
        }
        for example in examples {
            assert!(exists(&example), "there is no example {example}");
        }
    }
    assert!(operations >= 21, "{operations} operations");
}
