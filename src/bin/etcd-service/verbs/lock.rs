//! The verb `lock`.

use clap::Args;
use etcd_blocking::concurrency::Mutex;

use crate::arguments::ConnectionArguments;
use crate::failure::Outcome;
use crate::guarded::{GuardArguments, Held};

/// The arguments of `lock`.
#[derive(Args, Debug)]
#[command(after_help = "\
The command gets ETCD_LOCK_KEY, ETCD_LOCK_REV and ETCD_FENCING_TOKEN, a number that is greater for each next holder. If
the lock can no longer be renewed, the command gets SIGTERM when a third of --ttl is left, and SIGKILL before the
next holder can have the lock, also when etcd-service itself is stopped. The lock is that of etcdctl lock.

Exit codes: that of the command; 4 not acquired within --timeout; 5 lost.

Example:
  etcd-service lock nightly --timeout 1s -- ./report.sh")]
pub(crate) struct Lock {
    /// Name of the lock
    name: String,
    #[command(flatten)]
    guard: GuardArguments,
}

impl Lock {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let name = self.name;
        self.guard.run(
            connection,
            "lock",
            Box::new(move |session, timeout| {
                let mutex = Mutex::new(session, name.as_str());
                let guard = match timeout {
                    Some(timeout) => mutex.lock_timeout(timeout)?,
                    None => mutex.lock()?,
                };
                Ok(Held {
                    session: session.clone(),
                    key: String::from_utf8_lossy(guard.key()).into_owned(),
                    token: guard.fencing_token(),
                    release: Box::new(move || guard.unlock()),
                })
            }),
        )
    }
}
