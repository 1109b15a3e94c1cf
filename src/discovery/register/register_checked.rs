//! The methods of a registrar that register an instance with health checks.

use super::registrar::Registrar;
use super::registration::Registration;
use crate::discovery::check::check_state::CheckStatus;
use crate::discovery::check::check_task::PlannedChecks;
use crate::discovery::check::checks::Checks;
use crate::discovery::instance::Instance;
use crate::error::{Operation, Result};

impl Registrar {
    /// Registers an instance with health checks, and blocks until etcd has it.
    ///
    /// By default the instance is registered when all checks have passed, published as
    /// [`OutOfService`](crate::Status::OutOfService) with the reason while one of them fails, and as it
    /// was registered when it has recovered; [`Checks`] has the choices. Readers see each change as
    /// [`Updated`](crate::Change::Updated). The checks end with the registration.
    ///
    /// Blocks as [`register`](Registrar::register), and a program that starts slowly can take longer:
    /// use [`announce_checked`](Registrar::announce_checked) for it.
    ///
    /// ```no_run
    /// use etcd_blocking::health::Check;
    /// # use etcd_blocking::{Client, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// # let registrar = Registrar::builder(&client).start()?;
    /// let check = Check::http("http://127.0.0.1:8080/ready");
    /// let api = registrar.register_checked(Instance::new("api", "10.0.0.5:8080"), check)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register`](Registrar::register), and:
    ///
    /// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) at once for an invalid check
    /// - [`Timeout`](crate::ErrorKind::Timeout) when the checks have not passed in time; the text has
    ///   the last failure
    pub fn register_checked(
        &self,
        instance: Instance,
        checks: impl Into<Checks>,
    ) -> Result<Registration> {
        let registration = self.announce_checked(instance, checks)?;
        self.wait(&registration).map_err(|error| {
            let health = registration.health();
            let mut checks = health.into_iter().flat_map(|health| health.checks);
            let failed = checks.find(|check| check.status != CheckStatus::Passing);
            match failed.and_then(|check| Some((check.name, check.last_error?))) {
                Some((name, why)) => error.last(format!("{name}: {why}")),
                None => error,
            }
        })?;
        Ok(registration)
    }

    /// Begins to register an instance with health checks, and returns at once.
    ///
    /// [`Registration::wait_registered`] waits until the instance is registered, and
    /// [`Registration::health`] shows the checks.
    ///
    /// # Errors
    ///
    /// As [`announce`](Registrar::announce), and
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid check.
    pub fn announce_checked(
        &self,
        instance: Instance,
        checks: impl Into<Checks>,
    ) -> Result<Registration> {
        let about = Operation::about("register", &instance.id);
        let checks = PlannedChecks::new(checks.into());
        let checks = checks.map_err(|error| error.operation(about.clone()))?;
        let registration = self.announce_with(instance, checks.initial().into())?;
        let started = registration.start_checks(checks);
        started.map_err(|error| error.operation(about))?;
        Ok(registration)
    }
}
