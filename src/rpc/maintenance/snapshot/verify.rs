//! Whether a snapshot is what the member sent: a pure check, fed as the bytes come.
//!
//! What comes is the database file, whose size the first message announces, and then the SHA-256 of
//! it. The digest is held back until everything was compared: a copy that lacks it is not taken by
//! `etcdutl snapshot restore`, whatever becomes of the error.

use bytes::Bytes;
use hmac_sha256::Hash;

/// The bytes of a SHA-256.
pub(super) const DIGEST: usize = 32;

/// A database file is made of pages, and those of sectors (etcd's own check of a snapshot file is
/// `size % 512 == 32`).
const SECTOR: u64 = 512;

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw(pub(super) String);

/// A digest that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) digest: Bytes,
    pub(super) sha256: [u8; DIGEST],
}

pub(super) struct Verifier {
    hash: Hash,
    announced: u64,
    seen: u64,
    digest: Vec<u8>,
}

impl Verifier {
    /// For a database of `announced` bytes.
    pub(super) fn new(announced: u64) -> Self {
        Verifier {
            hash: Hash::new(),
            announced,
            seen: 0,
            digest: Vec::with_capacity(DIGEST),
        }
    }

    /// The bytes of the database, without the digest.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// How many of them have come.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes what came next, and returns the part of it that is the database.
    pub(super) fn feed(&mut self, mut blob: Bytes) -> Result<Bytes, Flaw> {
        let missing = usize::try_from(self.announced - self.seen).unwrap_or(usize::MAX);
        let data = blob.split_to(missing.min(blob.len()));
        self.hash.update(&data);
        self.seen += data.len() as u64;
        self.digest.extend_from_slice(&blob);
        if self.digest.len() > DIGEST {
            let announced = self.announced;
            let flaw = format!("more came than the {announced} bytes that were announced");
            return Err(Flaw(flaw));
        }
        Ok(data)
    }

    /// Everything came: compares.
    pub(super) fn finish(&mut self) -> Result<Verified, Flaw> {
        let Verifier {
            announced, seen, ..
        } = *self;
        if seen < announced {
            let flaw = format!("it ended after {seen} of {announced} bytes");
            return Err(Flaw(flaw));
        }
        if self.digest.len() < DIGEST {
            return Err(Flaw("it ended without its SHA-256".into()));
        }
        if announced == 0 || announced % SECTOR != 0 {
            let flaw = format!("{announced} bytes are not a whole database file");
            return Err(Flaw(flaw));
        }
        let sha256 = std::mem::replace(&mut self.hash, Hash::new()).finalize();
        if self.digest != sha256 {
            let flaw = "its bytes do not have the SHA-256 that came with them";
            return Err(Flaw(flaw.into()));
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
            .field("seen", &self.seen)
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

    /// Feeds `bytes` in pieces, and returns what was let through and the verdict.
    fn verify(announced: usize, bytes: &[u8], piece: usize) -> (Vec<u8>, Result<Verified, Flaw>) {
        let mut verifier = Verifier::new(announced as u64);
        let mut through = Vec::new();
        for piece in bytes.chunks(piece) {
            match verifier.feed(Bytes::copy_from_slice(piece)) {
                Ok(data) => through.extend_from_slice(&data),
                Err(flaw) => return (through, Err(flaw)),
            }
        }
        let verdict = verifier.finish();
        if let Ok(verified) = &verdict {
            through.extend_from_slice(&verified.digest);
        }
        (through, verdict)
    }

    #[test]
    fn sha_256_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let abc = Hash::hash(b"abc");
        assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(abc[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn a_whole_snapshot_passes_however_it_is_cut() {
        let snapshot = snapshot();
        for piece in [1, 31, 33, 512, 4096, 16384, snapshot.len()] {
            let (through, verdict) = verify(16384, &snapshot, piece);
            assert_eq!(verdict.unwrap().sha256[..], snapshot[16384..], "{piece}");
            assert_eq!(through, snapshot);
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused_and_its_digest_is_held_back() {
        let snapshot = snapshot();
        for at in 0..snapshot.len() {
            let mut bytes = snapshot.clone();
            bytes[at] ^= 1 << (at % 8);
            let (through, verdict) = verify(16384, &bytes, 4096);
            assert!(verdict.unwrap_err().0.contains("SHA-256"), "{at}");
            assert_eq!(through.len(), 16384, "{at}");
        }
    }

    #[test]
    fn one_that_is_cut_short_or_too_long_is_refused() {
        let snapshot = snapshot();
        for length in [0, 1, 16383, 16384, 16385, snapshot.len() - 1] {
            let flaw = verify(16384, &snapshot[..length], 4096).1.unwrap_err();
            assert!(flaw.0.starts_with("it ended"), "{length}: {flaw:?}");
        }
        let long = [&snapshot[..], &[0]].concat();
        assert!(verify(16384, &long, 4096).1.unwrap_err().0.contains("more"));
    }

    #[test]
    fn a_false_announcement_is_refused() {
        let snapshot = snapshot();
        for announced in [0, 1, 15872, 16383, 16385, 16896, 1 << 40] {
            assert!(verify(announced, &snapshot, 4096).1.is_err(), "{announced}");
        }
        // Half a sector more, with the right digest.
        let mut odd = database();
        odd.extend([0; 256]);
        odd.extend(Hash::hash(&odd));
        let flaw = verify(16384 + 256, &odd, 4096).1.unwrap_err();
        assert!(flaw.0.contains("whole database"), "{flaw:?}");
    }
}
