//! No files of `src/` import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{Imports, Path, imports};
use super::sources;

/// The modules that a module reaches through imports.
fn reachable<'a>(imports: &'a Imports, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for next in imports.get(module).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

/// The largest sets of modules that all reach each other.
fn circles(imports: &Imports) -> BTreeSet<BTreeSet<&Path>> {
    let modules = imports.keys();
    let reached: BTreeMap<_, _> = modules
        .map(|module| (module, reachable(imports, module)))
        .collect();
    let mut circles = BTreeSet::new();
    for (module, reaches) in &reached {
        if reaches.contains(module) {
            let circle = reaches
                .iter()
                .filter(|other| reached[*other].contains(module));
            circles.insert(circle.copied().collect());
        }
    }
    circles
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports(&sources::library());
    let mut found = Vec::new();
    for circle in circles(&imports) {
        let lines = circle.iter().map(|module| {
            let inside = imports[*module]
                .iter()
                .filter(|other| circle.contains(other));
            let inside: Vec<_> = inside.map(|other| other.join("::")).collect();
            format!("{} imports {}", module.join("::"), inside.join(", "))
        });
        found.push(lines.collect::<Vec<_>>());
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_circle_is_detected() {
    let module = |name: &str| vec![name.to_owned()];
    let imports: Imports = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")]
        .into_iter()
        .map(|(from, to)| (module(from), BTreeSet::from([module(to)])))
        .collect();
    let (b, c) = (module("b"), module("c"));
    let circle = BTreeSet::from([&b, &c]);
    assert_eq!(circles(&imports), BTreeSet::from([circle]));
}
