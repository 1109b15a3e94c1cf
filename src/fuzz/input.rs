//! Reads the values of a target from the bytes of a fuzzer.

/// The bytes of an input that are not read yet. After its end, every number is zero and every text is empty, so
/// that each input means something.
#[derive(Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

/// Numbers at which arithmetic and comparisons change their results.
const EDGES: [i64; 16] = [
    0,
    1,
    -1,
    2,
    -2,
    127,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as i64,
    u32::MAX as i64,
    1 << 62,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
];

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// A number of two bytes, the high one first.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number: most are small, the others are edges or of eight bytes.
    pub(crate) fn number(&mut self) -> i64 {
        match self.byte() {
            small @ 0..=223 => i64::from(small),
            edge @ 224..=239 => *EDGES.get(usize::from(edge - 224)).unwrap_or(&0),
            _ => (0..8).fold(0, |number, _| number << 8 | i64::from(self.byte())),
        }
    }

    /// Up to `most` bytes, as many as the next two bytes say.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.short()).min(most).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// Up to `most` bytes as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(self.bytes(most)).into_owned()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
