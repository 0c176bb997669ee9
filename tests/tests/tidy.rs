//! Habits of this repository that a program can check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages, and which other packages of this repository each may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ipc-derive", &[]),
    ("ipc-core", &["ipc-derive"]),
    ("ipc-ring", &["ipc-core"]),
    ("benches", &["ipc-core", "ipc-ring"]),
    ("ipc-cli", &["ipc-core", "ipc-ring", "ipc-benches"]),
    ("ipc-examples", &["ipc-core", "ipc-ring"]),
    (
        "tests",
        &[
            "ipc-core",
            "ipc-derive",
            "ipc-ring",
            "ipc-cli",
            "ipc-examples",
            "ipc-benches",
        ],
    ),
];

/// What only programs may use.
const FOR_PROGRAMS: &[&str] = &[
    "anyhow",
    "clap",
    "indicatif",
    "comfy-table",
    "serde_json",
    "signal-hook",
];

const LIBRARIES: &[&str] = &["ipc-derive", "ipc-core", "ipc-ring"];

/// What can be published.
const PUBLISHED: &[&str] = &["ipc-derive", "ipc-core", "ipc-ring", "benches", "ipc-cli"];

/// What has unsafe code only in files that are for it.
const CAREFUL: &[&str] = &["ipc-derive", "ipc-core", "ipc-ring", "ipc-cli"];

/// All packages, by the name they have in Rust.
const CRATES: &[&str] = &[
    "ipc_derive",
    "ipc_core",
    "ipc_ring",
    "ipc_cli",
    "ipc_examples",
    "ipc_benches",
    "ipc_tests",
];

