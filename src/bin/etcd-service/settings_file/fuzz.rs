//! Files of any bytes.

use clap::CommandFactory as _;

use super::*;
use crate::Arguments;
use crate::campaign::run;

const LINES: [&str; 5] = [
    "etcd-service run --service own -- sleep 1",
    "etcd-service run",
    "etcd-service list",
    "etcd-service --endpoints=a:1 lock name -- true",
    "etcd-service serve",
];

#[test]
fn settings() {
    let program = Arguments::command();
    run("settings_file", |data| check(&program, data));
}

/// Inserts the settings of a file. The arguments of the user stay in their order, and the command of the user is the
/// last one.
fn check(program: &Command, data: &[u8]) {
    let (kind, text) = data.split_first().unwrap_or((&0, data));
    let path = ["x.toml", "x.yaml"][usize::from(kind & 1)];
    let line = LINES[usize::from(kind >> 1) % LINES.len()];
    let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let text = String::from_utf8_lossy(text);
    let settings = match parse(Path::new(path), &text) {
        Ok(settings) => settings,
        Err(error) => return assert!(!error.contains('\n'), "{error:?}"),
    };
    let merged = match merge(arguments.clone(), &settings, program) {
        Ok(merged) => merged,
        Err(error) => return assert!(!error.contains(char::is_control), "{error:?}"),
    };
    let mut left = merged.iter();
    let is_kept = |own: &OsString| left.any(|argument| argument == own);
    assert!(arguments.iter().all(is_kept), "{merged:?}");
    let command = |of: &[OsString]| {
        let at = of.iter().position(|argument| argument == "--");
        at.map(|at| of[at..].to_vec())
    };
    if let Some(own) = command(&arguments) {
        assert_eq!(command(&merged), Some(own));
    }
    // clap prints what is wrong with a value.
    if let Err(error) = program.clone().try_get_matches_from(merged) {
        assert!(!error.to_string().is_empty());
    }
}
