//! Processes of this machine, as `/proc` shows them.

use std::fs;

use rustix::process::Pid;

/// The numbers of all processes.
fn all() -> impl Iterator<Item = i32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes that have this variable in their environment, which descendants inherit, also in another session. A
/// process that has ended has none.
pub(crate) fn with_variable(name: &str, value: &str) -> Vec<i32> {
    let variable = format!("{name}={value}");
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    all().filter(has).collect()
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
