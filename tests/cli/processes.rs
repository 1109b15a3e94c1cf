//! Processes of this machine, as `/proc` shows them.

use std::fs;
use std::process::Command;

use rustix::process::Pid;

const VARIABLE: &str = "ETCD_SERVICE_TEST_MARK";

/// The numbers of all processes.
fn all() -> impl Iterator<Item = i32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A variable in the environment of a program, which its descendants inherit, also in another session.
pub(crate) struct Mark(String);

impl Mark {
    /// The mark of this name and this run of the tests.
    pub(crate) fn new(name: &str) -> Self {
        Mark(format!("{name}-{}", std::process::id()))
    }

    /// Marks the program of a command.
    pub(crate) fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(VARIABLE, &self.0)
    }

    /// The marked processes. One that has ended, or that is about to begin another program, is none of them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let variable = format!("{VARIABLE}={}", self.0);
        let has = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|one| one == variable.as_bytes())
        };
        all().filter(has).collect()
    }
}

/// The children of a process that are not zombies.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let is_child = |pid: &i32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
        let mut fields = fields.into_iter().flat_map(str::split_whitespace);
        let (state, of) = (fields.next(), fields.next());
        state != Some("Z") && of == Some(&parent.as_raw_nonzero().to_string())
    };
    all().filter(is_child).filter_map(Pid::from_raw).collect()
}
