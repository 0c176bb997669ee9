//! The book holds together: its pages are listed, its links lead somewhere, and the programs that it quotes are those that are
//! tested. That its other programs compile and run is tested with the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All pages below `directory`, as paths relative to the root.
fn pages(directory: &str) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{directory}/{name}");
        if root().join(&path).is_dir() {
            pages.extend(self::pages(&path));
        } else if name.ends_with(".md") {
            pages.push(path.into());
        }
    }
    pages
}

fn text(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page:?}: {error}"))
}

/// Where the links of a page lead, without what is outside of the repository.
fn links(text: &str) -> Vec<&str> {
    let mut code = false;
    let prose = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    });
    prose
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link)
        .filter(|link| !link.starts_with("http"))
        .collect()
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    // Catches a page that nobody finds, and an entry without a page.
    let listed: BTreeSet<PathBuf> = links(&text(Path::new("docs/SUMMARY.md")))
        .into_iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    let there: BTreeSet<PathBuf> = pages("docs")
        .into_iter()
        .filter(|page| !page.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn links_lead_somewhere() {
    // Catches a file that was moved or removed, and a heading that was renamed.
    let mut count = 0;
    let front = ["README.md", "CONTRIBUTING.md"].map(PathBuf::from);
    for page in pages("docs").into_iter().chain(front) {
        for link in links(&text(&page)) {
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(root().join(&target).exists(), "{page:?} links to {link}");
            let slug = |line: &str| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .collect::<String>()
                    .replace(' ', "-")
            };
            let found = heading.is_empty()
                || text(&target)
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| slug(line) == heading);
            assert!(found, "{page:?}: no heading for {link}");
        }
    }
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn quoted_programs_are_the_tested_ones() {
    // Catches a program that was changed and is still quoted as it was.
    let mut count = 0;
    for page in pages("docs") {
        let text = text(&page);
        for quote in text.split("<!-- from ").skip(1) {
            let (file, rest) = quote.split_once(" -->\n").expect("the mark ends the line");
            let rest = rest.strip_prefix("```rust\n").expect("code follows");
            let (code, _) = rest.split_once("```").expect("the code ends");
            let source = self::text(Path::new(file));
            assert!(source.contains(code), "{page:?} quotes of {file}:\n{code}");
            count += 1;
        }
    }
    assert!(count > 0, "nothing is quoted");
}
