//! The verb `drain`.

use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::Status;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};
use crate::operator_change::{TargetArguments, Targets};
use crate::operator_setting::status;
use crate::output::complain;

/// The time for one request, if no flag says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `drain`.
#[derive(Args, Debug)]
#[command(after_help = "\
The status stays, also over restarts of the program, until `undrain`. A weight that was set stays, too.

Examples:
  etcd-service drain web api-7
  etcd-service drain web --addr 10.0.0.5:8080 --wait
  etcd-service drain web api-7 --status maintenance

Exit codes: 0 done; 1 there is no such instance, or etcd did not answer.")]
pub(crate) struct Drain {
    /// The service
    service: String,
    /// The ids of the instances
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The status that is set: draining, maintenance, out_of_service, starting or up
    #[arg(long, default_value = "draining", value_parser = status)]
    status: Status,
    /// Waits until views show the status, at most for --command-timeout
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    targets: TargetArguments,
}

impl Drain {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let timeout = connection.config()?.request_timeout.unwrap_or(TIMEOUT);
        let targets = self.targets.find(connection, &self.service, &self.ids)?;
        targets.change(|setting| setting.status = Some(self.status))?;
        match self.wait {
            true => self.wait_until_shown(&targets, timeout),
            false => Ok(0),
        }
    }

    fn wait_until_shown(&self, targets: &Targets, timeout: Duration) -> Outcome {
        let begun = Instant::now();
        let changes = targets.view.changes();
        loop {
            let instances = targets.view.snapshot();
            let mut of_targets = instances.iter().filter(|one| targets.ids.contains(&one.id));
            // A program that leaves by itself stays draining.
            let shows = |status| status == self.status || status == Status::Draining;
            let Some(other) = of_targets.find(|one| !shows(one.status)) else {
                return Ok(0);
            };
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Failure::failed(format!(
                    "{} is {} after {timeout:?}; --command-timeout sets the time",
                    crate::output::printable(&other.id),
                    other.status
                )));
            }
            if let Err(error) = changes.recv_timeout(left)
                && !error.is_timeout()
            {
                complain("the view has ended");
                return Ok(1);
            }
        }
    }
}
