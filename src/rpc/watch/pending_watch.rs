//! Watches that the server has not created yet.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::command::{Command, CommandSender};
use crate::error::{Error, ErrorKind, Operation, Result};

/// A watch that the server has not created yet.
#[derive(Debug)]
pub(super) struct PendingWatch {
    created: oneshot::Receiver<Result<()>>,
    about: Operation,
}

impl PendingWatch {
    pub(super) fn new(created: oneshot::Receiver<Result<()>>, about: Operation) -> Self {
        PendingWatch { created, about }
    }
}

/// Waits until the server has created all of them, or has refused one.
pub(super) async fn all_created(
    watches: Vec<PendingWatch>,
    task: CommandSender,
    timeout: Duration,
) -> Result<()> {
    let begun = Instant::now();
    let deadline = begun + timeout;
    for PendingWatch { created, about } in watches {
        match tokio::time::timeout_at(deadline.into(), created).await {
            Ok(Ok(result)) => result.map_err(|error| error.or_operation(&about))?,
            Ok(Err(_)) => return Err(Error::closed().operation(about)),
            Err(_) => return Err(not_created(&task, about, begun, timeout).await),
        }
    }
    Ok(())
}

async fn not_created(
    task: &CommandSender,
    about: Operation,
    begun: Instant,
    timeout: Duration,
) -> Error {
    let (reply, cause) = oneshot::channel();
    task.send_if_running(Command::LastFailure(reply));
    let cause = cause.await.ok().flatten();
    let kind = match cause {
        Some(_) => ErrorKind::Unavailable,
        None => ErrorKind::Timeout,
    };
    let reason = format!("the server did not create the watch in {timeout:?}; it is cancelled");
    let error = Error::new(kind, reason)
        .operation(about)
        .tried(1, begun.elapsed());
    match cause {
        Some(cause) => error.last(cause),
        None => error,
    }
}
