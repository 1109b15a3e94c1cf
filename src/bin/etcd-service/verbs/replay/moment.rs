//! Times of arguments, in UTC. Pure.

use std::time::{Duration, SystemTime};

use crate::calendar::Civil;

/// Parses a time such as `2026-05-04 10:00:00`. The seconds, and the time of the day, may be left out; `T` may be
/// in place of the space, and `Z` at the end.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("{text:?} is not a time in UTC such as '2026-05-04 10:00:00'");
    let seconds = seconds(text.strip_suffix('Z').unwrap_or(text)).ok_or_else(wrong)?;
    let since = Duration::from_secs(seconds);
    SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(wrong)
}

/// Seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':').map(number);
    let (hour, minute) = (time.next()??, time.next()??);
    let second = match time.next() {
        Some(second) => second?,
        None => 0,
    };
    if date.next().is_some() || time.next().is_some() {
        return None;
    }
    let civil = Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
    };
    civil.seconds()
}

/// A number of digits only: `parse` would take a sign, too.
fn number(text: &str) -> Option<u64> {
    let is_number = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2000-02-29 00:00", 951_782_400),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2024-12-31 23:59:59", 1_735_689_599),
        ] {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(expected);
            assert_eq!(moment(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "now",
            "2023",
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "2023-01-00",
            "1969-12-31",
            "2023-01-01 24:00",
            "2023-01-01 10",
            "2023-01-01 10:60",
            "2023-01-01 1:2:3:4",
            "2023-01-01-01",
            "2023-01-01 +1:00",
            "99999-01-01",
        ] {
            assert!(
                moment(text).unwrap_err().contains("is not a time"),
                "{text}"
            );
        }
    }
}
