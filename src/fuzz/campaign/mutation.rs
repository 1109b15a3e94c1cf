//! Makes inputs by changing those of a corpus.

use fastrand::Rng;

/// The largest input.
const LARGEST: usize = 8 << 10;

/// Numbers that parsers handle in a special way, as bytes in both orders and as digits.
const NUMBERS: [u64; 15] = [
    0,
    1,
    2,
    5,
    32,
    63,
    64,
    127,
    128,
    255,
    256,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

/// Bytes that separate something in the formats of the targets.
const MARKS: &[u8] = b"/:.,;=&%?#@ \r\n\t\"'{}[]()<>|-_+\\\0\xc0\xff";

/// Changes the inputs of a corpus at random; the same seed makes the same inputs.
#[derive(Debug)]
pub(super) struct Mutator {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    pub(super) fn new(seed: u64, mut corpus: Vec<Vec<u8>>) -> Self {
        if corpus.is_empty() {
            corpus.push(Vec::new());
        }
        Mutator {
            rng: Rng::with_seed(seed),
            corpus,
        }
    }

    /// The next input.
    pub(super) fn input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..self.rng.usize(1..=5) {
            self.change(&mut input);
        }
        input.truncate(LARGEST);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        let seed = self.rng.usize(..self.corpus.len());
        self.corpus[seed].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.rng.u8(0..12) {
            0 | 1 => self.with_byte(input, |rng, byte| *byte ^= 1 << rng.u8(0..8)),
            // The field of a length is often one byte, and wrong by one.
            2 => self.with_byte(input, |rng, byte| {
                let step = rng.u8(1..=4);
                *byte = match rng.bool() {
                    true => byte.wrapping_add(step),
                    false => byte.wrapping_sub(step),
                };
            }),
            3 => self.with_byte(input, |rng, byte| *byte = rng.u8(..)),
            4 => self.with_byte(input, |rng, byte| *byte = MARKS[rng.usize(..MARKS.len())]),
            5 => {
                let at = self.rng.usize(..=input.len());
                input.truncate(at);
            }
            6 => {
                let range = self.range(input);
                input.drain(range);
            }
            // A part once more, at another place.
            7 => {
                let range = self.range(input);
                let part = input[range].to_vec();
                self.insert(input, part);
            }
            8 => {
                let number = self.number();
                self.insert(input, number);
            }
            9 => {
                let number = self.number();
                let at = self.rng.usize(..=input.len());
                let end = input.len().min(at + number.len());
                input.splice(at..end, number);
            }
            10 => {
                let other = self.seed();
                let (from, to) = (
                    self.rng.usize(..=other.len()),
                    self.rng.usize(..=input.len()),
                );
                input.truncate(to);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let other = self.seed();
                let range = self.range(&other);
                self.insert(input, other[range].to_vec());
            }
        }
    }

    fn with_byte(&mut self, input: &mut Vec<u8>, change: impl FnOnce(&mut Rng, &mut u8)) {
        if input.is_empty() {
            input.push(0);
        }
        let at = self.rng.usize(..input.len());
        change(&mut self.rng, &mut input[at]);
    }

    fn insert(&mut self, input: &mut Vec<u8>, part: Vec<u8>) {
        let at = self.rng.usize(..=input.len());
        input.splice(at..at, part);
    }

    /// A part of the bytes, mostly a short one.
    fn range(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let begin = self.rng.usize(..=of.len());
        let longest = match self.rng.bool() {
            true => 8,
            false => LARGEST,
        };
        let end = (begin + self.rng.usize(..=longest)).min(of.len());
        begin..end
    }

    fn number(&mut self) -> Vec<u8> {
        let number = NUMBERS[self.rng.usize(..NUMBERS.len())];
        let size = 1 << self.rng.u8(0..4);
        match self.rng.u8(0..4) {
            0 => number.to_string().into_bytes(),
            1 => number.to_le_bytes()[..size].to_vec(),
            // A varint of ten bytes.
            2 => [&[0xff; 9][..], &[1]].concat(),
            _ => number.to_be_bytes()[8 - size..].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_bounded_inputs() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"abc".to_vec(), vec![7; LARGEST]]);
            let inputs = std::iter::repeat_with(|| mutator.input());
            inputs.take(500).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= LARGEST));
        let mut different = inputs(1);
        different.sort();
        different.dedup();
        assert!(different.len() > 400, "{}", different.len());
    }
}
