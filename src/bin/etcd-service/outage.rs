//! Whether etcd is away, said once. Pure.

use std::time::{Duration, Instant};

/// An interruption that is shorter is not reported.
const GRACE: Duration = Duration::from_secs(1);

/// Follows whether what a verb shows is up to date.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    is_reported: bool,
}

/// What is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutageNews {
    Away,
    Back,
}

impl Outage {
    /// Takes the present state, and returns what is new about it.
    pub(crate) fn observe(&mut self, is_live: bool, now: Instant) -> Option<OutageNews> {
        if is_live {
            self.since = None;
            return std::mem::take(&mut self.is_reported).then_some(OutageNews::Back);
        }
        let since = *self.since.get_or_insert(now);
        let is_new = !self.is_reported && now.saturating_duration_since(since) >= GRACE;
        self.is_reported |= is_new;
        is_new.then_some(OutageNews::Away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_and_its_end_are_reported_once() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut outage = Outage::default();
        for (is_live, millis, expected) in [
            (false, 0, None),
            (false, 999, None),
            (true, 1000, None),
            (false, 1500, None),
            (false, 2500, Some(OutageNews::Away)),
            (false, 9500, None),
            (true, 9600, Some(OutageNews::Back)),
            (true, 9700, None),
            (false, 9800, None),
            (true, 9900, None),
        ] {
            assert_eq!(outage.observe(is_live, at(millis)), expected, "at {millis}");
        }
    }
}
