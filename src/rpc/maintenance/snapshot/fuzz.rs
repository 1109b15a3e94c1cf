//! The fuzz target of snapshots.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use bytes::Bytes;
use hmac_sha256::Hash;

use super::verifier::{DIGEST, InvalidSnapshot, Verified, Verifier};
use crate::fuzz::input::Input;

/// Verifies a snapshot in pieces. Only a whole database with its own digest is valid, and never more than the announced
/// bytes are accepted.
pub(crate) fn snapshot(data: &[u8]) {
    let mut data = Input::new(data);
    let (kind, piece) = (data.byte(), data.below(250) + 1);
    let announced = match kind & 3 {
        0 => u64::try_from(data.number()).unwrap_or(u64::MAX),
        sectors => u64::from(sectors) * 512,
    };
    let mut bytes = data.rest().to_vec();
    if kind & 4 != 0 {
        bytes.resize(usize::from(kind & 3) * 512, kind);
    }
    if kind & 8 != 0 {
        bytes.extend(Hash::hash(&bytes));
    }
    let (accepted, result) = verify(announced, &bytes, piece);
    assert!(accepted as u64 <= announced);
    let whole = verify(announced, &bytes, bytes.len().max(1));
    assert_eq!(whole.1, result);
    let size = usize::try_from(announced).ok();
    let split = size.and_then(|size| bytes.split_at_checked(size));
    let is_valid = announced > 0
        && announced % 512 == 0
        && split.is_some_and(|(database, digest)| Hash::hash(database) == digest);
    assert_eq!(result.is_ok(), is_valid, "{result:?}");
    if let Ok(verified) = result {
        assert_eq!(verified.digest.len(), DIGEST);
        assert_eq!(verified.digest[..], verified.sha256);
    }
}

fn verify(
    announced: u64,
    bytes: &[u8],
    piece: usize,
) -> (usize, Result<Verified, InvalidSnapshot>) {
    let mut verifier = Verifier::new(announced);
    let mut accepted = 0;
    for piece in bytes.chunks(piece) {
        match verifier.feed(Bytes::copy_from_slice(piece)) {
            Ok(data) => accepted += data.len(),
            Err(invalid) => return (accepted, Err(invalid)),
        }
        assert_eq!(verifier.received(), accepted as u64);
    }
    (accepted, verifier.finish())
}
