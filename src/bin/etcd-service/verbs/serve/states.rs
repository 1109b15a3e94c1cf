//! What is said on stderr about etcd. Pure.

use std::time::{Duration, Instant};

use crate::output::printable;
use crate::registry::Picture;

/// How long etcd may take to answer before it is said that it does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest time between two looks.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// Remembers what was said.
#[derive(Debug)]
pub(super) struct States {
    begun: Instant,
    was_live: bool,
    has_said_away: bool,
}

impl Default for States {
    fn default() -> Self {
        States {
            begun: Instant::now(),
            was_live: false,
            has_said_away: false,
        }
    }
}

impl States {
    /// What is to be said about this picture.
    pub(super) fn on(&mut self, picture: &Picture) -> Option<String> {
        if picture.is_live() {
            let is_back = std::mem::take(&mut self.has_said_away);
            self.was_live = true;
            return is_back.then(|| "etcd is back; the lists are up to date".into());
        }
        let is_due = self.was_live || self.begun.elapsed() >= PATIENCE;
        if self.has_said_away || !is_due {
            return None;
        }
        self.has_said_away = true;
        let error = picture.error.as_deref().map(printable);
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        let what = match self.was_live {
            true => "etcd is away, and the last good lists are served",
            false => "etcd has not answered yet; waiting for it",
        };
        Some(format!("{what}{why}"))
    }
}

#[cfg(test)]
mod tests {
    use etcd_blocking::Freshness;

    use super::*;

    #[test]
    fn an_outage_and_its_end_are_said_once() {
        let mut states = States::default();
        let mut picture = Picture::unknown();
        assert_eq!(states.on(&picture), None);
        picture.freshness = Freshness::Live;
        assert_eq!(states.on(&picture), None);
        picture.freshness = Freshness::Stale {
            since: Instant::now(),
        };
        picture.error = Some("no \u{1b}[31m connection".into());
        let text = states.on(&picture).unwrap();
        assert!(
            text.ends_with("served: no \\u{1b}[31m connection"),
            "{text}"
        );
        assert_eq!(states.on(&picture), None);
        picture.freshness = Freshness::Live;
        assert!(states.on(&picture).unwrap().contains("back"));
        assert_eq!(states.on(&picture), None);
    }
}
