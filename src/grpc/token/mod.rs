//! The token of a client: fetched once, shared by everything that is sent, renewed when a server
//! refuses it.
//!
//! The header is added by the [`Connection`](super::Connection) to all that it sends, so no call can
//! forget it. `state` decides; this file asks the server.

mod state;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use self::state::{Fetched, Form, State, Step};
use super::{
    ConnectError, ConnectionRole, Demand, Framed, RpcError, Suspicion, Transport, suspicion,
};
use crate::error::{Complaint, Error, ErrorKind, Remedy, Result, ServerError};
use crate::grpc::etcd_rs_proto::Unary as _;
use crate::grpc::etcd_rs_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use crate::observe::Observer;
use crate::util::jitter;
use crate::util::secret::Secret;

/// etcd reads `token` and `authorization`; this is what its own clients send.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// The one call that goes without: servers before 3.4.11 refuse it with a token that has expired.
const AUTHENTICATE: &str = AuthenticateRequest::PATH;

/// How long a member may take to check a password when there is another one to ask. It needs a
/// quorum and up to 100 ms of CPU, and more with a `--bcrypt-cost` above the default.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// Who a client is.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// A user with a password, which is exchanged for a token.
    User { name: String, password: Secret },
    /// A token from elsewhere.
    Token(Secret),
}

impl Identity {
    /// Refuses what can never work.
    pub(crate) fn check(&self) -> Result<()> {
        let problem = match self {
            Identity::User { name, .. } if name.is_empty() => "the user name is empty",
            Identity::User { password, .. } if password.reveal().is_empty() => {
                "the password is empty; etcd takes none that is"
            }
            Identity::Token(token) if token.reveal().is_empty() => "the token is empty",
            Identity::Token(token) if header(token.reveal()).is_none() => {
                "the token holds characters that no token has"
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(problem))
    }
}

/// The token as it goes out; what the connections of a client share.
#[derive(Debug, Default)]
pub(crate) struct Bearer {
    header: RwLock<Option<HeaderValue>>,
    generation: AtomicU64,
}

impl Bearer {
    fn set(&self, header: Option<HeaderValue>, generation: u64) {
        *self.header.write() = header;
        // After the header: who has read this number sends that token, or a newer one.
        self.generation.store(generation, Ordering::Release);
    }

