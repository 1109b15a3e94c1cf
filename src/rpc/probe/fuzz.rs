//! Fuzz targets of health checks.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use super::http_reply::{HttpReply, Judgement};
use super::question::{HttpExpectation, Probe, Question};
use crate::fuzz::input::Input;

/// Judges a reply in pieces. Whether it passes does not depend on where the pieces end.
pub(crate) fn reply(data: &[u8]) {
    let mut data = Input::new(data);
    let (kind, piece) = (data.byte(), data.below(40) + 1);
    let body = ["", "ok", "\"status\":\"UP\""].get(usize::from(kind & 3));
    let expected = HttpExpectation {
        status: 200..=299,
        body: body.map(|body| (*body).to_owned()),
    };
    let bytes = data.rest();
    let whole = judge(&expected, bytes, bytes.len().max(1));
    for piece in [piece, 1] {
        // The reason of a failure may be another one.
        let judgement = judge(&expected, bytes, piece);
        let both = [&judgement, &whole].map(|one| *one == Judgement::Passed);
        assert_eq!(
            both[0], both[1],
            "{judgement:?} in pieces of {piece}, {whole:?} at once"
        );
        assert_ne!(
            judgement,
            Judgement::Open,
            "the end of the connection decides"
        );
    }
}

fn judge(expected: &HttpExpectation, bytes: &[u8], piece: usize) -> Judgement {
    let mut reply = HttpReply::new(expected);
    for piece in bytes.chunks(piece) {
        match reply.push(piece) {
            Judgement::Open => {}
            decided => return decided,
        }
    }
    reply.end()
}

/// Reads a URL. The request that follows from it is one line, and its authority is read to the same probe.
pub(crate) fn url(data: &[u8]) {
    let expected = || HttpExpectation {
        status: 200..=200,
        body: None,
    };
    let Ok(probe) = Probe::http(&String::from_utf8_lossy(data), expected()) else {
        return;
    };
    let Question::Get { path, .. } = &probe.question else {
        panic!("{probe:?}");
    };
    let is_one_line = |text: &str| !text.contains(|c: char| c.is_ascii_control() || c == ' ');
    assert!(path.starts_with('/') && is_one_line(path), "{path:?}");
    assert!(!probe.host.is_empty() && is_one_line(&probe.host));
    let url = format!("http://{}{path}", probe.authority());
    let again = Probe::http(&url, expected()).expect("its own URL");
    assert_eq!((again.host, again.port), (probe.host, probe.port), "{url}");
}
