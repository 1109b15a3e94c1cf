//! Prints the public API of a crate, an item a line, from the JSON of rustdoc. Fails when an item of a crate
//! other than those in `ALLOWED` is part of it.

use std::collections::BTreeSet;
use std::process::ExitCode;

/// The crates whose items may be part of the public API, and `str`, which has methods of ours.
const ALLOWED: &[&str] = &[
    "etcd_blocking",
    "core",
    "alloc",
    "std",
    "str",
    "bytes",
    "crossbeam_channel",
    "serde_core",
];

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: list-public-api target/doc/etcd_blocking.json");
        return ExitCode::FAILURE;
    };
    let api = public_api::Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    let api = match api {
        Ok(api) => api,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let lines = api.items().map(ToString::to_string);
    // The pages are modules of the documentation only.
    let lines = lines.filter(|line| !line.starts_with("pub mod etcd_blocking::docs"));
    let lines = without_implied(lines.collect());
    let mut foreign = BTreeSet::new();
    for line in &lines {
        println!("{line}");
        let others = crates(line).filter(|name| !ALLOWED.contains(name));
        foreign.extend(others.map(|name| format!("{name} in {line}")));
    }
    for item in &foreign {
        eprintln!("not allowed in the public API: {item}");
    }
    match foreign.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Removes the methods of traits that are not ours, which the line of the implementation implies.
fn without_implied(lines: Vec<String>) -> Vec<String> {
    let mut of_foreign_trait = false;
    let kept = lines.into_iter().filter(|line| {
        let is_method = line.starts_with("pub fn ") || line.starts_with("pub const fn ");
        if !is_method && !line.starts_with("pub type ") {
            let implemented = line.split(" for ").next().unwrap_or_default();
            of_foreign_trait = line.starts_with("impl")
                && line.contains(" for ")
                && !implemented
                    .trim_start_matches(|c| c != ' ')
                    .starts_with(" etcd_blocking::");
        }
        !(of_foreign_trait && is_method) && !line.contains("core::marker::StructuralPartialEq")
    });
    kept.collect()
}

/// Returns the first segments of the paths in a line. Those that begin with a capital letter are types.
fn crates(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .filter_map(|path| path.split_once("::"))
        .map(|(first, _)| first)
        .filter(|first| first.starts_with(|c: char| c.is_lowercase()))
}
