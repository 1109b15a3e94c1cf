//! The fuzz target of DNS answers.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use super::message::{Answer, answer, question};
use crate::fuzz::input::Input;

const NAME: &str = "_etcd-client._tcp.example.com";

/// Decodes an answer, as it is and with the head and the question of a real one. Hosts are plain names, and there are
/// not more than the answer has room for.
pub(crate) fn answers(data: &[u8]) {
    let asked = question(7, NAME).expect("a valid name");
    check(&asked, data);
    let mut data = Input::new(data);
    let (flags, count) = (data.short(), data.short());
    let mut bytes = asked[..2].to_vec();
    bytes.extend((0x8000 | flags & 0x021f).to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(count.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&asked[12..]);
    let rest = data.rest();
    bytes.extend(rest);
    check(&asked, &bytes);
    // Any text as the name of a question.
    let name = String::from_utf8_lossy(rest);
    if let Some(asked) = question(flags, &name) {
        assert!(asked.len() <= 12 + 255 + 4);
        assert!(name.is_ascii());
        let mut bytes = asked.clone();
        bytes[2] |= 0x80;
        assert_eq!(answer(&asked, &bytes), Some(Answer::None));
    }
}

fn check(asked: &[u8], bytes: &[u8]) {
    if let Some(Answer::Servers(servers)) = answer(asked, bytes) {
        // A record has a name, ten bytes of numbers, seven bytes of data and at least a byte of its host.
        assert!(!servers.is_empty() && servers.len() * 18 <= bytes.len());
        for server in servers {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(server.host.chars().all(plain) && (1..=255).contains(&server.host.len()));
            assert_ne!(server.port, 0);
        }
    }
}
