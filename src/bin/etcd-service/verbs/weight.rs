//! The verb `weight`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};
use crate::operator_change::TargetArguments;

/// The arguments of `weight`.
#[derive(Args, Debug)]
#[command(
    override_usage = "etcd-service weight [OPTIONS] SERVICE ID WEIGHT\n       etcd-service weight [OPTIONS] SERVICE --addr HOST:PORT WEIGHT"
)]
#[command(after_help = "\
The weight stays, also over restarts of the program. A status that was set by `drain` stays, too. With 0, an instance \
gets no new calls. `default` stands for the weight that the program has set.

Examples:
  etcd-service weight web api-7 10
  etcd-service weight web --addr 10.0.0.5:8080 0
  etcd-service weight web api-7 default

Exit codes: 0 done; 1 there is no such instance, or etcd did not answer; 2 the weight is no number.")]
pub(crate) struct Weight {
    /// The service
    service: String,
    /// The id of the instance (not with --addr), and the weight: a number, or `default`
    #[arg(value_names = ["ID", "WEIGHT"], num_args = 1..=2, required = true)]
    id_and_weight: Vec<String>,
    #[command(flatten)]
    targets: TargetArguments,
}

impl Weight {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let Some((weight, ids)) = self.id_and_weight.split_last() else {
            return Err(Failure::usage("the weight is missing"));
        };
        let weight = match weight.as_str() {
            "default" => None,
            number => Some(number.parse::<u32>().map_err(|_| {
                Failure::usage(format!(
                    "{number:?} is no weight: give a number from 0 to {}, or default",
                    u32::MAX
                ))
            })?),
        };
        let targets = self.targets.find(connection, &self.service, ids)?;
        targets.change(|setting| setting.weight = weight)?;
        Ok(0)
    }
}
