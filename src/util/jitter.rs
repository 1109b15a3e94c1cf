//! Random numbers for jitter and for ids that should differ. They are not suitable for secrets.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

/// A random number. It derives from the system's randomness: `RandomState` is seeded from it once
/// for each thread, and changes with each use.
pub(crate) fn number() -> u64 {
    // A forked child has the seed of its parent, but another process id.
    RandomState::new().hash_one(std::process::id())
}

/// A random number in 0..1 from the sequence of this thread. A forked child continues the sequence
/// of its parent.
pub(crate) fn fraction() -> f64 {
    thread_local!(static SEQUENCE: RefCell<Jitter> = RefCell::new(Jitter::seeded(number())));
    SEQUENCE.with_borrow_mut(Jitter::fraction)
}

/// The upper 53 bits, which is the precision of a double.
fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1u64 << 53) as f64
}

/// A sequence of numbers determined by its seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn seeded(seed: u64) -> Self {
        Jitter(seed)
    }

    /// The next number in 0..1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        unit(z ^ (z >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_even(fractions: impl Iterator<Item = f64>) -> bool {
        let mut tenths = [0; 10];
        for fraction in fractions.take(10_000) {
            tenths[(fraction * 10.0) as usize] += 1;
        }
        // 1000 are expected in each tenth, with a standard deviation of 30.
        tenths.iter().all(|count| (800..1200).contains(count))
    }

    #[test]
    fn fractions_cover_the_range_from_0_to_1() {
        assert!(is_even(std::iter::repeat_with(fraction)));
        let mut jitter = Jitter::seeded(1);
        assert!(is_even(std::iter::repeat_with(|| jitter.fraction())));
    }

    #[test]
    fn random_numbers_differ_and_a_seed_determines_the_sequence() {
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
        let sequence = |seed| {
            let mut jitter = Jitter::seeded(seed);
            [(); 3].map(|()| jitter.fraction().to_bits())
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
    }
}
