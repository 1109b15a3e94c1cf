//! The axis of time of a picture. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::output::utc;

/// Where the axis begins and how long it is, in the units of the picture.
pub(super) const LEFT: f64 = 260.0;
pub(super) const WIDTH: f64 = 880.0;

/// The steps of the ticks, in seconds.
const STEPS: [u64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800, 2_592_000, 31_536_000,
];

/// The axis of time.
#[derive(Debug)]
pub(super) struct Axis {
    /// Seconds since 1970.
    pub(super) begun: u64,
    pub(super) seconds: f64,
}

impl Axis {
    pub(super) fn new(begun: SystemTime, ended: SystemTime) -> Self {
        let begun = begun.duration_since(UNIX_EPOCH);
        let begun = begun.unwrap_or_default().as_secs();
        let from = UNIX_EPOCH + Duration::from_secs(begun);
        let span = ended.duration_since(from).unwrap_or_default();
        Axis {
            begun,
            seconds: span.as_secs_f64().max(1.0),
        }
    }

    /// The end in whole seconds since 1970.
    pub(super) fn ended(&self) -> u64 {
        self.begun.saturating_add(self.seconds.ceil() as u64)
    }

    pub(super) fn x(&self, seconds: f64) -> f64 {
        let share = (seconds - self.begun as f64) / self.seconds;
        LEFT + share.clamp(0.0, 1.0) * WIDTH
    }

    pub(super) fn at(&self, time: SystemTime) -> f64 {
        let since = time.duration_since(UNIX_EPOCH);
        self.x(since.unwrap_or_default().as_secs_f64())
    }

    /// The times of the ticks, and how they are labelled.
    pub(super) fn ticks(&self) -> (Vec<u64>, Label) {
        let fits = |step: &&u64| self.seconds / **step as f64 <= 10.0;
        let widest = self.seconds as u64 / 10 + 1;
        let step = STEPS.iter().find(fits).copied().unwrap_or(widest);
        let label = match step {
            86_400.. => Label::Date,
            60.. => Label::Minutes,
            _ => Label::Seconds,
        };
        let mut ticks = Vec::new();
        let mut at = self.begun.next_multiple_of(step);
        while at as f64 <= self.begun as f64 + self.seconds {
            ticks.push(at);
            at += step;
        }
        (ticks, label)
    }
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Full,
    Date,
    Minutes,
    Seconds,
}

/// A time in UTC.
pub(super) fn stamp(seconds: u64, label: Label) -> String {
    let text = utc(UNIX_EPOCH + Duration::from_secs(seconds));
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let part = |count| time.get(..count).unwrap_or_default();
    match label {
        Label::Full => format!("{date} {}", part(8)),
        Label::Date => date.to_owned(),
        Label::Minutes => part(5).to_owned(),
        Label::Seconds => part(8).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_ticks_at_any_length() {
        let begun = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for seconds in [
            0,
            1,
            7,
            60,
            3_599,
            86_400,
            900_000,
            40_000_000,
            4_000_000_000,
        ] {
            let axis = Axis::new(begun, begun + Duration::from_secs(seconds));
            let (ticks, _) = axis.ticks();
            assert!(ticks.len() <= 12, "{seconds}: {ticks:?}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(stamp(0, Label::Full), "1970-01-01 00:00:00");
        assert_eq!(stamp(951_782_400, Label::Date), "2000-02-29");
        assert_eq!(stamp(1_700_000_000, Label::Minutes), "22:13");
        assert_eq!(stamp(1_735_689_599, Label::Seconds), "23:59:59");
    }
}