const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files of the repository but those that are built or hidden, by their path in it.
fn files() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match (path.is_dir(), &*name) {
                (_, "target" | ".git") => {}
                (true, _) => walk(&path, found),
                (false, _) => found.push(path),
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    let name = |path: &PathBuf| {
        let path = path.strip_prefix(&root).expect("it lies below");
        path.to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = found.iter().map(name).collect();
    names.sort();
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of Rust that people write for people; the compiler's exercises under `fail` and `pass` are not.
fn sources() -> Vec<String> {
    let exercise = |path: &str| {
        path.split('/')
            .any(|part| part == "pass" || part.starts_with("fail"))
    };
    let mut paths = files();
    paths.retain(|path| path.ends_with(".rs") && !exercise(path));
    assert!(paths.len() > 50, "the sources were not found: {paths:?}");
    paths
}

fn without_comments(code: &str) -> String {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names on the left side in the dependency tables of a `Cargo.toml`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if let (true, Some((name, _))) = (inside, line.split_once(['.', '=', ' '])) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

// Would catch a library that comes to need what is built upon it, or what only programs need.
#[test]
fn nobody_uses_what_stands_above_him() {
    for (package, may_use) in MAY_USE {
        let names = dependencies(&read(&format!("{package}/Cargo.toml")));
        assert!(!names.is_empty(), "{package} has no dependencies?");
        for name in &names {
            // There are others whose names begin as ours do.
            let ours = CRATES.contains(&&*name.replace('-', "_"));
            assert!(
                !ours || may_use.contains(&&**name),
                "{package} must not use {name}"
            );
            let program = LIBRARIES.contains(package) && FOR_PROGRAMS.contains(&&**name);
            assert!(!program, "{package} is a library: {name} is for programs");
        }
    }
    for path in sources() {
        if path.starts_with("ipc-derive/") {
            // What it writes names the crate that it is written for.
            continue;
        }
        let Some((package, may_use)) = MAY_USE
            .iter()
            .find(|(package, _)| path.starts_with(&format!("{package}/")))
        else {
            continue;
        };
        let code = without_comments(&read(&path));
        for name in CRATES {
            let dashed = name.replace('_', "-");
            let own = dashed.trim_start_matches("ipc-") == package.trim_start_matches("ipc-");
            let used = code.contains(&format!("{name}::"));
            assert!(
                !used || own || may_use.contains(&&*dashed),
                "{path} must not use {name}"
            );
        }
    }
}

// Would catch a rival that whoever builds or tests this project has to build as well.
#[test]
fn peers_are_built_only_when_asked_for() {
    let manifest = read("benches/Cargo.toml");
    let optional = manifest
        .lines()
        .filter(|line| line.contains("optional = true"));
    let peers: Vec<&str> = optional
        .filter_map(|line| line.split([' ', '.']).next())
        .collect();
    assert!(peers.len() >= 5, "the peers were not found: {peers:?}");
    let graph = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--offline", "--locked"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        graph.status.success(),
        "{}",
        String::from_utf8_lossy(&graph.stderr)
    );
    let graph = String::from_utf8_lossy(&graph.stdout);
    assert!(graph.contains("ipc-benches v"), "not a graph: {graph}");
    for peer in peers {
        let built = graph
            .lines()
            .any(|line| line.split(' ').next() == Some(peer));
        assert!(
            !built,
            "{peer} is built for everybody, not only for the comparison"
        );
    }
}

// Would catch a version of a rival that is printed and is not the one that was raced.
#[test]
fn the_versions_of_peers_are_those_that_are_built() {
    let lock = read("Cargo.lock");
    let mut named = 0;
    for path in sources() {
        let Some(file) = path.strip_prefix("benches/src/peers/") else {
            continue;
        };
        let text = read(&path);
        let lines = text.lines().filter(|line| line.starts_with("peer!("));
        for line in lines {
            // The third argument; of a crate that is named otherwise than its file, with that name before it.
            let version = line.split('"').nth(3).unwrap_or_default();
            let own = file.trim_end_matches(".rs").replace('_', "-");
            let (name, version) = version.rsplit_once(' ').unwrap_or((&own, version));
            let name = name.rsplit(' ').next().unwrap_or_default();
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "{path} says {name} {version}");
            named += 1;
        }
    }
    assert!(named >= 6, "the peers were not found");
}

// Would catch system calls that leave their module, and a segment that comes to know what lies in it.
#[test]
fn the_core_keeps_to_itself() {
    assert!(
        read("ipc-core/src/lib.rs")
            .lines()
            .any(|line| line == "mod sys;")
    );
    for path in sources() {
        if path.starts_with("ipc-core/src/segment") {
            let code = without_comments(&read(&path));
            for kind in ["b\"spsc", "b\"mpmc", "b\"bytes"] {
                assert!(!code.contains(kind), "{path} knows of {kind}");
            }
        }
    }
}

// Would catch unsafe code in a file that does not say at its head what it relies on.
#[test]
fn files_with_unsafe_code_say_why_it_is_sound() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"deny\""));
    let allow = concat!("allow(", "unsafe_code)");
    let mut list = Vec::new();
    for path in sources() {
        let code = read(&path);
        let Some(at) = code.find(allow) else {
            continue;
        };
        // What others build upon says it for the whole file. In a test or an example one function may do.
        let careful = CAREFUL
            .iter()
            .any(|package| path.starts_with(&format!("{package}/")));
        let at_head =
            code[..at].ends_with("#![") && code[..at].lines().any(|line| line == "//! # Safety");
        assert!(
            at_head || !careful && code.contains("// SAFETY: "),
            "{path}: a `# Safety` section, then the permission for the file"
        );
        list.push(path);
    }
    println!("files with unsafe code:\n  {}", list.join("\n  "));
}

// Would catch a file that one has to read to know what it is, and one that is too long to be read.
#[test]
fn files_have_a_head_and_an_end() {
    for path in sources() {
        let code = read(&path);
        let head = code.lines().next().unwrap_or_default();
        assert!(
            head.starts_with("//! ") && head.len() > 10,
            "{path} begins with {head:?}"
        );
        let lines = code.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{path} has {lines} lines, more than {MAX_LINES}"
        );
    }
}

