//! What follows from the health of an instance: the settings. Pure.

use std::time::Duration;

/// What is published of an instance whose checks have not passed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Initial {
    /// Nothing: the instance is registered when all checks have passed.
    #[default]
    Withheld,
    /// The instance with the status [`OutOfService`](crate::Status::OutOfService).
    OutOfService,
    /// The instance as it is, as if the checks had passed.
    Healthy,
}

/// What is done with an instance, by the status of its checks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Consequences {
    pub(crate) initial: Initial,
    /// How long it is published as out of service before it is withdrawn.
    pub(crate) withdraw_after: Option<Duration>,
    /// How long it fails before its registration ends.
    pub(crate) leave_after: Option<Duration>,
}

/// What is done with an instance now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// It is published as the program registered it.
    Healthy,
    /// It is published with the status `OutOfService`.
    OutOfService { reason: String },
    /// Its keys are deleted until it is healthy.
    Withdrawn { reason: String },
    /// Its registration ends.
    Leave { reason: String },
}
