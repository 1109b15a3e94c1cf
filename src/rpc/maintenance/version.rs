//! Compares versions of etcd.

/// The oldest version that is not "old": as in clientv3, the minor release before the newest known one,
/// 3.7.
const OLDEST_SUPPORTED: (u64, u64) = (3, 6);

/// Whether a server of this version is older than the previous minor release. An invalid version counts
/// as old.
pub(crate) fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST_SUPPORTED,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn only_versions_before_the_previous_minor_are_old() {
        for (version, old) in [
            ("3.7.2", false),
            ("3.6.0", false),
            ("3.8.0-alpha.0", false),
            ("4.0.0", false),
            ("3.10.0", false),
            ("3.5.26", true),
            ("2.9.9", true),
            ("", true),
            ("not decided", true),
        ] {
            assert_eq!(is_old(version), old, "{version}");
        }
    }
}
