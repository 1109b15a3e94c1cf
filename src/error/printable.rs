//! Makes the text of a server safe for errors and logs.

/// The longest text of a server that is kept, in characters.
const LONGEST_TEXT: usize = 1024;

/// Escapes everything that a terminal or a log viewer would interpret instead of showing.
///
/// Control characters, zero-width characters and characters that change the text direction are
/// escaped as `Debug` does (`\u{202e}`), so they remain visible. A text with more than
/// [`LONGEST_TEXT`] characters is cut and ends with `...`.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    let mut left = LONGEST_TEXT;
    for c in text.chars() {
        let escape = c.escape_debug();
        let length = match c {
            // `Debug` escapes these only because it adds quotes around the text.
            '"' | '\'' | '\\' => 1,
            _ => escape.len(),
        };
        if length > left {
            out.push_str("...");
            break;
        }
        left -= length;
        match length {
            1 => out.push(c),
            _ => out.extend(escape),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fault: Q10
    #[test]
    fn control_and_invisible_characters_are_escaped() {
        let obeyed = ['\u{0}', '\u{1b}', '\u{7f}', '\u{85}', '\n', '\r', '\t'];
        let hidden = [
            0xad, 0x61c, 0x180e, 0x2028, 0x2029, 0xfeff, 0xfff9, 0xe0001, 0xe0020, 0xe007f,
        ];
        let ranges = (0x200b..=0x200f)
            .chain(0x202a..=0x202e)
            .chain(0x2060..=0x206f)
            .chain(hidden)
            .filter_map(char::from_u32);
        for c in obeyed.into_iter().chain(ranges) {
            let shown = printable(&format!("a{c}b"));
            let inner = shown.strip_prefix("a\\").and_then(|s| s.strip_suffix('b'));
            assert!(inner.is_some(), "{:x}: {shown}", u32::from(c));
            assert!(!shown.contains(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn printable_text_is_unchanged() {
        let text = r#"user "søren" may not write 'C:\key' – 名前, 50 %"#;
        assert_eq!(printable(text), text);
    }

    #[test]
    fn a_long_text_is_truncated_and_ends_with_dots() {
        let whole = "x".repeat(LONGEST_TEXT);
        assert_eq!(printable(&whole), whole);
        assert_eq!(printable(&(whole.clone() + "x")), whole.clone() + "...");
        let escapes = printable(&"\u{1b}".repeat(LONGEST_TEXT));
        assert!(escapes.len() <= LONGEST_TEXT + 3 && escapes.ends_with("}..."));
    }
}
