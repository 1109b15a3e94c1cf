//! How far the instances of a view can be trusted. Pure.

use std::time::{Duration, Instant};

/// Where the instances of a view come from, and how new they are.
///
/// ```no_run
/// use etcd_blocking::{Client, Discovery, Freshness};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect("http://127.0.0.1:2379")?;
/// let api = Discovery::new(&client).cache_dir("/var/cache/shop").service("api")?;
/// match api.freshness() {
///     Freshness::Live => println!("up to date"),
///     Freshness::Stale { since } => println!("etcd is away for {:?}", since.elapsed()),
///     Freshness::Disk { age } => println!("from a file that was written {age:?} ago"),
///     Freshness::Fallback => println!("the list of this program"),
///     other => println!("{other:?}"),
/// }
/// if api.snapshot().is_empty() && api.freshness().is_authoritative() {
///     println!("etcd said that there is no instance");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// The view follows etcd.
    Live,
    /// The instances are those that etcd returned last. The view cannot follow etcd at present.
    Stale {
        /// The time since which the instances may be outdated.
        since: Instant,
    },
    /// The instances are those of a file: etcd has not answered since the view was opened.
    Disk {
        /// The time since the file was written, by the clock of this machine.
        age: Duration,
    },
    /// The instances are those of [`Discovery::fallback`](crate::Discovery::fallback): etcd has not
    /// answered since the view was opened.
    Fallback,
    /// Nothing is known: etcd has not answered since the view was opened. The list is empty, which says
    /// nothing about the service.
    Unknown,
}

impl Freshness {
    /// Returns whether etcd returned these instances. Only then does an empty list mean that there are no
    /// instances.
    pub const fn is_authoritative(&self) -> bool {
        matches!(self, Freshness::Live | Freshness::Stale { .. })
    }
}

/// What a view shows before etcd has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The view is opened with its first list.
    Etcd,
    /// A file that was this old when the view was opened.
    Disk(Duration),
    Fallback,
    Nothing,
}

/// The states of the sources of a view.
#[derive(Clone, Debug)]
pub(super) struct SourceStates {
    origin: Origin,
    opened: Instant,
    /// Whether each source was listed, and since when it is stale.
    sources: Vec<(bool, Option<Instant>)>,
}

impl SourceStates {
    pub(super) fn new(origin: Origin, sources: usize, opened: Instant) -> Self {
        SourceStates {
            origin,
            opened,
            sources: vec![(false, None); sources],
        }
    }

    pub(super) fn listed(&mut self, source: usize) {
        if let Some((is_listed, _)) = self.sources.get_mut(source) {
            *is_listed = true;
        }
    }

    pub(super) fn set_stale(&mut self, source: usize, since: Option<Instant>) {
        if let Some((_, stale)) = self.sources.get_mut(source) {
            *stale = since;
        }
    }

    /// Whether every source was listed.
    pub(super) fn is_listed(&self) -> bool {
        self.sources.iter().all(|(is_listed, _)| *is_listed)
    }

    /// The time since which the instances may be outdated; `None` while the view is live.
    pub(super) fn stale_since(&self) -> Option<Instant> {
        if !self.is_listed() {
            let age = match self.origin {
                Origin::Disk(age) => age,
                _ => Duration::ZERO,
            };
            return Some(self.opened.checked_sub(age).unwrap_or(self.opened));
        }
        self.sources.iter().filter_map(|(_, stale)| *stale).min()
    }

    pub(super) fn freshness(&self, now: Instant) -> Freshness {
        match (self.is_listed(), self.stale_since(), self.origin) {
            (true, None, _) => Freshness::Live,
            (true, Some(since), _) => Freshness::Stale { since },
            (false, _, Origin::Disk(age)) => Freshness::Disk {
                age: age + now.saturating_duration_since(self.opened),
            },
            (false, _, Origin::Fallback) => Freshness::Fallback,
            (false, _, Origin::Nothing | Origin::Etcd) => Freshness::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_what_etcd_returned_is_authoritative() {
        let now = Instant::now();
        for origin in [
            Origin::Etcd,
            Origin::Disk(SECOND * 60),
            Origin::Fallback,
            Origin::Nothing,
        ] {
            let mut states = SourceStates::new(origin, 2, now);
            assert!(!states.freshness(now).is_authoritative());
            states.listed(0);
            assert!(!states.freshness(now).is_authoritative(), "one is missing");
            states.listed(1);
            assert_eq!(states.freshness(now), Freshness::Live);
            states.set_stale(1, Some(now + SECOND));
            let since = now + SECOND;
            assert_eq!(states.freshness(since), Freshness::Stale { since });
            assert!(states.freshness(since).is_authoritative());
        }
    }

    #[test]
    fn the_age_of_a_file_grows() {
        let now = Instant::now() + SECOND * 100;
        let states = SourceStates::new(Origin::Disk(SECOND * 60), 1, now);
        let age = SECOND * 65;
        assert_eq!(states.freshness(now + SECOND * 5), Freshness::Disk { age });
        assert_eq!(states.stale_since(), Some(now - SECOND * 60));
    }

    #[test]
    fn a_view_is_stale_since_its_first_source_is() {
        let now = Instant::now();
        let mut states = SourceStates::new(Origin::Etcd, 2, now);
        states.listed(0);
        states.listed(1);
        assert_eq!(states.stale_since(), None);
        states.set_stale(1, Some(now + SECOND));
        states.set_stale(0, Some(now + SECOND * 2));
        assert_eq!(states.stale_since(), Some(now + SECOND));
        states.set_stale(1, None);
        assert_eq!(states.stale_since(), Some(now + SECOND * 2));
    }
}
