//! Servers that send malformed snapshots.

use super::*;

/// Encodes a message of the server: `remaining_bytes`, `blob` and `version`.
fn message(remaining: u64, blob: &[u8], version: &str) -> Vec<u8> {
    fn varint(bytes: &mut Vec<u8>, mut value: u64) {
        while value >= 128 {
            bytes.push((value % 128) as u8 | 128);
            value /= 128;
        }
        bytes.push(value as u8);
    }
    let mut pb = Vec::new();
    if remaining > 0 {
        pb.push(2 << 3);
        varint(&mut pb, remaining);
    }
    pb.push((3 << 3) | 2);
    varint(&mut pb, blob.len() as u64);
    pb.extend(blob);
    pb.push((4 << 3) | 2);
    varint(&mut pb, version.len() as u64);
    pb.extend(version.as_bytes());
    frames::message(0, u32::try_from(pb.len()).unwrap(), &pb)
}

/// Server that sends these messages as its snapshot, and then these frames.
fn scripted(messages: Vec<Vec<u8>>, end: fn(u32) -> Vec<u8>) -> RawServer {
    RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            out.write_all(&frames::ok(id))?;
            for message in &messages {
                for part in message.chunks(16_000) {
                    out.write_all(&frames::data(id, 0, part))?;
                }
            }
            out.write_all(&end(id))
        });
    })
}

fn good(id: u32) -> Vec<u8> {
    frames::trailers(id, "0", "")
}

/// An 8 KiB database in two pieces, and its digest.
fn pieces() -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let database: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
    let digest = hmac_sha256::Hash::hash(&database);
    (database[..4096].to_vec(), database[4096..].to_vec(), digest)
}

#[test]
fn malformed_snapshots_are_refused() {
    let (first, second, digest) = pieces();
    let one = |blob: &[u8], left| message(left, blob, "3.7.0");
    let whole = vec![one(&first, 4096), one(&second, 0), one(&digest, 0)];
    let client_of = |server: &RawServer| {
        let builder = Client::builder([server.endpoint()]);
        builder.timeout(Duration::from_secs(2)).connect().unwrap()
    };
    let server = scripted(whole.clone(), good);
    let saved = client_of(&server)
        .maintenance()
        .snapshot_to(io::sink())
        .unwrap();
    assert_eq!((saved.size, saved.sha256), (8224, digest));

    let mut wrong_digest = digest;
    wrong_digest[31] ^= 1;
    let mut flipped = second.clone();
    flipped[17] ^= 4;
    let reset = |id| frames::reset(id, 2);
    let lost = |id| frames::trailers(id, "14", "etcdserver: server stopped");
    let no_status = |id| frames::data(id, END_STREAM, &[]);
    type End = fn(u32) -> Vec<u8>;
    let cases: Vec<(&str, Vec<Vec<u8>>, End, ErrorKind)> = vec![
        ("no digest", whole[..2].to_vec(), good, ErrorKind::Corrupt),
        ("cut short", whole[..1].to_vec(), good, ErrorKind::Corrupt),
        (
            "a wrong digest",
            vec![whole[0].clone(), whole[1].clone(), one(&wrong_digest, 0)],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "a flipped bit",
            vec![whole[0].clone(), one(&flipped, 0), whole[2].clone()],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "more than announced",
            [&whole[..], &[one(&[0], 0)]].concat(),
            good,
            ErrorKind::Corrupt,
        ),
        (
            "parts in another order",
            vec![one(&second, 4096), one(&first, 0), one(&digest, 0)],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "a reset",
            whole[..2].to_vec(),
            reset,
            ErrorKind::Unavailable,
        ),
        ("a stop", whole[..2].to_vec(), lost, ErrorKind::Unavailable),
        ("no status", whole.clone(), no_status, ErrorKind::Protocol),
        (
            "more bytes than there are",
            vec![one(&first, u64::MAX)],
            good,
            ErrorKind::Protocol,
        ),
        (
            "no protobuf",
            vec![whole[0].clone(), frames::message(0, 3, &[0xff, 0xff, 0xff])],
            good,
            ErrorKind::Protocol,
        ),
    ];
    for (what, messages, end, kind) in cases {
        let server = scripted(messages, end);
        let folder = Folder::new();
        let client = client_of(&server);
        let error = client
            .maintenance()
            .snapshot_to_file(folder.file(), |_| {})
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(folder.names().is_empty(), "{what}: {:?}", folder.names());
    }
}
