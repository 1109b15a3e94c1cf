//! Times as Go's programs write them. Pure.

use std::time::Duration;

/// Parses a time such as `500ms`, `5s` or `1m30s`; for the arguments of the verbs.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 500ms, 5s or 1m30s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if text == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit());
        let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    match text.is_empty() {
        true => Err(wrong()),
        false => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("0", 0),
            ("500ms", 500),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5x",
            "-5s",
            "1.5s",
            "99999999999999999999s",
            "5s5",
            "99999999999999999h",
        ] {
            assert!(span(text).unwrap_err().contains("is not a time"), "{text}");
        }
    }
}
