//! Records of RFC 4180. Pure.

use super::printable;

/// One record, on one line: characters that a terminal would obey, and line breaks, are escaped.
///
/// A field that a spreadsheet would execute as a formula gets an apostrophe in front.
pub(crate) fn csv_record<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    fields.join(",")
}

fn field(text: &str) -> String {
    let text = printable(text);
    let is_formula = text.starts_with(['=', '+', '-', '@']);
    let text = match is_formula {
        true => format!("'{text}"),
        false => text.into_owned(),
    };
    match text.contains([',', '"', ';', ' ']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_and_quotes_are_quoted() {
        let record = csv_record(["a", "b,c", "say \"hi\"", "", "x\ny"]);
        assert_eq!(record, "a,\"b,c\",\"say \"\"hi\"\"\",,x\\u{a}y");
    }

    #[test]
    fn a_formula_is_text() {
        for (field, expected) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2", "'-2"),
            ("+cmd|' /C calc'!A0,", "\"'+cmd|' /C calc'!A0,\""),
            ("\t=1", "\\u{9}=1"),
        ] {
            assert_eq!(csv_record([field]), expected);
        }
    }
}
