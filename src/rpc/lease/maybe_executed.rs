//! Whether an earlier attempt of a call may have been executed.
//!
//! Granting and revoking are repeated when an attempt fails. A repetition can find the effect of an
//! earlier attempt whose answer was lost: the granted lease, or no lease any more. That is success if
//! an earlier attempt may have been executed, and an error otherwise.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::grpc::RpcError;

/// True when an attempt so far may have been executed.
#[derive(Clone, Debug, Default)]
pub(super) struct MaybeExecuted(Arc<AtomicBool>);

impl MaybeExecuted {
    /// Runs one attempt. An attempt that is dropped before its answer may have been executed.
    pub(super) async fn attempt<T>(
        self,
        attempt: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        // Set before the attempt: an attempt that is cancelled by the deadline may be executed.
        let before = self.0.swap(true, Relaxed);
        let result = attempt.await;
        if let Err(error) = &result {
            // A proof for this attempt is none for the attempts before it.
            let may_be = before || error.maybe_executed();
            self.0.store(may_be, Relaxed);
        }
        result
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    fn run(executed: &MaybeExecuted, text: &str) {
        let answer = ServerError::read(14, &format!("etcdserver: {text}"));
        let failed = std::future::ready(Err(RpcError::Status(answer)));
        let mut attempt = std::pin::pin!(executed.clone().attempt::<()>(failed));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(attempt.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn an_attempt_counts_only_if_it_may_have_been_executed() {
        let executed = MaybeExecuted::default();
        run(&executed, "no leader");
        run(&executed, "requested lease not found");
        assert!(!executed.get());
        run(&executed, "request timed out");
        assert!(executed.get());
        run(&executed, "requested lease not found");
        assert!(executed.get());
    }

    #[test]
    fn an_attempt_without_an_answer_may_have_been_executed() {
        let executed = MaybeExecuted::default();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        {
            let silent = executed.clone().attempt::<()>(std::future::pending());
            assert!(std::pin::pin!(silent).as_mut().poll(&mut cx).is_pending());
        }
        assert!(executed.get());
    }
}
