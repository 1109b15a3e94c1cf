//! The verb `undrain`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::Outcome;
use crate::operator_change::TargetArguments;

/// The arguments of `undrain`.
#[derive(Args, Debug)]
#[command(after_help = "\
The instance has the status of its program and its health checks again. A weight that was set stays, except with \
--weight.

Examples:
  etcd-service undrain web api-7
  etcd-service undrain web --addr 10.0.0.5:8080

Exit codes: 0 done, also if no status was set; 1 there is no such instance, or etcd did not answer.")]
pub(crate) struct Undrain {
    /// The service
    service: String,
    /// The ids of the instances
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Removes the weight that was set, too
    #[arg(long)]
    weight: bool,
    #[command(flatten)]
    targets: TargetArguments,
}

impl Undrain {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let targets = self.targets.find(connection, &self.service, &self.ids)?;
        targets.change(|setting| {
            setting.status = None;
            if self.weight {
                setting.weight = None;
            }
        })?;
        Ok(0)
    }
}
