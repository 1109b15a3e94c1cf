//! Reads and writes times in the format of Go: `5s`, `500ms`, `1m30s`.

use std::time::Duration;

/// Parses a time. A number without a unit is refused, except 0: in Go's JSON it would be nanoseconds, and
/// most people who write `5` mean seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 5s, 500ms or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(end.ok_or_else(wrong)?);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        nanos += number
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(wrong()),
            };
        rest = tail;
    }
    // Go counts nanoseconds in 63 bits: 292 years.
    if text.is_empty() || !(0.0..9.2e18).contains(&nanos) {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Formats a time so that parsing it returns the same time.
#[cfg(any(feature = "serde", test))]
pub(in crate::client) fn format(span: Duration) -> String {
    let nanos = span.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let whole = units.iter().find(|(unit, _)| nanos.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or(&(1, "ns"));
    format!("{}{name}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_go_writes_are_parsed() {
        let cases = [
            ("5s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("2h45m0.5s", 9_900_500_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("7ns", 7),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused() {
        let wrong = [
            "", "5", "s", "-5s", "5 s", "5s ", "5x", "1.2.3s", ".s", "1e3s", "inf", "NaNs",
            "9999999h",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_duration_parses_to_the_same_value() {
        for nanos in [
            0,
            1,
            1_000,
            1_500,
            250_000_000,
            90_000_000_000,
            7_000_000_001,
        ] {
            let span = Duration::from_nanos(nanos);
            assert_eq!(parse(&format(span)), Ok(span));
        }
        assert_eq!(format(Duration::from_millis(2500)), "2500ms");
    }
}
