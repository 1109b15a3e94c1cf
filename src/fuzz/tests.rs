//! Each target has a program, and its corpus is small.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::NAMES;

/// The most files of a target, the largest of them, and the size of all, in bytes.
const FILES: usize = 30;
const LARGEST: u64 = 4 << 10;
const ALL: u64 = 300 << 10;

/// The folder of the fuzz programs. The crate as it is published does not have it.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    folder.exists().then_some(folder)
}

#[test]
fn each_target_has_a_program() {
    let Some(folder) = folder() else { return };
    let programs = fs::read_dir(folder.join("fuzz_targets")).unwrap();
    let programs: BTreeSet<String> = programs
        .map(|program| {
            let path = program.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(path).unwrap();
            assert!(
                text.contains(&format!("etcd_blocking::fuzz::{name}(data)")),
                "{name}"
            );
            name
        })
        .collect();
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let listed = manifest.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.to_owned())
    });
    let listed: BTreeSet<String> = listed.filter(|name| name != "etcd-blocking-fuzz").collect();
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(programs, names);
    assert_eq!(listed, names);
}

#[test]
fn the_corpus_is_small() {
    let Some(folder) = folder() else { return };
    let mut all = 0;
    for target in fs::read_dir(folder.join("corpus")).unwrap() {
        let target = target.unwrap().path();
        let files: Vec<_> = fs::read_dir(&target).unwrap().collect();
        assert!(files.len() <= FILES, "{}", target.display());
        for file in files {
            let file = file.unwrap();
            let size = file.metadata().unwrap().len();
            assert!(size <= LARGEST, "{}", file.path().display());
            all += size;
        }
    }
    assert!(all <= ALL, "{all} bytes");
}
