//! The status of an instance.

use std::fmt;

/// Whether an instance accepts calls.
///
/// ```
/// use etcd_blocking::Status;
///
/// assert!(Status::Up.is_pickable());
/// assert!(!Status::Draining.is_pickable());
/// assert_eq!(Status::OutOfService.to_string(), "out_of_service");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Status {
    /// It is registered, and not ready for calls yet.
    Starting,
    /// It accepts calls.
    #[default]
    Up,
    /// It finishes its running calls and is about to leave. The removal of a draining instance always
    /// has the cause [`Left`](crate::Cause::Left).
    Draining,
    /// It temporarily accepts no calls, such as after a failed health check.
    OutOfService,
    /// An operator took it out of service.
    Maintenance,
    /// Its registration expired together with many others, and its view does not believe that: see
    /// [`Protection`](crate::Protection). It is no status of a registration, and only a view sets it.
    Suspect,
}

impl Status {
    /// All statuses of registrations.
    const ALL: [Status; 5] = [
        Status::Starting,
        Status::Up,
        Status::Draining,
        Status::OutOfService,
        Status::Maintenance,
    ];

    /// Returns whether an instance with this status can be picked: only [`Status::Up`] can.
    pub const fn is_pickable(self) -> bool {
        matches!(self, Status::Up)
    }

    /// Returns the name that is used in a registered value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Up => "up",
            Status::Draining => "draining",
            Status::OutOfService => "out_of_service",
            Status::Maintenance => "maintenance",
            Status::Suspect => "suspect",
        }
    }

    /// The status with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_parsed_from_its_name_and_other_texts_are_not() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
        assert_eq!(Status::from_name("UP"), None);
        assert_eq!(Status::from_name(""), None);
    }

    #[test]
    fn a_suspect_is_no_status_of_a_registration() {
        assert_eq!(Status::from_name(Status::Suspect.as_str()), None);
        assert!(!Status::Suspect.is_pickable());
    }

    #[test]
    fn only_the_status_up_is_pickable() {
        let pickable = Status::ALL.map(Status::is_pickable);
        assert_eq!(pickable, [false, true, false, false, false]);
    }
}
