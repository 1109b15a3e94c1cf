//! Verifies a snapshot while its bytes arrive.
//!
//! A snapshot is the database file, whose size the first message announces, followed by its SHA-256.
//! The digest is returned only after the comparison: `etcdutl snapshot restore` refuses a copy without
//! it, even if the error was ignored.

use bytes::Bytes;
use hmac_sha256::Hash;

/// The size of a SHA-256 in bytes.
pub(super) const DIGEST: usize = 32;

/// The size of a database file is a multiple of this: etcd checks a snapshot file with
/// `size % 512 == 32`.
const SECTOR: u64 = 512;

/// The reason why a snapshot is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InvalidSnapshot(pub(super) String);

/// The digest of a verified snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) digest: Bytes,
    pub(super) sha256: [u8; DIGEST],
}

/// Verifies one snapshot.
pub(super) struct Verifier {
    hash: Hash,
    announced: u64,
    received: u64,
    digest: Vec<u8>,
}

impl Verifier {
    /// Creates a verifier of a database of `announced` bytes.
    pub(super) fn new(announced: u64) -> Self {
        Verifier {
            hash: Hash::new(),
            announced,
            received: 0,
            digest: Vec::with_capacity(DIGEST),
        }
    }

    /// The size of the database, without the digest.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// The number of bytes of the database so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Adds the next bytes. Returns those that belong to the database.
    pub(super) fn feed(&mut self, mut blob: Bytes) -> Result<Bytes, InvalidSnapshot> {
        let missing = usize::try_from(self.announced - self.received).unwrap_or(usize::MAX);
        // The bytes after the announced size are the digest.
        let data = blob.split_to(missing.min(blob.len()));
        self.hash.update(&data);
        self.received += data.len() as u64;
        self.digest.extend_from_slice(&blob);
        if self.digest.len() > DIGEST {
            let announced = self.announced;
            let invalid = format!("more bytes arrived than the announced {announced}");
            return Err(InvalidSnapshot(invalid));
        }
        Ok(data)
    }

    /// Compares the digest after the last bytes.
    pub(super) fn finish(&mut self) -> Result<Verified, InvalidSnapshot> {
        let Verifier {
            announced,
            received,
            ..
        } = *self;
        if received < announced {
            let invalid = format!("it ended after {received} of {announced} bytes");
            return Err(InvalidSnapshot(invalid));
        }
        if self.digest.len() < DIGEST {
            return Err(InvalidSnapshot("it ended without its SHA-256".into()));
        }
        // `etcdutl` recognises a snapshot with a digest by `size % 512 == 32`.
        if announced == 0 || announced % SECTOR != 0 {
            let invalid = format!("{announced} bytes are not a whole database file");
            return Err(InvalidSnapshot(invalid));
        }
        let sha256 = std::mem::replace(&mut self.hash, Hash::new()).finalize();
        if self.digest != sha256 {
            let invalid = "its SHA-256 does not match its bytes";
            return Err(InvalidSnapshot(invalid.into()));
        }
        Ok(Verified {
            digest: Bytes::from(std::mem::take(&mut self.digest)),
            sha256,
        })
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("announced", &self.announced)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Vec<u8> {
        (0..4096_u32).flat_map(u32::to_le_bytes).collect()
    }

    fn snapshot() -> Vec<u8> {
        let mut bytes = database();
        let digest = Hash::hash(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// Feeds `bytes` in pieces. Returns the accepted bytes and the result.
    fn verify(
        announced: usize,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<u8>, Result<Verified, InvalidSnapshot>) {
        let mut verifier = Verifier::new(announced as u64);
        let mut accepted = Vec::new();
        for piece in bytes.chunks(piece) {
            match verifier.feed(Bytes::copy_from_slice(piece)) {
                Ok(data) => accepted.extend_from_slice(&data),
                Err(invalid) => return (accepted, Err(invalid)),
            }
        }
        let result = verifier.finish();
        if let Ok(verified) = &result {
            accepted.extend_from_slice(&verified.digest);
        }
        (accepted, result)
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let abc = Hash::hash(b"abc");
        assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(abc[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn a_complete_snapshot_is_valid_in_any_pieces() {
        let snapshot = snapshot();
        for piece in [1, 31, 33, 512, 4096, 16384, snapshot.len()] {
            let (accepted, result) = verify(16384, &snapshot, piece);
            assert_eq!(result.unwrap().sha256[..], snapshot[16384..], "{piece}");
            assert_eq!(accepted, snapshot);
        }
    }

    #[test]
    fn one_flipped_bit_is_refused_and_the_digest_is_not_returned() {
        let snapshot = snapshot();
        for at in 0..snapshot.len() {
            let mut bytes = snapshot.clone();
            bytes[at] ^= 1 << (at % 8);
            let (accepted, result) = verify(16384, &bytes, 4096);
            assert!(result.unwrap_err().0.contains("SHA-256"), "{at}");
            assert_eq!(accepted.len(), 16384, "{at}");
        }
    }

    #[test]
    fn a_snapshot_that_is_too_short_or_too_long_is_refused() {
        let snapshot = snapshot();
        for length in [0, 1, 16383, 16384, 16385, snapshot.len() - 1] {
            let invalid = verify(16384, &snapshot[..length], 4096).1.unwrap_err();
            assert!(invalid.0.starts_with("it ended"), "{length}: {invalid:?}");
        }
        let long = [&snapshot[..], &[0]].concat();
        assert!(verify(16384, &long, 4096).1.unwrap_err().0.contains("more"));
    }

    #[test]
    fn the_sizes_are_those_of_the_database() {
        let mut verifier = Verifier::new(10);
        verifier.feed(Bytes::from_static(b"1234567")).unwrap();
        assert_eq!((verifier.announced(), verifier.received()), (10, 7));
        let text = format!("{verifier:?}");
        assert!(text.contains("announced: 10, received: 7"), "{text}");
        let invalid = verifier.finish().unwrap_err();
        assert_eq!(invalid.0, "it ended after 7 of 10 bytes");
        verifier.feed(Bytes::from_static(b"8901")).unwrap();
        assert_eq!(verifier.received(), 10, "one byte belongs to the digest");
    }

    #[test]
    fn a_wrong_announced_size_is_refused() {
        let snapshot = snapshot();
        for announced in [0, 1, 15872, 16383, 16385, 16896, 1 << 40] {
            assert!(verify(announced, &snapshot, 4096).1.is_err(), "{announced}");
        }
        // Half a sector more, with the right digest.
        let mut odd = database();
        odd.extend([0; 256]);
        odd.extend(Hash::hash(&odd));
        let invalid = verify(16384 + 256, &odd, 4096).1.unwrap_err();
        assert!(invalid.0.contains("whole database"), "{invalid:?}");
    }
}
