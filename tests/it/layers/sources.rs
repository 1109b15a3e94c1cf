//! The Rust files of the repository, as text.

use std::fs;
use std::path::Path;

/// A Rust file, by its path below the folder that was read.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    /// The text without unit tests written in the file and without comment lines.
    pub(super) fn code(&self) -> String {
        let code = self.text.split("\nmod tests {").next().unwrap_or_default();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        code.collect::<Vec<_>>().join("\n")
    }

    /// Whether the file holds unit tests or fuzz targets only.
    pub(super) fn is_test(&self) -> bool {
        ["tests.rs", "tests/", "fuzz.rs", "fuzz/"]
            .iter()
            .any(|part| self.name.contains(part))
    }
}

/// Every Rust file below a folder of the repository, sorted by name.
pub(super) fn below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The benchmark of other clients is a package of its own, and has a folder of what cargo generates.
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                files.push(Source {
                    name: name.to_owned(),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// Every file of `src/`.
pub(super) fn library() -> Vec<Source> {
    let files = below("src");
    assert!(files.len() > 60, "the sources are read");
    files
}
