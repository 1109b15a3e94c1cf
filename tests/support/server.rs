//! Version of the etcd under test, and tests that it skips.

use std::{env, fmt, process::Command, sync::OnceLock, thread};

/// Version of an etcd release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The version that the program started by `LocalEtcd` prints.
pub fn version() -> Version {
    static VERSION: OnceLock<Version> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let program = match env::var_os("ETCD_BIN") {
            Some(path) if !path.is_empty() => path,
            _ => etcd_bin_vendored::etcd_bin_path().unwrap().into(),
        };
        let output = Command::new(program).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("etcd Version: "));
        parse(line.unwrap())
    })
}

/// Parses `3.7.2`, and `3.8.0-alpha.0` as 3.8.0.
fn parse(text: &str) -> Version {
    let mut parts = text
        .trim()
        .split(['.', '-'])
        .map(|part| part.parse().unwrap());
    let mut next = || parts.next().unwrap();
    Version(next(), next(), next())
}

/// Returns whether to skip a test, because this etcd lacks a fix. `fixed` lists the first fixed release of
/// each minor version.
///
/// It prints `skipped on VERSION: TEST: WHY`, a line that `.ci/matrix` collects. Call it first in a test:
///
/// ```ignore
/// if skip_before(&[Version(3, 4, 25), Version(3, 5, 8)], "progress comes too early") {
///     return;
/// }
/// ```
#[must_use]
pub fn skip_before(fixed: &[Version], why: &str) -> bool {
    let here = version();
    let skipped = !reached(here, fixed);
    if skipped {
        let test = thread::current().name().unwrap_or("?").to_owned();
        println!("skipped on {here}: {test}: {why}");
    }
    skipped
}

/// [`skip_before`] for a feature that is new in a minor version.
#[must_use]
pub fn skip_unless_since(major: u32, minor: u32, why: &str) -> bool {
    skip_before(&[Version(major, minor, 0)], why)
}

/// The reason of [`skip_before`] for tests that need requested watch progress.
pub const EARLY_PROGRESS: (&[Version], &str) = (
    &[Version(3, 4, 25), Version(3, 5, 8)],
    "the server answers a request for progress too early, so the answer is not believed",
);

/// The flag for the interval of progress notifications; 3.6 removed its prefix `experimental-`.
pub fn progress_interval(interval: &str) -> String {
    let prefix = match version() {
        Version(3, ..6, _) => "experimental-",
        _ => "",
    };
    format!("--{prefix}watch-progress-notify-interval={interval}")
}

/// Returns whether `here` has a fix: `[3.4.25, 3.5.8]` means 3.4.25 and later 3.4, 3.5.8 and later 3.5, and 3.6
/// and later.
fn reached(here: Version, fixed: &[Version]) -> bool {
    let same_minor = fixed
        .iter()
        .find(|first| (first.0, first.1) == (here.0, here.1));
    match same_minor {
        Some(first) => here >= *first,
        None => fixed.iter().all(|first| here > *first),
    }
}

#[test]
fn a_fix_is_in_later_releases_of_its_minor_version_and_in_later_minor_versions() {
    let fixed = [Version(3, 4, 25), Version(3, 5, 8)];
    for (here, expected) in [
        ("3.3.9", false),
        ("3.4.23", false),
        ("3.4.25", true),
        ("3.5.0", false),
        ("3.5.26", true),
        ("3.6.0-rc.1", true),
        ("3.10.1", true),
    ] {
        assert_eq!(reached(parse(here), &fixed), expected, "{here}");
    }
}

#[test]
fn the_program_prints_its_version() {
    assert!(version() >= Version(3, 4, 0), "{}", version());
}
