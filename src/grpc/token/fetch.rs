//! Asks a server for the token of a client, when `single_fetch` starts a fetch.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::bearer::header;
use super::identity::Identity;
use super::single_fetch::{Fetch, Fetched};
use super::state::{FetchOutcome, TokenForm, TokenState, TokenStep};
use super::tokens::{ANSWER_TIMEOUT, Tokens};
use crate::error::{ErrorKind, RetryHint, ServerError, TokenRejection};
use crate::grpc::connect::connect_error::ConnectError;
use crate::grpc::connect::connection_role::ConnectionRole;
use crate::grpc::connect::urgency::Urgency;
use crate::grpc::etcd_rs_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use crate::grpc::member_condition::MemberCondition;
use crate::grpc::rpc_error::RpcError;
use crate::grpc::transport::Transport;
use crate::grpc::unary::Framed;
use crate::util::atomic::Ordering;

const LONGEST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

impl Transport {
    /// The generation of the current token. Requests sent from now on carry this token or a newer
    /// one.
    pub(crate) fn generation(&self) -> u64 {
        let tokens = self.settings.tokens.as_ref();
        tokens.map_or(0, |tokens| tokens.bearer.generation.load(Ordering::Acquire))
    }

    /// Waits until a request can be sent: with a token, if the client has a user. The caller sets
    /// the deadline. A `ConnectError` is the result of one attempt.
    pub(in crate::grpc) async fn authenticated(
        self: &Arc<Self>,
        urgency: Urgency,
    ) -> Result<(), RpcError> {
        match &self.settings.tokens {
            Some(tokens) if !self.is_authenticated() => {
                let start = |fetch| self.start_fetch(fetch, urgency);
                Box::pin(tokens.settle(self.telemetry(), TokenState::need, start)).await
            }
            _ => Ok(()),
        }
    }

    /// Whether a request can be sent without fetching a token.
    pub(in crate::grpc) fn is_authenticated(&self) -> bool {
        let tokens = self.settings.tokens.as_ref();
        tokens.is_none_or(|tokens| tokens.shared.lock().state.is_settled())
    }

    /// Waits for a new token after a server answered `refused` to a request with the token of
    /// `generation`.
    ///
    /// `Ok` means that the request may be sent again. An error is the final answer, or the failure
    /// of one attempt to fetch a token.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        generation: u64,
        refused: &ServerError,
    ) -> Result<(), RpcError> {
        let RetryHint::NewToken(rejection) = refused.retry_hint else {
            return Ok(());
        };
        let Some(tokens) = &self.settings.tokens else {
            return match rejection {
                // A client identified by a certificate has no token that could be outdated: the
                // error is temporary.
                TokenRejection::Old | TokenRejection::Denied => Ok(()),
                TokenRejection::Invalid | TokenRejection::Missing => {
                    Err(RpcError::Status(refused.clone()))
                }
            };
        };
        let rejected =
            |state: &mut TokenState, now| match state.rejected(generation, rejection, now) {
                TokenStep::Final => TokenStep::Refused(refused.clone()),
                step => step,
            };
        let start = |fetch| self.start_fetch(fetch, Urgency::Call);
        Box::pin(tokens.settle(self.telemetry(), rejected, start)).await
    }

    /// Runs the fetch in its own task: a caller that stops waiting does not cancel it for the
    /// others.
    fn start_fetch(self: &Arc<Self>, mut fetch: Fetch, urgency: Urgency) {
        let transport = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = transport.authenticate(fetch.tokens(), urgency).await;
            fetch.end(outcome);
        });
    }

    async fn authenticate(self: &Arc<Self>, tokens: &Tokens, urgency: Urgency) -> Fetched {
        let Identity::User { name, password } = &tokens.identity else {
            return Err(ConnectError::unconnected(
                "a configured token cannot be fetched",
            ));
        };
        let failed =
            |why: &str| ConnectError::unconnected(format!("authenticate user {name:?}: {why}"));
        let connection = self.dialled(ConnectionRole::Calls, urgency).await?;
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.reveal().to_owned(),
        };
        let within = match self.has_others(connection.index) {
            true => *tokens.answer_timeout.lock(),
            false => LONGEST_ANSWER_TIMEOUT,
        };
        let asking = connection.clone().unary(Framed::new(&request));
        let asked = timeout(within, asking).await;
        let Ok(answered) = asked else {
            let mut answer_timeout = tokens.answer_timeout.lock();
            *answer_timeout = (*answer_timeout * 2).min(LONGEST_ANSWER_TIMEOUT);
            self.report(ConnectionRole::Calls, &connection, MemberCondition::Silent);
            return Err(failed(&format!("no answer in {within:?}")));
        };
        *tokens.answer_timeout.lock() = ANSWER_TIMEOUT;
        let error = match answered {
            Ok(AuthenticateResponse { token, .. }) => {
                let Some(header) = header(&token) else {
                    return Err(failed(
                        "the server returned a token that is not a valid header",
                    ));
                };
                return Ok((FetchOutcome::Token(TokenForm::of(&token)), Some(header)));
            }
            Err(error) => error,
        };
        match error {
            RpcError::Connection(error) => Err(ConnectError {
                text: failed(&error.text).text,
                ..error
            }),
            RpcError::Status(answer) => {
                let member = MemberCondition::of_answer(&answer);
                self.report(ConnectionRole::Calls, &connection, member);
                if answer.is_auth_disabled() {
                    Ok((FetchOutcome::NotEnabled, None))
                } else if passes(&answer) {
                    Err(failed(&answer.text))
                } else {
                    Ok((FetchOutcome::Refused(final_answer(answer, name)), None))
                }
            }
        }
    }
}

/// Whether an answer to Authenticate concerns only the member at this moment. Every other answer is
/// final, also an unknown one: a repetition would not change it.
fn passes(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited
    )
}

/// The answer for all requests that need a token. A new token would not help them.
fn final_answer(answer: ServerError, user: &str) -> ServerError {
    ServerError {
        text: format!("{} (user {user:?})", answer.text),
        retry_hint: RetryHint::None,
        ..answer
    }
}
