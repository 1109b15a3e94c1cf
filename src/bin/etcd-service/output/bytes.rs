//! Sizes in bytes as text. Pure.

/// A size with its unit, such as `2.0 GiB`, `512 KiB` and `17 bytes`.
pub(crate) fn bytes(size: u64) -> String {
    let mut unit = "bytes";
    let mut tenths = size.saturating_mul(10);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = larger;
    }
    match unit == "bytes" || tenths >= 1_000 {
        true => format!("{} {unit}", tenths / 10),
        false => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (size, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (20_480, "20.0 KiB"),
            (524_288, "512 KiB"),
            (2 * 1024 * 1024 * 1024, "2.0 GiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }
}
