//! Checks the documentation: its pages, links, paths, and the tables that must match the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of `docs/`, by their names without `.md`.
fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let pages = files.map(|file| file.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    pages.map(stem).collect()
}

#[test]
fn every_page_is_in_the_readme_and_in_the_crate_documentation() {
    let (readme, modules) = (read("README.md"), read("src/docs.rs"));
    let pages = pages();
    assert!(pages.len() > 5, "the pages are read");
    for page in pages {
        assert!(readme.contains(&format!("](docs/{page}.md)")), "{page}");
        let name = page.replace('-', "_");
        let module = format!("include_str!(\"../docs/{page}.md\")]\npub mod {name} {{}}");
        assert!(modules.contains(&module), "{page}");
    }
}

#[test]
fn every_relative_link_leads_to_a_file() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "RELEASING.md",
    ] {
        for link in read(file).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let link = link.split('#').next().unwrap();
            let exists = link.starts_with("https://") || root().join(link).exists();
            assert!(exists, "{file}: there is no {link}");
        }
    }
}

/// A path is a text in backquotes that begins with a folder of the repository or of `src/`.
#[test]
fn every_path_in_the_documents_exists() {
    let mut named = 0;
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "RELEASING.md",
        "tests/FAULTS.md",
        "tests/CASES.md",
    ] {
        for line in read(file).lines() {
            for path in line.split('`').skip(1).step_by(2) {
                let (folder, rest) = path.split_once('/').unwrap_or_default();
                let places = [root().to_owned(), root().join("src")];
                // `tests/it/cases.rs` checks the names of tests.
                if rest.is_empty()
                    || path.contains(".rs::")
                    || !places.iter().any(|place| place.join(folder).is_dir())
                {
                    continue;
                }
                let exists = |path: &str| places.iter().any(|place| place.join(path).exists());
                let found = exists(path) || exists(&format!("{path}.rs"));
                assert!(found || path.contains(' '), "{file}: there is no {path}");
                named += usize::from(found);
            }
        }
    }
    assert!(named > 60, "paths are read");
}

/// A file, or a file and a test in it, as in `` `outage.rs::an_abandoned_connection_is_closed` ``.
#[test]
fn every_promise_names_what_would_notice_its_breach() {
    let page = read("docs/guarantees.md");
    let (_, table) = page.split_once("## What would notice a breach").unwrap();
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, promise, pages, checkers, _] = columns[..] else {
            panic!("{line}");
        };
        for page in pages.split(", ").filter(|page| *page != "README") {
            let exists = root().join(format!("docs/{page}.md")).exists();
            assert!(exists, "{promise}: there is no page {page}");
        }
        assert!(checkers.contains('`'), "{promise} names nothing");
        for checker in checkers.split('`').skip(1).step_by(2) {
            let (file, test) = checker.split_once("::").unwrap_or((checker, ""));
            let mut places = [root().join(file), root().join("tests/it").join(file)].into_iter();
            let place = places.find(|place| place.exists());
            let place = place.unwrap_or_else(|| panic!("{promise}: there is no {file}"));
            let text = match test {
                "" => continue,
                _ => fs::read_to_string(place).unwrap(),
            };
            let there = text.contains(&format!("fn {test}("));
            assert!(there, "{promise}: there is no {checker}");
        }
        rows += 1;
    }
    assert!(rows >= 40, "{rows} rows are read");
}

#[test]
fn the_readme_is_at_most_8_kb() {
    let bytes = read("README.md").len();
    assert!(bytes <= 8_000, "{bytes} bytes: move a part to docs/");
}

/// The code includes one copy, whose `ClientBuilder` is a link.
#[test]
fn the_configuration_page_has_the_table_of_defaults() {
    let table =
        read("src/client/config/defaults.md").replace("[`ClientBuilder`]", "`ClientBuilder`");
    assert!(read("docs/configuration.md").contains(table.trim_end()));
}

#[test]
fn every_error_kind_has_a_row_in_its_table() {
    let (code, page) = (read("src/error.rs"), read("docs/errors.md"));
    let (_, kinds) = code.split_once("pub enum ErrorKind {").unwrap();
    let (kinds, _) = kinds.split_once("\n}").unwrap();
    let kinds: Vec<_> = kinds
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && line.ends_with(','))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert!(kinds.len() > 20, "the kinds are read: {kinds:?}");
    for kind in kinds {
        assert!(page.contains(&format!("\n| `{kind}` | ")), "{kind}");
    }
}
