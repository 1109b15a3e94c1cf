//! Whether an earlier attempt of a call may have been executed.
//!
//! Granting and revoking are safe to repeat, but a repetition can meet what the lost attempt did:
//! the lease that it granted, or no lease any more. That is success, if and only if there was such
//! an attempt.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::grpc::RpcError;

/// Set while it is not proven that no attempt so far was executed.
#[derive(Clone, Debug, Default)]
pub(super) struct MaybeExecuted(Arc<AtomicBool>);

impl MaybeExecuted {
    /// Runs one attempt. One that is dropped before its answer leaves doubt.
    pub(super) async fn during<T>(
        self,
        attempt: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        let before = self.0.swap(true, Relaxed);
        let result = attempt.await;
        if let Err(problem) = &result {
            let doubtful = before || problem.maybe_executed();
            self.0.store(doubtful, Relaxed);
        }
        result
    }

    pub(super) fn remains(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    fn run(doubt: &MaybeExecuted, text: &str) {
        let answer = ServerError::read(14, &format!("etcdserver: {text}"));
        let failed = std::future::ready(Err(RpcError::Answer(answer)));
        let mut attempt = std::pin::pin!(doubt.clone().during::<()>(failed));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(attempt.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn only_an_attempt_that_may_have_been_executed_leaves_doubt() {
        let doubt = MaybeExecuted::default();
        run(&doubt, "no leader");
        run(&doubt, "requested lease not found");
        assert!(!doubt.remains());
        run(&doubt, "request timed out");
        assert!(doubt.remains());
        run(&doubt, "requested lease not found");
        assert!(doubt.remains());
    }

    #[test]
    fn an_attempt_that_got_no_answer_leaves_doubt() {
        let doubt = MaybeExecuted::default();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        {
            let silent = doubt.clone().during::<()>(std::future::pending());
            assert!(std::pin::pin!(silent).as_mut().poll(&mut cx).is_pending());
        }
        assert!(doubt.remains());
    }
}
