//! Finds the sections of a PEM text without losing any.
//!
//! Common PEM readers skip everything that they do not recognize as the start of a section. A byte
//! order mark, or two files joined without a newline, can therefore lose a certificate silently.
//! Here each start marker is a section, or an error that names it.

use std::fmt;

use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// One section. It may contain a key, so it has no `Debug` output.
pub(super) struct Section<'a> {
    /// The text between BEGIN and the dashes, such as `CERTIFICATE`.
    pub(super) label: &'a str,
    pub(super) position: Position,
    body: &'a [u8],
}

/// The position of a section, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    number: usize,
    label: String,
    line: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position {
            number,
            label,
            line,
        } = self;
        write!(f, "section {number} ({label}, line {line})")
    }
}

/// Returns all sections of a text.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, String> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = text {
        return Err("it is UTF-16: save it as UTF-8 or ASCII".into());
    }
    let mut sections = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some((before, after)) = cut(rest, BEGIN) {
        line += lines(before);
        let (section, tail) = section(after, sections.len() + 1, line)?;
        line += lines(after) - lines(tail);
        sections.push(section);
        rest = tail;
    }
    match sections.is_empty() && is_binary(text) {
        true => Err(
            "it is binary (DER or PKCS #12), and PEM is expected: convert it, as with \
                     `openssl x509 -inform DER` or `openssl pkcs12 -nodes`"
                .into(),
        ),
        false => Ok(sections),
    }
}

/// Parses the section that begins with its label, and returns it with the text that follows.
fn section(text: &[u8], number: usize, line: usize) -> Result<(Section<'_>, &[u8]), String> {
    let label = cut(text, DASHES).filter(|(_, after)| !shares_dashes(after));
    let label = label.and_then(|(label, after)| Some((readable(label)?, after)));
    let Some((label, after)) = label else {
        return Err(format!(
            "malformed: section {number} (line {line}) has an invalid start: five dashes must follow -----BEGIN and a label"
        ));
    };
    let position = Position {
        number,
        label: label.to_owned(),
        line,
    };
    let ended = cut(after, END).filter(|(body, _)| cut(body, BEGIN).is_none());
    let Some((body, end)) = ended else {
        return Err(format!("malformed: {position} has no end"));
    };
    let tail = end.strip_prefix(label.as_bytes());
    let Some(tail) = tail.and_then(|tail| tail.strip_prefix(DASHES)) else {
        return Err(format!("malformed: {position} ends with another label"));
    };
    if shares_dashes(tail) {
        return Err(format!(
            "malformed: the section after {position} has an invalid start: five dashes must precede BEGIN"
        ));
    }
    let section = Section {
        label,
        position,
        body,
    };
    Ok((section, tail))
}

/// Whether the text behind five dashes is a start marker together with some of them. It would not be found.
fn shares_dashes(after: &[u8]) -> bool {
    let dashes = after.iter().take_while(|byte| **byte == b'-').count();
    let rest = after.get(dashes..).unwrap_or_default();
    dashes < DASHES.len() && rest.starts_with(b"BEGIN ")
}

/// Splits the text around the first `mark`.
fn cut<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    let (before, from) = text.split_at(at);
    Some((before, from.strip_prefix(mark)?))
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Labels are capitals, digits and spaces; RFC 7468 permits more, but no tool writes more.
fn readable(label: &[u8]) -> Option<&str> {
    let label = std::str::from_utf8(label).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    (label.len() <= 64 && label.chars().all(plain)).then_some(label)
}

fn is_binary(text: &[u8]) -> bool {
    // A DER file is one SEQUENCE.
    text.first() == Some(&0x30) && text.iter().any(|byte| !byte.is_ascii())
}

