//! Hashes that are the same in all programs, so that they choose the same instance for a key. Pure.

/// An odd number whose multiples are spread evenly in 64 bits (the golden ratio).
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64: each bit of the result depends on each bit of `n`.
pub(super) const fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// The hash of a key, a name or an id. It must never change: programs of different versions share keys.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(GOLDEN ^ bytes.len() as u64);
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word)).wrapping_add(GOLDEN);
    }
    let last = rest
        .iter()
        .rev()
        .fold(0, |last, byte| last << 8 | u64::from(*byte));
    mix(hash ^ last)
}

/// A fraction in 0..1 of the upper 53 bits, which is the precision of a double.
pub(super) fn fraction(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_hashes_of_known_texts_never_change() {
        let hashes =
            ["", "a", "user-4711", "a key of 16 byte"].map(|key| stable_hash(key.as_bytes()));
        assert_eq!(
            hashes,
            [
                5197578548964807871,
                15724650169172236990,
                12280326282230905610,
                9374934479897529693
            ]
        );
    }

    #[test]
    fn a_fraction_is_the_part_of_all_hashes_that_are_lower() {
        for (hash, part) in [(0, 0.0), (1 << 62, 0.25), (1 << 63, 0.5), (3 << 62, 0.75)] {
            assert_eq!(fraction(hash), part);
        }
        assert_eq!(fraction(u64::MAX), 1.0 - 2f64.powi(-53));
    }

    #[test]
    fn texts_of_every_length_have_different_hashes() {
        let texts = (0..64usize).flat_map(|length| [vec![0; length], vec![b'a'; length]]);
        let hashes: BTreeSet<u64> = texts.map(|text| stable_hash(&text)).collect();
        // The empty text is there twice.
        assert_eq!(hashes.len(), 127);
        assert!(
            hashes
                .iter()
                .all(|hash| (0.0..1.0).contains(&fraction(*hash)))
        );
    }
}