// Would catch a file that nothing compiles.
#[test]
fn every_file_belongs_to_something() {
    let sources = sources();
    let all: Vec<(String, String)> = sources
        .iter()
        .map(|path| (path.clone(), read(path)))
        .collect();
    for path in &sources {
        let parts: Vec<&str> = path.split('/').collect();
        let [package, .., directory, file] = parts[..] else {
            continue;
        };
        let is_root = ["lib.rs", "main.rs"].contains(&file)
            || ["bin", "examples", "benches", "fuzz_targets"].contains(&directory)
            || parts.len() == 3 && directory == "tests";
        let stem = match file.strip_suffix(".rs") {
            Some("mod") => directory,
            Some(stem) => stem,
            None => continue,
        };
        let named = [
            format!("mod {stem};"),
            format!("{directory}/{file}\""),
            format!("\"{file}\""),
        ];
        let belongs = all.iter().any(|(other, code)| {
            other != path
                && other.starts_with(package)
                && named.iter().any(|name| code.contains(name))
        });
        assert!(is_root || belongs, "nothing includes {path}");
    }
}

/// The comments that begin with `ORDERING:`, each in one line, and in which line they end.
fn orderings(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in code.lines().enumerate() {
        let Some(comment) = line.trim().strip_prefix("// ") else {
            open = false;
            continue;
        };
        match (comment.find("ORDERING:"), open) {
            (Some(at), _) => {
                found.push((number, comment[at..].to_owned()));
                open = true;
            }
            (None, true) => {
                let (last, text) = found.last_mut().expect("it is open");
                *last = number;
                *text += " ";
                *text += comment;
            }
            (None, false) => {}
        }
    }
    found
}

/// The bodies of all functions of that name.
fn bodies<'c>(code: &'c str, name: &str) -> Vec<&'c str> {
    let mut found = Vec::new();
    for start in [format!("fn {name}("), format!("fn {name}<")] {
        for (at, _) in code.match_indices(&start) {
            let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
            let indent: String = code[line..].chars().take_while(|c| *c == ' ').collect();
            let end = code[at..].find(&format!("\n{indent}}}\n"));
            found.push(&code[at..end.map_or(code.len(), |end| at + end)]);
        }
    }
    found
}

