//! The checks of one instance, and what follows from them.

use std::time::Duration;

use super::check::Check;
use super::consequence::{Consequences, Initial};
use super::plan::CheckPlan;
use crate::error::{Error, Result};

/// The largest number of checks of one instance.
const MOST: usize = 256;

/// The health checks of one instance, and what follows from them. The instance is healthy when all of
/// them pass.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `initial` | [`Withheld`](Initial::Withheld) | what is published before all checks have passed |
/// | `withdraw_after` | never | how long a failing instance stays published as out of service |
/// | `leave_after` | never | how long an instance fails before its registration ends |
///
/// A failing instance is published with the status [`OutOfService`](crate::Status::OutOfService) and the
/// reason, and as it was registered when it is healthy again.
///
/// A single [`Check`] is accepted wherever `Checks` are.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::health::{Check, Checks};
/// # use etcd_blocking::{Client, Instance, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// # let registrar = Registrar::builder(&client).start()?;
/// let checks = Checks::new()
///     .check(Check::tcp("127.0.0.1:8080"))
///     .check(Check::http("http://127.0.0.1:8080/ready"))
///     .withdraw_after(Duration::from_secs(60));
/// let api = registrar.register_checked(Instance::new("api", "10.0.0.5:8080"), checks)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use = "they check nothing until they are registered with an instance"]
pub struct Checks {
    checks: Vec<Check>,
    consequences: Consequences,
}

impl Checks {
    /// Creates an empty set. An instance without checks is healthy.
    pub fn new() -> Self {
        Checks::default()
    }

    /// Adds a check. At most 256 are accepted.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Sets what is published before all checks have passed for the first time.
    pub fn initial(mut self, initial: Initial) -> Self {
        self.consequences.initial = initial;
        self
    }

    /// Sets how long a failing instance stays published as out of service. Then its keys are deleted
    /// until it is healthy again. With zero it is withdrawn at once.
    pub fn withdraw_after(mut self, time: Duration) -> Self {
        self.consequences.withdraw_after = Some(time);
        self
    }

    /// Sets how long an instance fails before its registration ends, as by
    /// [`leave`](crate::Registration::leave). It does not come back by itself.
    pub fn leave_after(mut self, time: Duration) -> Self {
        self.consequences.leave_after = Some(time);
        self
    }

    /// Checks the settings.
    pub(crate) fn plan(self) -> Result<(Vec<CheckPlan>, Consequences)> {
        if self.checks.len() > MOST {
            let count = self.checks.len();
            let why = format!("an instance has at most {MOST} health checks, not {count}");
            return Err(Error::invalid(why));
        }
        let plans: Result<Vec<_>> = self.checks.into_iter().map(Check::plan).collect();
        Ok((plans?, self.consequences))
    }
}

impl From<Check> for Checks {
    fn from(check: Check) -> Self {
        Checks::new().check(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_checks_are_refused() {
        let checks = |count: usize| {
            let some = std::iter::repeat_with(|| Check::tcp("h:1")).take(count);
            some.fold(Checks::new(), Checks::check)
        };
        assert_eq!(checks(MOST).plan().unwrap().0.len(), MOST);
        assert!(checks(MOST + 1).plan().is_err());
    }
}
