//! Settings of the protection of a view against registries that lose instances by mistake.

use std::time::Duration;

/// The longest time of a setting: a year, so that the end of a time exists.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The protection of a view against instances that expire by mistake.
///
/// A lease may end although its process lives: etcd was overloaded, its leader was stopped, or the network
/// was cut. A view therefore does not remove an instance at once when its registration *expired*. What left
/// on purpose is removed at once, always.
///
/// - An instance that expired is held for the [flap window](Protection::flap_window). It stays in the
///   snapshot, and [`pick`](crate::ServiceView::pick) returns it only if there is no other. If it registers
///   again in this time, nothing was removed.
/// - If [more than 30 %](Protection::share) of [at least 5](Protection::population) instances expired
///   [within 15 s](Protection::within), those are held longer, with the status
///   [`Suspect`](crate::Status::Suspect): for [60 s](Protection::hold), or for three times the time to live
///   of their leases if that is longer.
/// - A view opens a TCP connection to the address of each instance that it holds. It removes an instance
///   at once if the connection is refused or not accepted within a second.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Discovery, Protection};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect("http://127.0.0.1:2379")?;
/// let careful = Protection::default().share(20).hold(Duration::from_secs(300));
/// let api = Discovery::new(&client).protection(careful).service("api")?;
/// // Instances are removed when their keys are.
/// let raw = Discovery::new(&client).protection(Protection::off()).service("api")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    pub(super) population: usize,
    pub(super) share: u32,
    pub(super) within: Duration,
    pub(super) hold: Duration,
    pub(super) flap_window: Duration,
    pub(super) probe: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Protection {
            population: 5,
            share: 30,
            within: Duration::from_secs(15),
            hold: Duration::from_secs(60),
            flap_window: Duration::from_secs(3),
            probe: true,
        }
    }
}

impl Protection {
    /// Returns a protection that holds nothing: an instance is removed with its key.
    pub fn off() -> Self {
        Protection {
            population: usize::MAX,
            flap_window: Duration::ZERO,
            ..Protection::default()
        }
    }

    /// Sets the number of instances that a service must have for a mass expiry. The default is 5.
    pub fn population(mut self, instances: usize) -> Self {
        self.population = instances;
        self
    }

    /// Sets the share of the instances, in percent, that must be exceeded for a mass expiry. The default is
    /// 30; with 100 there is none.
    pub fn share(mut self, percent: u32) -> Self {
        self.share = percent;
        self
    }

    /// Sets the time within which these instances must expire. The default is 15 s.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Sets the time for which an instance of a mass expiry is held at most, unless three times the time to
    /// live of its lease is longer. The default is 60 s.
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// Sets the time in which an instance that expired may register again without a removal. The default
    /// is 3 s; zero disables it.
    pub fn flap_window(mut self, time: Duration) -> Self {
        self.flap_window = time.min(LONGEST);
        self
    }

    /// Sets whether instances that are held are probed. The default is `true`.
    ///
    /// Disable it where a connection says nothing about an instance, such as behind a proxy that accepts
    /// every connection, or where a connection without a request does harm.
    pub fn probe(mut self, probe: bool) -> Self {
        self.probe = probe;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_sets_its_own_setting() {
        let second = Duration::from_secs(1);
        let all = Protection::off()
            .population(7)
            .share(40)
            .within(second)
            .hold(second * 2)
            .flap_window(second * 3)
            .probe(false);
        assert_eq!((all.population, all.share, all.probe), (7, 40, false));
        assert_eq!((all.within, all.hold), (second, second * 2));
        assert_eq!(all.flap_window, second * 3);
        assert_eq!(all.flap_window(Duration::MAX).flap_window, LONGEST);
        assert_eq!(Protection::off().flap_window, Duration::ZERO);
    }
}
