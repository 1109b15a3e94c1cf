//! The verb `lead`.

use clap::Args;
use etcd_blocking::concurrency::Election;

use crate::arguments::ConnectionArguments;
use crate::failure::Outcome;
use crate::guarded::{GuardArguments, Held};

/// The arguments of `lead`.
#[derive(Args, Debug)]
#[command(after_help = "\
The command gets ETCD_LOCK_KEY, ETCD_LOCK_REV and ETCD_FENCING_TOKEN, as with `lock`, and ends in the same way if the
leadership can no longer be renewed. The election is that of etcdctl elect; `etcdctl elect -l NAME` shows its leaders.

Exit codes: that of the command; 4 not elected within --timeout; 5 lost.

Example:
  etcd-service lead scheduler --value 10.0.0.5:8080 -- ./scheduler")]
pub(crate) struct Lead {
    /// Name of the election
    name: String,
    /// What others read of the leader [default: the name of this machine]
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    #[command(flatten)]
    guard: GuardArguments,
}

impl Lead {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let name = self.name;
        let host = || {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        };
        let value = self.value.unwrap_or_else(host);
        self.guard.run(
            connection,
            "leadership",
            Box::new(move |session, timeout| {
                let election = Election::new(session, name.as_str());
                let leadership = match timeout {
                    Some(timeout) => election.campaign_timeout(value.as_str(), timeout)?,
                    None => election.campaign(value.as_str())?,
                };
                Ok(Held {
                    session: session.clone(),
                    key: String::from_utf8_lossy(leadership.key()).into_owned(),
                    token: leadership.fencing_token(),
                    release: Box::new(move || leadership.resign()),
                })
            }),
        )
    }
}
