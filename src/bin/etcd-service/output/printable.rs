//! Makes text from etcd safe to print. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Replaces characters that a terminal would obey, or that hide or reorder others, with escapes such as
/// `\u{1b}`. Names, addresses and reasons come from etcd, where anybody with permission can put anything.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unsafe(c) {
            true => {
                // Writing to a string does not fail.
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

pub(super) fn is_unsafe(c: char) -> bool {
    // Control characters, line and paragraph separators, and what changes the direction or the look of the text
    // (Unicode's bidirectional controls, invisible operators, tags, and the byte order mark).
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{61c}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_unchanged() {
        for text in ["", "api", "10.0.0.5:8080", "größe 数 🙂", "a b\\c"] {
            assert_eq!(printable(text), text);
            assert!(matches!(printable(text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, expected) in [
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}txt", "abc\\u{202e}txt"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn nothing_unsafe_is_left_of_any_character() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            assert!(!printable(&text).contains(is_unsafe), "{:x}", u32::from(c));
        }
    }
}
