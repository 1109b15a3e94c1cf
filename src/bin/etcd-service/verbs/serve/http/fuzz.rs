//! Requests of any bytes.

use super::request::{LONGEST_BODY, LONGEST_HEAD, Request};
use crate::campaign::run;

#[test]
fn requests() {
    run("http_request", request);
}

/// Parses a request. Its end does not depend on what follows, and its body is short.
fn request(data: &[u8]) {
    match Request::parse(data) {
        Ok(Some((request, length))) => {
            let head = &data[..length];
            assert!(head.ends_with(b"\n"));
            let alone = Request::parse(head).unwrap().unwrap();
            assert_eq!(alone, (request.clone(), length));
            for part in [length / 2, length - 1] {
                assert_eq!(Request::parse(&head[..part]), Ok(None), "{part}");
            }
            assert!(request.body_length <= LONGEST_BODY);
            // A part of a path can have a slash only if that was encoded.
            let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let slashes = target.iter().filter(|byte| **byte == b'/').count();
            assert!(request.path.len() <= slashes.max(1));
        }
        Ok(None) => assert!(data.len() < LONGEST_HEAD),
        Err(bad) => assert!((400..=431).contains(&bad.0), "{bad:?}"),
    }
}