impl Section<'_> {
    /// The section as PEM text with the given label, one marker to a line.
    pub(super) fn text(&self, label: &str) -> Zeroizing<Vec<u8>> {
        // Allocated at full size: a growing vector would leave copies of a key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len() + 128));
        text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
        for line in self.body.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if !line.is_empty() {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        }
        text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
        text
    }

    /// Whether the section is encrypted with a password.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED ") || cut(self.body, b"Proc-Type: 4,ENCRYPTED").is_some()
    }

    /// Whether line ends are written as the two characters `\n`, as happens in environment
    /// variables.
    pub(super) fn has_escaped_lines(&self) -> bool {
        cut(self.body, br"\n").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";

    fn found(text: &str) -> Vec<(String, String)> {
        let sections = sections(text.as_bytes()).unwrap();
        let text = |section: &Section<'_>| {
            String::from_utf8(section.text(section.label).to_vec()).unwrap()
        };
        sections
            .iter()
            .map(|section| (section.position.to_string(), text(section)))
            .collect()
    }

    #[test]
    fn every_pem_label_is_a_section_in_any_layout() {
        let same = format!("{ONE}\n");
        let texts = [
            format!("{ONE}\n{ONE}\n"),
            format!("\u{feff}{ONE}\n{ONE}"),
            format!("{ONE}{ONE}"),
            format!("{ONE}\n\u{feff}{ONE}\n"),
            format!("{ONE}\r\n{ONE}\r\n").replace('\n', "\r\n"),
            format!("  {ONE}  \n\t{ONE}\t\n").replace('\n', "  \n  "),
            format!("subject=CN = a\n{ONE}\n\n# a note\n{ONE}\nthe end"),
            format!("{ONE} {ONE}").replace('\n', ""),
        ];
        for text in texts {
            let found = found(&text);
            assert_eq!(found.len(), 2, "{text:?}");
            for (_, section) in found {
                assert_eq!(section, same, "{text:?}");
            }
        }
        assert_eq!(found("no section at all"), []);
    }

    #[test]
    fn errors_name_a_section_by_number_label_and_line() {
        let key = ONE.replace("CERTIFICATE", "PRIVATE KEY");
        let found = found(&format!("a\n{ONE}{key}\n\n{ONE}"));
        let positions: Vec<&str> = found
            .iter()
            .map(|(position, _)| position.as_str())
            .collect();
        assert_eq!(
            positions,
            [
                "section 1 (CERTIFICATE, line 2)",
                "section 2 (PRIVATE KEY, line 4)",
                "section 3 (CERTIFICATE, line 8)"
            ]
        );
    }

    // Fault: Q14
    #[test]
    fn malformed_sections_are_named_without_their_content() {
        let cut = ONE.trim_end_matches("-----END CERTIFICATE-----");
        let cases: [(Vec<u8>, &str); 10] = [
            (
                cut.replace("AAAA", "CANARY").into(),
                "section 1 (CERTIFICATE, line 1) has no end",
            ),
            (
                format!("{ONE}\n{cut}\n{ONE}").into(),
                "section 2 (CERTIFICATE, line 4) has no end",
            ),
            (
                ONE.replace("END CERT", "END CANARY").into(),
                "section 1 (CERTIFICATE, line 1) ends with another label",
            ),
            (
                "\n-----BEGIN CANARY".into(),
                "section 1 (line 2) has an invalid start",
            ),
            (
                "-----BEGIN \u{202e}CANARY-----".into(),
                "section 1 (line 1) has an invalid start",
            ),
            // Markers that share dashes: no reader would find the second one.
            (
                format!("{ONE}{}", ONE.trim_start_matches('-')).into(),
                "the section after section 1 (CERTIFICATE, line 1) has an invalid start",
            ),
            (
                format!("-----BEGIN CANARY-----{}", ONE.trim_start_matches('-')).into(),
                "section 1 (line 1) has an invalid start",
            ),
            (vec![0xff, 0xfe, b'-', 0], "UTF-16"),
            (vec![0xfe, 0xff, 0, b'-'], "UTF-16"),
            (vec![0x30, 0x82, 0x01, 0xff, 0xfe], "binary (DER"),
        ];
        for (text, reason) in cases {
            let error = sections(&text).err().unwrap();
            assert!(error.contains(reason), "{reason}: {error}");
            assert!(!error.contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn both_forms_of_encrypted_keys_are_detected() {
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        let new = ONE.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY");
        for (text, encrypted) in [(old, true), (&new, true), (ONE, false)] {
            let sections = sections(text.as_bytes()).unwrap();
            assert_eq!(sections[0].is_encrypted(), encrypted, "{text}");
        }
    }
}
