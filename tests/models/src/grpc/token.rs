//! The files of `src/grpc/token` that contact no server, and their models.

#[path = "../../../../src/grpc/token/bearer.rs"]
pub(super) mod bearer;
#[path = "../../../../src/grpc/token/identity.rs"]
pub(crate) mod identity;
#[path = "../../../../src/grpc/token/single_fetch.rs"]
mod single_fetch;
#[path = "../../../../src/grpc/token/state.rs"]
mod state;
#[path = "../../../../src/grpc/token/tokens.rs"]
pub(crate) mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stand_ins::{block_on, thread};

use self::bearer::{Bearer, header};
use self::identity::Identity;
use self::single_fetch::Fetch;
use self::state::{FetchOutcome, TokenForm, TokenState, TokenStep};
use self::tokens::Tokens;
use crate::error::TokenRejection;
use crate::grpc::rpc_error::RpcError;
use crate::harness::Model;
use crate::observe::Telemetry;
use crate::util::atomic::Ordering;
use crate::util::secret::Secret;

pub(super) const MODELS: &[Model] = &[
    Model::interrupted("token: two requests need the first one", 3, first_token),
    Model::interrupted("token: two requests were refused", 2, refused_twice),
    Model::every_order("token: the fetch is dropped", fetch_dropped),
    Model::every_order(
        "token: a request has the token of its generation",
        generation,
    ),
];

/// Tokens, and the number of fetches.
struct Client {
    tokens: Arc<Tokens>,
    telemetry: Arc<Telemetry>,
    fetches: AtomicUsize,
}

impl Client {
    fn new() -> Arc<Self> {
        let identity = Identity::User {
            name: "root".into(),
            password: Secret::new("secret"),
        };
        Arc::new(Client {
            tokens: Tokens::new(identity),
            telemetry: Arc::default(),
            fetches: AtomicUsize::new(0),
        })
    }

    /// A fetch on a thread of its own, as a task of another thread that drives.
    fn start(&self, mut fetch: Fetch) {
        let number = self.fetches.fetch_add(1, Relaxed) + 1;
        thread::spawn(move || {
            let header = header(&format!("token.{number}"));
            fetch.end(Ok((FetchOutcome::Token(TokenForm::Simple), header)));
        });
    }

    fn need(&self) -> Result<(), RpcError> {
        block_on(
            self.tokens
                .settle(&self.telemetry, TokenState::need, |fetch| self.start(fetch)),
        )
    }

    /// The server has refused the token of this generation.
    fn renew(&self, generation: u64) -> Result<(), RpcError> {
        let rejected =
            |state: &mut TokenState, now| state.rejected(generation, TokenRejection::Invalid, now);
        block_on(
            self.tokens
                .settle(&self.telemetry, rejected, |fetch| self.start(fetch)),
        )
    }

    fn generation(&self) -> u64 {
        self.tokens.bearer.generation.load(Ordering::Acquire)
    }
}

fn first_token() {
    let client = Client::new();
    let there = Arc::clone(&client);
    let other = thread::spawn(move || {
        there.need().unwrap();
        assert_eq!(there.generation(), 1);
    });
    client.need().unwrap();
    assert_eq!(client.generation(), 1);
    other.join().unwrap();
    assert_eq!(client.fetches.load(Relaxed), 1);
}

fn refused_twice() {
    let client = Client::new();
    // The first token is old, so that the next fetch is not delayed.
    let before = Instant::now() - Duration::from_secs(2);
    let outcome = FetchOutcome::Token(TokenForm::Simple);
    client
        .tokens
        .shared
        .lock()
        .state
        .fetched(outcome, before, 0.5);
    client.tokens.bearer.set(header("token.0"), 1);
    let there = Arc::clone(&client);
    let other = thread::spawn(move || {
        there.renew(1).unwrap();
        assert_eq!(there.generation(), 2);
    });
    client.renew(1).unwrap();
    assert_eq!(client.generation(), 2);
    other.join().unwrap();
    assert_eq!(client.fetches.load(Relaxed), 1);
}

/// The runtime ends: the request does not wait for ever.
fn fetch_dropped() {
    let client = Client::new();
    let start = |fetch: Fetch| drop(thread::spawn(move || drop(fetch)));
    let settled = block_on(
        client
            .tokens
            .settle(&client.telemetry, TokenState::need, start),
    );
    assert!(matches!(settled, Err(RpcError::Connection(_))));
    let later = Instant::now() + Duration::from_secs(60);
    let next = client.tokens.shared.lock().state.need(later);
    assert_eq!(next, TokenStep::Fetch, "a later request fetches again");
}

/// A request that reads a generation sends the token of that generation, or a newer one.
fn generation() {
    let bearer = Arc::new(Bearer::default());
    let there = Arc::clone(&bearer);
    let setting = thread::spawn(move || {
        there.set(header("1"), 1);
        there.set(header("2"), 2);
    });
    let generation = bearer.generation.load(Ordering::Acquire);
    let mut request = http::Request::builder().uri("/").body(()).unwrap();
    bearer.attach_token(&mut request);
    let sent = request
        .headers()
        .get("token")
        .map_or(0, |token| token.to_str().unwrap().parse().unwrap());
    assert!(sent >= generation, "{sent} {generation}");
    setting.join().unwrap();
}
