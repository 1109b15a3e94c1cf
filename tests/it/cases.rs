//! Every case of `tests/CASES.md` and every fault of `tests/FAULTS.md` has a test, or a stated reason why
//! it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A list of ids that tests cite. A row has an id, a text and a reason to have no test, or an id, a fault, what must
/// hold, and the tests or a reason to have none.
struct List {
    file: &'static str,
    /// The title of the first column.
    column: &'static str,
    /// The beginning of a comment that cites an id.
    comment: &'static str,
    /// The minimum number of rows: an unread list would need no test.
    rows: usize,
}

const CASES: List = List {
    file: "tests/CASES.md",
    column: "case",
    comment: "// Case: ",
    rows: 150,
};

const FAULTS: List = List {
    file: "tests/FAULTS.md",
    column: "fault",
    comment: "// Fault: ",
    rows: 40,
};

/// The ids of a list, with the reason why an id has no test.
fn listed(list: &List) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(list.file)).unwrap();
    let mut cases = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let (id, what, why) = match columns[..] {
            [_, id, what, why, _] => (id, what, why),
            [_, id, what, holds, tests, _] => {
                assert!(id == list.column || !holds.is_empty(), "{id}");
                let why = if named(tests).is_empty() { tests } else { "" };
                (id, what, why)
            }
            _ => panic!("{line}"),
        };
        if id == list.column || id.starts_with("---") {
            continue;
        }
        assert!(!what.is_empty(), "{id} has no text");
        let twice = cases.insert(id.to_owned(), why.to_owned());
        assert_eq!(twice, None, "{id} is listed twice");
    }
    assert!(cases.len() > list.rows, "{} is read", list.file);
    cases
}

/// The tests that a column names, as in `` `outage.rs::an_abandoned_connection_is_closed` ``, with their paths from the
/// root of the repository.
fn named(column: &str) -> Vec<String> {
    let quoted = column.split('`').skip(1).step_by(2);
    let tests = quoted.filter(|text| text.contains(".rs::"));
    let whole = |text: &str| match text.starts_with("src/") {
        true => text.to_owned(),
        false => format!("tests/it/{text}"),
    };
    tests.map(whole).collect()
}

/// An id, and the test that cites it.
struct Citation {
    id: String,
    /// The file and the line.
    place: String,
    /// The file, below the root of the repository, and the name of the test: `src/worker/tests.rs::a_test`.
    test: String,
}

fn cited(list: &List) -> Vec<Citation> {
    let mut folders: Vec<PathBuf> = vec![root().join("src"), root().join("tests")];
    let mut cited = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                cited.extend(citations(list, &path, &text));
            }
        }
    }
    cited
}

fn citations(list: &List, path: &Path, text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for (n, line) in lines.iter().enumerate() {
        let Some(ids) = line.strip_prefix(list.comment) else {
            continue;
        };
        let place = format!("{}:{}", path.display(), n + 1);
        let mut below = lines[n + 1..]
            .iter()
            .skip_while(|line| line.starts_with("//"));
        let test = below.next().is_some_and(|line| line.starts_with("#[test]"));
        assert!(test, "{place} is not directly above a test");
        let name = below.find_map(|line| line.strip_prefix("fn "));
        let name = name.and_then(|line| line.split('(').next());
        let file = path.strip_prefix(root()).unwrap().display();
        let test = format!("{file}::{}", name.unwrap_or("?"));
        found.extend(ids.split(", ").map(|id| Citation {
            id: id.to_owned(),
            place: place.clone(),
            test: test.clone(),
        }));
    }
    found
}

#[test]
fn every_case_has_a_test_or_a_reason_not_to_have_one() {
    check(&CASES);
}

#[test]
fn every_fault_has_a_test_or_a_reason_not_to_have_one() {
    check(&FAULTS);
}

fn check(list: &List) {
    let listed = listed(list);
    let cited = cited(list);
    let unknown: Vec<_> = cited
        .iter()
        .filter(|citation| !listed.contains_key(&citation.id))
        .map(|citation| format!("{}: {}", citation.place, citation.id))
        .collect();
    assert!(unknown.is_empty(), "not in the list: {unknown:#?}");
    let tested: BTreeSet<_> = cited.iter().map(|citation| &citation.id).collect();
    let mut wrong = Vec::new();
    for (id, why) in &listed {
        match (tested.contains(id), !why.is_empty()) {
            (false, false) => wrong.push(format!("{id} has neither")),
            (true, true) => wrong.push(format!("{id} has a test, and a reason to have none")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_tests_that_a_network_fault_names_are_those_that_cite_it() {
    let text = fs::read_to_string(root().join(FAULTS.file)).unwrap();
    let cited = cited(&FAULTS);
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with("| F")) {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let named: BTreeSet<_> = named(columns[4]).into_iter().collect();
        let of_this = cited.iter().filter(|citation| citation.id == columns[1]);
        let citing: BTreeSet<_> = of_this.map(|citation| citation.test.clone()).collect();
        assert_eq!(named, citing, "{}", columns[1]);
        rows += 1;
    }
    assert_eq!(rows, 44);
}

/// The rows of the first table of the comparison, by their columns.
fn compared() -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/comparison.md")).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| |"))
        .take_while(|line| line.starts_with('|'));
    let columns = |line: &str| line.split('|').map(|c| c.trim().to_owned()).collect();
    // The first two lines are the titles and the separator.
    rows.skip(2).map(columns).collect()
}

#[test]
fn every_feature_of_the_comparison_names_a_test() {
    let rows = compared();
    assert!(rows.len() > 30, "the table is read");
    for row in rows {
        let (feature, ours, tests) = (&row[1], &row[2], &row[3]);
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || tests == "every file" || !ours.starts_with('Y'),
            "{feature} has no test"
        );
        for name in named {
            let exists = [root().join("tests/it").join(name), root().join(name)]
                .iter()
                .any(|path| path.exists());
            assert!(exists, "{feature}: there is no {name}");
        }
    }
}