    /// Adds the token to a request, if there is one.
    pub(super) fn attach_token<T>(&self, request: &mut http::Request<T>) {
        if request.uri().path() == AUTHENTICATE {
            return;
        }
        let header = self.header.read().clone();
        if let Some(header) = header {
            request.headers_mut().insert(TOKEN, header);
        }
    }
}

/// The header for a token. Marked as sensitive, it neither prints nor enters a compression table.
fn header(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(token).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The token of a client, and how to get another.
pub(crate) struct Tokens {
    identity: Identity,
    bearer: Arc<Bearer>,
    shared: Mutex<Shared>,
    patience: Mutex<Duration>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    /// How the fetch that is on its way went.
    round: watch::Receiver<Round>,
}

/// Not over yet, or over.
type Round = Option<Result<(), ConnectError>>;

impl Tokens {
    pub(crate) fn new(identity: Identity) -> Arc<Self> {
        let bearer = Bearer::default();
        let state = match &identity {
            Identity::User { .. } => State::fetched_by_need(),
            Identity::Token(token) => {
                bearer.set(header(token.reveal()), 1);
                State::fixed(Form::of(token.reveal()))
            }
        };
        Arc::new(Tokens {
            identity,
            bearer: Arc::new(bearer),
            shared: Mutex::new(Shared {
                state,
                round: watch::channel(None).1,
            }),
            patience: Mutex::new(PATIENCE),
        })
    }

    pub(super) fn bearer(&self) -> Arc<Bearer> {
        Arc::clone(&self.bearer)
    }

    /// Takes note of how a fetch went.
    fn fetched(&self, outcome: Fetched, header: Option<HeaderValue>) {
        let state = &mut self.shared.lock().state;
        let keep = matches!(outcome, Fetched::Failed);
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

impl Transport {
    /// The number of the token that whatever is sent from now on carries, or of one before it.
    pub(crate) fn generation(&self) -> u64 {
        let tokens = self.settings.tokens.as_ref();
        tokens.map_or(0, |tokens| tokens.bearer.generation.load(Ordering::Acquire))
    }

    /// Waits until a request can go: with a token, if this client has a user. As with a connection,
    /// the caller brings the deadline, and an error that is a fault is that of one attempt.
    pub(super) async fn identified(self: &Arc<Self>, demand: Demand) -> Result<(), RpcError> {
        match &self.settings.tokens {
            Some(tokens) if !self.is_identified() => {
                Box::pin(self.settle(tokens, demand, State::need)).await
            }
            _ => Ok(()),
        }
    }

    /// Whether a request can go at once, as far as its token is concerned.
    pub(super) fn is_identified(&self) -> bool {
        let tokens = self.settings.tokens.as_ref();
        tokens.is_none_or(|tokens| tokens.shared.lock().state.is_settled())
    }

    /// A server answered `refused` to what carried the token of `generation`: waits for another token.
    ///
    /// `Ok` says that the request may be sent again. An error is the answer that stands, or the
    /// fault of one attempt to get a token.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        generation: u64,
        refused: &ServerError,
    ) -> Result<(), RpcError> {
        let Remedy::Token(complaint) = refused.remedy else {
            return Ok(());
        };
        let Some(tokens) = &self.settings.tokens else {
            return match complaint {
                // Whose identity is a certificate has no token that could be old: it is the moment.
                Complaint::Old | Complaint::Denied => Ok(()),
                Complaint::Invalid | Complaint::Missing => Err(RpcError::Answer(refused.clone())),
            };
        };
        let complain = |state: &mut State, now| match state.complain(generation, complaint, now) {
            Step::Final => Step::Refused(refused.clone()),
            step => step,
        };
        Box::pin(self.settle(tokens, Demand::Call, complain)).await
    }

    async fn settle(
        self: &Arc<Self>,
        tokens: &Arc<Tokens>,
        demand: Demand,
        ask: impl Fn(&mut State, Instant) -> Step,
    ) -> Result<(), RpcError> {
        loop {
            let (step, mut round) = self.step(tokens, demand, &ask);
            match step {
                Step::Go | Step::Final => return Ok(()),
                Step::Refused(answer) => return Err(RpcError::Answer(answer)),
                Step::Wait(until) => sleep_until(until.into()).await,
                Step::Fetch | Step::Join => {
                    let over = round.wait_for(Option::is_some).await;
                    match over.ok().and_then(|round| round.clone()) {
                        Some(Ok(())) => {}
                        Some(Err(fault)) => return Err(RpcError::ConnectError(fault)),
                        None => return Err(RpcError::ConnectError(dropped())),
                    }
                }
            }
        }
    }

    /// What is to be done; a fetch is begun.
    fn step(
        self: &Arc<Self>,
        tokens: &Arc<Tokens>,
        demand: Demand,
        ask: impl Fn(&mut State, Instant) -> Step,
    ) -> (Step, watch::Receiver<Round>) {
        let mut shared = tokens.shared.lock();
        let step = ask(&mut shared.state, Instant::now());
        if step == Step::Fetch {
            let (sender, round) = watch::channel(None);
            shared.round = round;
            self.start_fetch(tokens, demand, sender);
        }
        (step, shared.round.clone())
    }

    /// In a task of its own: those who wait for it may give up, and others go on waiting.
    fn start_fetch(
        self: &Arc<Self>,
        tokens: &Arc<Tokens>,
        demand: Demand,
        sender: watch::Sender<Round>,
    ) {
        let mut fetch = Fetch {
            tokens: Arc::clone(tokens),
            observer: Arc::clone(self.observer()),
            over: false,
            sender,
        };
        let transport = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = transport.authenticate(&fetch.tokens, demand).await;
            fetch.end(outcome);
        });
    }

    async fn authenticate(self: &Arc<Self>, tokens: &Tokens, demand: Demand) -> Outcome {
        let Identity::User { name, password } = &tokens.identity else {
            return Err(ConnectError::unconnected(
                "a token that was given cannot be fetched",
            ));
        };
        let failed =
            |why: &str| ConnectError::unconnected(format!("authenticate user {name:?}: {why}"));
        let connection = self.dialled(ConnectionRole::Calls, demand).await?;
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.reveal().to_owned(),
        };
        let within = match self.has_others(connection.index) {
            true => *tokens.patience.lock(),
            false => LONGEST_PATIENCE,
        };
        let asking = connection.clone().ask(Framed::new(&request));
        let asked = timeout(within, asking).await;
        let Ok(answered) = asked else {
            let mut patience = tokens.patience.lock();
            *patience = (*patience * 2).min(LONGEST_PATIENCE);
            self.report(ConnectionRole::Calls, &connection, Suspicion::Silent);
            return Err(failed(&format!("no answer in {within:?}")));
        };
        *tokens.patience.lock() = PATIENCE;
        let problem = match answered {
            Ok(AuthenticateResponse { token, .. }) => {
                let Some(header) = header(&token) else {
                    return Err(failed("the server gave a token that no header can hold"));
                };
                return Ok((Fetched::Token(Form::of(&token)), Some(header)));
            }
            Err(problem) => problem,
        };
        match problem {
            RpcError::ConnectError(fault) => Err(ConnectError {
                text: failed(&fault.text).text,
                ..fault
            }),
            RpcError::Answer(answer) => {
                let member = suspicion(&answer);
                self.report(ConnectionRole::Calls, &connection, member);
                match answer.kind {
                    ErrorKind::FailedPrecondition
                        if answer.text.ends_with("authentication is not enabled") =>
                    {
                        Ok((Fetched::NotEnabled, None))
                    }
                    _ if passes(&answer) => Err(failed(&answer.text)),
                    _ => Ok((Fetched::Refused(final_answer(answer, name)), None)),
                }
            }
        }
    }
}