// Would catch an ordering whose partner was renamed, moved or weakened, so that the comment argues for what is not there.
#[test]
fn partners_of_orderings_are_there() {
    const ORDERINGS: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];
    let (mut pairs, mut faults) = (0, Vec::new());
    for library in ["ipc-core/src/", "ipc-ring/src/"] {
        let mut paths = sources();
        paths.retain(|path| path.starts_with(library));
        let codes: Vec<String> = paths.iter().map(|path| read(path)).collect();
        for (path, code) in paths.iter().zip(&codes) {
            for (_, text) in orderings(code) {
                // "…pairs with the Release in `unlock` and in `recover`: what it carries."
                let Some((_, said)) = text.split_once("pairs with ") else {
                    continue;
                };
                let said = said.split(": ").next().unwrap_or_default();
                let said = said.split(". ").next().unwrap_or_default();
                let wanted: &[&str] = match () {
                    () if said.contains("fence") => &["fence(", "fence ("],
                    () if said.contains("Acquire") => &["Acquire", "AcqRel", "SeqCst"],
                    () if said.contains("Release") => &["Release", "AcqRel", "SeqCst"],
                    () => continue,
                };
                let names = said.split('`').skip(1).step_by(2);
                for name in names.filter(|name| {
                    name.chars()
                        .all(|c| c.is_alphanumeric() || "_:".contains(c))
                }) {
                    // A plain name is looked for in this file first; `Type::name` where that type is.
                    let (of, name) = name.rsplit_once("::").unwrap_or(("", name));
                    let here = bodies(code, name);
                    let partners = match of.is_empty() && !here.is_empty() {
                        true => here,
                        false => codes
                            .iter()
                            .filter(|code| of.is_empty() || code.contains(&format!("struct {of}")))
                            .flat_map(|code| bodies(code, name))
                            .collect(),
                    };
                    let kept = |body: &&str| {
                        wanted
                            .iter()
                            .any(|word| without_comments(body).contains(word))
                    };
                    if !partners.iter().any(kept) {
                        faults.push(format!("{path}: {text:?}: no {wanted:?} in {name}"));
                    }
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 50, "only {pairs} pairs were found");

    // In the core each ordering says so itself.
    for path in sources()
        .iter()
        .filter(|path| path.starts_with("ipc-core/src/"))
    {
        let code = read(path);
        let code = code.split("\nmod tests {").next().unwrap_or_default();
        let explained = orderings(code);
        for (number, line) in code.lines().enumerate() {
            let line = line.trim();
            let is_code = !["//", "use ", "pub use "]
                .iter()
                .any(|start| line.starts_with(start));
            let ordered = line
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| ORDERINGS.contains(&word));
            let near = |end: &usize| *end < number && number - end <= 8;
            if is_code && ordered && !explained.iter().any(|(end, _)| near(end)) {
                faults.push(format!("{path}:{}: no partner: {line}", number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

// Would catch a change that leaves a mutant behind, which then counts for nothing until somebody runs them all.
#[test]
fn every_mutant_can_be_made() {
    let mutants = root().join("tests/mutants");
    let patches: Vec<_> = fs::read_dir(mutants)
        .expect("the mutants")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    assert!(patches.len() > 100, "{} mutants", patches.len());
    for patch in patches {
        let mut git = Command::new("git");
        git.current_dir(root())
            .args(["apply", "--check"])
            .arg(&patch);
        match git.output() {
            Ok(done) => assert!(
                done.status.success(),
                "{}: {}",
                patch.display(),
                String::from_utf8_lossy(&done.stderr)
            ),
            Err(error) => {
                println!("skipped: git cannot be started: {error}");
                return;
            }
        }
    }
}

// Would catch a word that processes change together and that the book says nothing of.
#[test]
fn every_state_word_is_in_the_book() {
    let book = read("docs/protocol.md");
    let headings: Vec<&str> = book
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    for path in sources()
        .iter()
        .filter(|path| path.starts_with("ipc-core/src/"))
    {
        // What moves the words of others: the seam, and its implementations.
        let seam = ["memory", "mapped.rs", "read_only.rs", "mapping/", "copy/"];
        if seam
            .iter()
            .any(|part| path["ipc-core/src/".len()..].starts_with(part))
        {
            continue;
        }
        let code = without_comments(&read(path));
        let changes = [".exchange(", ".store(", ".add("]
            .iter()
            .any(|call| code.contains(call));
        let words = ["Word32<", "Word64<", "Words<"]
            .iter()
            .any(|view| code.contains(view));
        assert!(
            !(changes && words)
                || headings
                    .iter()
                    .any(|heading| heading.contains(path.as_str())),
            "docs/protocol.md has no section for {path}"
        );
    }
    for heading in headings {
        let path = heading.split('`').nth(1).expect("a file in each heading");
        assert!(
            root().join(path).exists(),
            "{heading}: there is no such file"
        );
    }
}

// Would catch a path that is on one machine only.
#[test]
fn no_machine_is_named() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "wt"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    for path in files() {
        // What is no text has no paths to be read.
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for place in places {
            assert!(!text.contains(place), "{path} names {place}");
        }
    }
}

// Would catch a package without the common lints, and a release that says nothing.
#[test]
fn the_common_things_are_there() {
    for (package, _) in MAY_USE {
        let manifest = read(&format!("{package}/Cargo.toml"));
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{package} has lints of its own"
        );
    }
    for package in PUBLISHED {
        let manifest = read(&format!("{package}/Cargo.toml"));
        for line in [
            "description = ",
            "license.workspace = true",
            "readme.workspace = true",
            "keywords = ",
            "categories = ",
            "[package.metadata.docs.rs]",
        ] {
            assert!(manifest.contains(line), "{package}: {line}");
        }
        for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert_eq!(read(&format!("{package}/{license}")), read(license));
        }
    }
    assert!(read("CHANGELOG.md").contains("## [Unreleased]"));
    for path in [
        "README.md",
        "CONTRIBUTING.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/decisions.md",
        ".ci/run",
    ] {
        assert!(!read(path).is_empty());
    }
}
