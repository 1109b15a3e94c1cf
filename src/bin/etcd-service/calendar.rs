//! Dates of the calendar as seconds since 1970, in UTC. Pure.

/// A date and a time of the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

impl Civil {
    /// Seconds since 1970; `None` if there is no such time, or it is not in the years 1970 to 9999.
    pub(crate) fn seconds(self) -> Option<u64> {
        let year = self.year;
        let is_leap =
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let longest = match self.month {
            2 => 28 + u64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let is_date = (1970..=9999).contains(&year) && (1..=longest).contains(&self.day);
        if !is_date || self.hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        // Years that begin in March have the leap day at their end.
        let (year, month) = match self.month {
            3.. => (year, self.month - 3),
            _ => (year - 1, self.month + 9),
        };
        let days =
            365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + self.day - 1;
        let days = days - 719_468;
        Some(days * 86_400 + self.hour * 3_600 + self.minute * 60 + self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(year: u64, month: u64, day: u64, second: u64) -> Option<u64> {
        let date = Civil {
            year,
            month,
            day,
            second,
            ..Civil::default()
        };
        date.seconds()
    }

    #[test]
    fn dates_are_counted_from_1970() {
        assert_eq!(seconds(1970, 1, 1, 0), Some(0));
        assert_eq!(seconds(2000, 2, 29, 1), Some(951_782_401));
        assert_eq!(seconds(2024, 12, 31, 0), Some(1_735_603_200));
        assert_eq!(seconds(2100, 2, 29, 0), None);
        assert_eq!(seconds(2024, 13, 1, 0), None);
        assert_eq!(seconds(1969, 12, 31, 0), None);
        assert_eq!(seconds(2024, 1, 1, 60), None);
    }
}
