//! Lets requests wait for a token, and runs one fetch at a time for all of them.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::state::{FetchOutcome, TokenState, TokenStep};
use super::tokens::{FetchResult, Tokens};
use crate::error::{Error, ErrorKind};
use crate::grpc::connect::connect_error::ConnectError;
use crate::grpc::rpc_error::RpcError;
use crate::observe::Telemetry;

/// The answer to a fetch: the outcome with the header of a new token, or the failure of the attempt.
pub(super) type Fetched = Result<(FetchOutcome, Option<HeaderValue>), ConnectError>;

impl Tokens {
    /// Asks for the next step until a request can be sent. `start` runs a fetch in a task of its own: a
    /// caller that stops waiting does not cancel it for the others.
    pub(super) async fn settle(
        self: &Arc<Self>,
        telemetry: &Arc<Telemetry>,
        ask: impl Fn(&mut TokenState, Instant) -> TokenStep,
        start: impl Fn(Fetch),
    ) -> Result<(), RpcError> {
        loop {
            let (step, mut fetch_result) = self.step(telemetry, &ask, &start);
            match step {
                TokenStep::Go | TokenStep::Final => return Ok(()),
                TokenStep::Refused(answer) => return Err(RpcError::Status(answer)),
                TokenStep::Wait(until) => sleep_until(until.into()).await,
                TokenStep::Fetch | TokenStep::Join => {
                    let over = fetch_result.wait_for(Option::is_some).await;
                    match over.ok().and_then(|fetch_result| fetch_result.clone()) {
                        Some(Ok(())) => {}
                        Some(Err(error)) => return Err(RpcError::Connection(error)),
                        None => return Err(RpcError::Connection(dropped())),
                    }
                }
            }
        }
    }

    /// Decides the next step, and starts a fetch if that is due.
    fn step(
        self: &Arc<Self>,
        telemetry: &Arc<Telemetry>,
        ask: impl Fn(&mut TokenState, Instant) -> TokenStep,
        start: impl Fn(Fetch),
    ) -> (TokenStep, watch::Receiver<FetchResult>) {
        let mut shared = self.shared.lock();
        let step = ask(&mut shared.state, Instant::now());
        if step != TokenStep::Fetch {
            return (step, shared.fetch_result.clone());
        }
        let (sender, fetch_result) = watch::channel(None);
        shared.fetch_result = fetch_result.clone();
        drop(shared);
        // Without the lock: a fetch that is dropped at once takes it.
        start(Fetch {
            tokens: Arc::clone(self),
            telemetry: Arc::clone(telemetry),
            over: false,
            sender,
        });
        (step, fetch_result)
    }
}

/// A running fetch. Dropping it before its end reports a failure.
pub(super) struct Fetch {
    tokens: Arc<Tokens>,
    telemetry: Arc<Telemetry>,
    over: bool,
    sender: watch::Sender<FetchResult>,
}

impl Fetch {
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Records the answer, and passes it to everyone who waits.
    pub(super) fn end(&mut self, fetched: Fetched) {
        self.over = true;
        let failure = match &fetched {
            Ok((FetchOutcome::Refused(answer), _)) => Some((answer.kind, &answer.text)),
            Ok(_) => None,
            Err(error) => Some((ErrorKind::Unavailable, &error.text)),
        };
        let failure = failure.map(|(kind, text)| Error::new(kind, text.clone()));
        self.telemetry.token_refreshed(failure.as_ref());
        let fetch_result = match fetched {
            Ok((outcome, header)) => {
                self.tokens.fetched(outcome, header);
                Ok(())
            }
            Err(error) => {
                self.tokens.fetched(FetchOutcome::Failed, None);
                Err(error)
            }
        };
        self.sender.send_replace(Some(fetch_result));
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.over {
            self.end(Err(dropped()));
        }
    }
}

fn dropped() -> ConnectError {
    ConnectError::unconnected("the token request was dropped")
}
