//! The token of a client, shared by all of its connections.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::bearer::{Bearer, header};
use super::identity::Identity;
use super::state::{FetchOutcome, TokenForm, TokenState};
use crate::grpc::connect::connect_error::ConnectError;
use crate::util::jitter;

/// How long a member may take to check a password when there is another member. The check needs a
/// quorum and up to 100 ms of CPU, more with a `--bcrypt-cost` above the default.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The token of a client and the state of its fetches.
pub(crate) struct Tokens {
    pub(super) identity: Identity,
    pub(super) bearer: Arc<Bearer>,
    pub(super) shared: Mutex<Shared>,
    pub(super) answer_timeout: Mutex<Duration>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: TokenState,
    /// The result of the running or last fetch.
    pub(super) fetch_result: watch::Receiver<FetchResult>,
}

/// `None` while the fetch is running.
pub(super) type FetchResult = Option<Result<(), ConnectError>>;

impl Tokens {
    pub(crate) fn new(identity: Identity) -> Arc<Self> {
        let bearer = Bearer::default();
        let state = match &identity {
            Identity::User { .. } => TokenState::fetched_by_need(),
            Identity::Token(token) => {
                bearer.set(header(token.reveal()), 1);
                TokenState::fixed(TokenForm::of(token.reveal()))
            }
        };
        Arc::new(Tokens {
            identity,
            bearer: Arc::new(bearer),
            shared: Mutex::new(Shared {
                state,
                fetch_result: watch::channel(None).1,
            }),
            answer_timeout: Mutex::new(ANSWER_TIMEOUT),
        })
    }

    pub(in crate::grpc) fn bearer(&self) -> Arc<Bearer> {
        Arc::clone(&self.bearer)
    }

    /// Records the result of a fetch.
    pub(super) fn fetched(&self, outcome: FetchOutcome, header: Option<HeaderValue>) {
        let state = &mut self.shared.lock().state;
        let keep = matches!(outcome, FetchOutcome::Failed);
        state.fetched(outcome, Instant::now(), jitter::fraction());
        if !keep {
            self.bearer.set(header, state.generation());
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("identity", &self.identity)
            .field("state", &self.shared.lock().state)
            .finish_non_exhaustive()
    }
}
