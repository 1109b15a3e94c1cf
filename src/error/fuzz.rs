//! The fuzz target of error texts.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use super::status::ServerError;
use super::{Error, Executed};
use crate::error::printable;
use crate::fuzz::input::Input;

/// The longest text that is kept, with the dots after it.
const LONGEST: usize = 1024 + 3;

/// Interprets a status. Its text can be printed and is short, and only a text of etcd itself proves that nothing was
/// executed.
pub(crate) fn text(data: &[u8]) {
    let mut data = Input::new(data);
    let code = i32::from(data.byte()) - 4;
    let text = String::from_utf8_lossy(data.rest());
    let read = ServerError::read(code, &text);
    check(&read.text);
    // The rendering of a status in the cancel reason of a watch means the same.
    let rendered = format!("rpc error: code = Unknown desc = {text}");
    if !text.contains(" desc = ") {
        assert_eq!(ServerError::read(code, &rendered), read);
    }
    let is_of_etcd = [
        "etcdserver: ",
        "auth: ",
        "etcd",
        "grpc: ",
        "unknown ",
        "rpc error: ",
    ];
    if read.executed == Executed::No && !is_of_etcd.iter().any(|start| text.starts_with(start)) {
        let of_library = super::messages::find(&text);
        assert!(of_library.is_some(), "{text:?} proves nothing");
    }
    let malformed = ServerError::malformed(&text);
    check(&malformed.text);
    let error = Error::new(read.kind, read.text).last(printable(&text));
    assert!(!error.to_string().chars().any(char::is_control));
}

fn check(text: &str) {
    assert!(text.chars().count() <= LONGEST);
    let is_hidden = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    assert!(!text.chars().any(|c| char::is_control(c) || is_hidden(c)));
}
