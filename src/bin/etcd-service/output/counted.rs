//! Counts with nouns. Pure.

use std::fmt::Display;

/// A count with its noun, such as `1 instance` and `2 instances`. The noun is in the singular and regular.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        return format!("1 {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_usize, "instance"), "0 instances");
        assert_eq!(counted(1_u64, "instance"), "1 instance");
        assert_eq!(counted(2_usize, "bad value"), "2 bad values");
        assert_eq!(counted(1_usize, "entry"), "1 entry");
        assert_eq!(counted(3_u64, "entry"), "3 entries");
        assert_eq!(counted(3_usize, "key"), "3 keys");
    }
}
