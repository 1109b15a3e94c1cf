//! The wall clock is read only where a jump of it is harmless.

use super::sources;

/// The files that read it, and what for.
const READERS: &[(&str, &str)] = &[
    (
        "concurrency/fifo.rs",
        "the names of keys, as Go writes them; the order is that of revisions",
    ),
    (
        "concurrency/rw_lock.rs",
        "the names of keys; the order is that of revisions",
    ),
    (
        "discovery/register/registrar.rs",
        "the published time of a registration",
    ),
    (
        "discovery/resolve/view_start.rs",
        "the published age of a cache file",
    ),
    (
        "rpc/maintenance/snapshot/snapshot_file.rs",
        "the age of unfinished files of other processes",
    ),
];

// Fault: F15
#[test]
fn no_deadline_wait_or_lease_depends_on_the_wall_clock() {
    let readers: Vec<_> = sources::library()
        .into_iter()
        .filter(|source| !source.is_test() && !source.name.starts_with("bin/"))
        .filter(|source| {
            let code = source.code();
            [
                "SystemTime::now",
                "UtcDateTime",
                "CLOCK_REALTIME",
                "ClockId::Realtime",
            ]
            .iter()
            .any(|read| code.contains(read))
        })
        .map(|source| source.name)
        .collect();
    let allowed: Vec<_> = READERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(readers, allowed);
}