/// Whether an answer to Authenticate is about the member at this moment, and says nothing about the
/// user. Any other one stands, also of a kind that nobody knows: asking again would not change it.
fn passes(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited
    )
}

/// The answer for all who wanted a token. No other token would help them.
fn final_answer(answer: ServerError, user: &str) -> ServerError {
    ServerError {
        text: format!("{} (user {user:?})", answer.text),
        remedy: Remedy::None,
        ..answer
    }
}

/// What a fetch brought, or why it brought nothing.
type Outcome = Result<(Fetched, Option<HeaderValue>), ConnectError>;

/// A fetch that is on its way. One that is dropped has failed.
struct Fetch {
    tokens: Arc<Tokens>,
    observer: Arc<Observer>,
    over: bool,
    sender: watch::Sender<Round>,
}

impl Fetch {
    fn end(&mut self, outcome: Outcome) {
        self.over = true;
        let failure = match &outcome {
            Ok((Fetched::Refused(answer), _)) => Some((answer.kind, &answer.text)),
            Ok(_) => None,
            Err(fault) => Some((ErrorKind::Unavailable, &fault.text)),
        };
        let failure = failure.map(|(kind, text)| Error::new(kind, text.clone()));
        self.observer.token_refreshed(failure.as_ref());
        let round = match outcome {
            Ok((fetched, header)) => {
                self.tokens.fetched(fetched, header);
                Ok(())
            }
            Err(fault) => {
                self.tokens.fetched(Fetched::Failed, None);
                Err(fault)
            }
        };
        self.sender.send_replace(Some(round));
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
    ConnectError::unconnected("the attempt to get a token was dropped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> http::Request<()> {
        http::Request::builder().uri(path).body(()).unwrap()
    }

    #[test]
    fn everything_but_authenticate_carries_the_token_and_it_does_not_print() {
        let bearer = Bearer::default();
        let mut put = request("/etcdserverpb.KV/Put");
        bearer.attach_token(&mut put);
        assert!(put.headers().is_empty(), "there is none yet");
        bearer.set(header("canary-4711"), 1);
        bearer.attach_token(&mut put);
        assert_eq!(put.headers().get(TOKEN).unwrap(), "canary-4711");
        let printed = format!("{:?} {bearer:?}", put.headers());
        assert!(
            !printed.contains("canary") && printed.contains("Sensitive"),
            "{printed}"
        );
        let mut authenticate = request(AUTHENTICATE);
        bearer.attach_token(&mut authenticate);
        assert!(authenticate.headers().is_empty());
    }
}
