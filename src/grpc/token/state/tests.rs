//! The rules one by one, and many callers against a server whose users and roles change.

use super::*;
use crate::error::ServerError;

fn refusal() -> ServerError {
    ServerError::read(
        3,
        "etcdserver: authentication failed, invalid user ID or password",
    )
}

fn fetched(state: &mut TokenState, outcome: FetchOutcome, now: Instant) {
    assert!(state.fetching, "nobody fetches");
    state.fetched(outcome, now, 0.5);
}

fn with_token(form: TokenForm) -> (TokenState, Instant) {
    let (mut state, now) = (TokenState::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), TokenStep::Fetch);
    fetched(&mut state, FetchOutcome::Token(form), now);
    (state, now + STABLE_AFTER)
}

#[test]
fn the_first_request_fetches_a_token_and_the_others_wait() {
    let (mut state, now) = (TokenState::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), TokenStep::Fetch);
    assert_eq!(state.need(now), TokenStep::Join);
    fetched(&mut state, FetchOutcome::Token(TokenForm::Simple), now);
    assert_eq!((state.need(now), state.generation()), (TokenStep::Go, 1));
}

#[test]
fn a_rejection_of_an_older_token_uses_the_newer_one() {
    let (mut state, now) = with_token(TokenForm::Simple);
    assert_eq!(
        state.rejected(1, TokenRejection::Invalid, now),
        TokenStep::Fetch
    );
    assert_eq!(
        state.rejected(1, TokenRejection::Missing, now),
        TokenStep::Join
    );
    fetched(&mut state, FetchOutcome::Token(TokenForm::Simple), now);
    assert_eq!(
        state.rejected(1, TokenRejection::Invalid, now),
        TokenStep::Go
    );
    assert_eq!(state.generation(), 2);
}

#[test]
fn an_old_auth_revision_renews_a_jwt_and_keeps_a_simple_token() {
    let (mut state, now) = with_token(TokenForm::Simple);
    assert_eq!(state.rejected(1, TokenRejection::Old, now), TokenStep::Go);
    let (mut state, now) = with_token(TokenForm::Jwt);
    assert_eq!(
        state.rejected(1, TokenRejection::Old, now),
        TokenStep::Fetch
    );
}

#[test]
fn a_wrong_password_is_checked_again_after_growing_waits() {
    let (mut state, mut now) = (TokenState::fetched_by_need(), Instant::now());
    for pause in [5, 10, 20, 30, 30] {
        assert_eq!(state.need(now), TokenStep::Fetch);
        fetched(&mut state, FetchOutcome::Refused(refusal()), now);
        let pause = Duration::from_secs(pause);
        assert_eq!(state.need(now), TokenStep::Refused(refusal()));
        let almost = now + pause - Duration::from_millis(1);
        assert_eq!(state.need(almost), TokenStep::Refused(refusal()));
        assert_eq!(
            state.rejected(0, TokenRejection::Missing, almost),
            TokenStep::Refused(refusal())
        );
        now += pause;
    }
    assert_eq!(state.need(now), TokenStep::Fetch);
    fetched(&mut state, FetchOutcome::Token(TokenForm::Simple), now);
    assert_eq!(
        state.rejected(1, TokenRejection::Invalid, now + STABLE_AFTER),
        TokenStep::Fetch
    );
    fetched(
        &mut state,
        FetchOutcome::Refused(refusal()),
        now + STABLE_AFTER,
    );
    let again = now + STABLE_AFTER + Duration::from_secs(5);
    assert_eq!(
        state.need(again),
        TokenStep::Fetch,
        "a new series begins at 5 s"
    );
}

#[test]
fn any_other_refusal_is_kept_briefly_and_does_not_remove_the_token() {
    let unknown = ServerError::read(2, "auth: something new");
    let (mut state, mut now) = (TokenState::fetched_by_need(), Instant::now());
    for _ in 0..20 {
        assert_eq!(state.need(now), TokenStep::Fetch);
        fetched(&mut state, FetchOutcome::Refused(unknown.clone()), now);
        assert_eq!(state.need(now), TokenStep::Refused(unknown.clone()));
        now += Duration::from_secs(1);
    }
    let (mut state, now) = with_token(TokenForm::Simple);
    assert_eq!(
        state.rejected(1, TokenRejection::Invalid, now),
        TokenStep::Fetch
    );
    fetched(&mut state, FetchOutcome::Refused(unknown.clone()), now);
    assert_eq!(
        state.need(now),
        TokenStep::Go,
        "the token may be good elsewhere"
    );
    let refused = TokenStep::Refused(unknown);
    assert_eq!(state.rejected(1, TokenRejection::Invalid, now), refused);
}

#[test]
fn without_authentication_no_token_is_fetched_until_one_is_missing() {
    let (mut state, now) = (TokenState::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), TokenStep::Fetch);
    fetched(&mut state, FetchOutcome::NotEnabled, now);
    assert_eq!(state.need(now), TokenStep::Go);
    assert_eq!(
        state.rejected(1, TokenRejection::Missing, now + STABLE_AFTER),
        TokenStep::Fetch
    );
}

#[test]
fn a_failed_fetch_is_repeated_after_a_growing_wait() {
    let (mut state, mut now) = (TokenState::fetched_by_need(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(state.need(now), TokenStep::Fetch);
        fetched(&mut state, FetchOutcome::Failed, now);
        let TokenStep::Wait(until) = state.need(now) else {
            panic!("at once again");
        };
        waits.push(until - now);
        now = until;
    }
    assert!(
        waits.is_sorted() && waits[7] <= Duration::from_secs(1),
        "{waits:?}"
    );
}

#[test]
fn fetches_are_spaced_while_every_token_is_rejected() {
    let (mut state, begun) = (TokenState::fetched_by_need(), Instant::now());
    let (mut now, mut fetches) = (begun, 0);
    while now < begun + Duration::from_secs(60) {
        match state.rejected(state.generation(), TokenRejection::Invalid, now) {
            TokenStep::Fetch => {
                fetches += 1;
                fetched(&mut state, FetchOutcome::Token(TokenForm::Jwt), now);
            }
            TokenStep::Wait(until) => now = until,
            step => panic!("{step:?}"),
        }
        now += Duration::from_millis(1);
    }
    assert!((60..=140).contains(&fetches), "{fetches}");
}

#[test]
fn a_given_token_is_never_fetched() {
    let now = Instant::now();
    let mut state = TokenState::fixed(TokenForm::Jwt);
    assert_eq!(state.need(now), TokenStep::Go);
    for rejection in [
        TokenRejection::Invalid,
        TokenRejection::Missing,
        TokenRejection::Old,
    ] {
        assert_eq!(state.rejected(1, rejection, now), TokenStep::Final);
    }
    assert_eq!(
        state.rejected(1, TokenRejection::Denied, now),
        TokenStep::Go
    );
    let mut simple = TokenState::fixed(TokenForm::Simple);
    assert_eq!(simple.rejected(1, TokenRejection::Old, now), TokenStep::Go);
}

#[test]
fn a_denial_that_the_token_may_have_caused_is_checked_once_with_a_new_one() {
    let (mut state, now) = with_token(TokenForm::Simple);
    assert_eq!(
        state.rejected(1, TokenRejection::Denied, now),
        TokenStep::Fetch
    );
    fetched(&mut state, FetchOutcome::Token(TokenForm::Simple), now);
    assert_eq!(
        state.rejected(2, TokenRejection::Denied, now),
        TokenStep::Go
    );
}

#[test]
fn a_jwt_has_three_parts() {
    assert_eq!(TokenForm::of("eyJh.eyJl.c2ln"), TokenForm::Jwt);
    assert_eq!(TokenForm::of("nUxSLqDIvMFPocRX.17"), TokenForm::Simple);
    assert_eq!(TokenForm::of(""), TokenForm::Simple);
}

/// A model server: the generation of token that it accepts, and whether the password is right.
struct Server {
    valid: u64,
    right: bool,
}

/// Callers that each send a request with the token of some generation.
#[test]
fn in_any_order_of_events_one_token_is_fetched_at_a_time_and_only_for_a_reason() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut state, begun) = (TokenState::fetched_by_need(), Instant::now());
        let mut now = begun;
        let mut server = Server {
            valid: 0,
            right: true,
        };
        let (mut fetching, mut fetches, mut expiries, mut refused_fetches) =
            (false, 0u32, 0u32, 0u32);
        // The generation that each caller sent with its open request.
        let mut callers: Vec<Option<u64>> = vec![None; 8];
        for _ in 0..2000 {
            now += Duration::from_millis(random.u64(0..200));
            match random.u8(0..20) {
                0 => {
                    server.valid = u64::MAX;
                    expiries += 1;
                }
                1 => server.right = random.u8(0..4) > 0,
                2..=5 if fetching => {
                    fetching = false;
                    if random.u8(0..5) == 0 {
                        state.fetched(FetchOutcome::Failed, now, random.f64());
                    } else if server.right {
                        state.fetched(FetchOutcome::Token(TokenForm::Simple), now, random.f64());
                        server.valid = state.generation();
                        fetches += 1;
                    } else {
                        state.fetched(FetchOutcome::Refused(refusal()), now, random.f64());
                        refused_fetches += 1;
                    }
                }
                _ => {
                    let caller = random.usize(0..callers.len());
                    let step = match callers[caller] {
                        None => state.need(now),
                        Some(sent) if sent == server.valid => {
                            callers[caller] = None;
                            continue;
                        }
                        Some(sent) => state.rejected(sent, TokenRejection::Invalid, now),
                    };
                    match step {
                        TokenStep::Go => callers[caller] = Some(state.generation()),
                        TokenStep::Fetch => {
                            assert!(!fetching, "seed {seed}: two fetches at once");
                            fetching = true;
                        }
                        TokenStep::Join => assert!(fetching, "seed {seed}: joins nothing"),
                        TokenStep::Refused(_) => callers[caller] = None,
                        TokenStep::Wait(until) => assert!(until > now, "seed {seed}"),
                        TokenStep::Final => panic!("seed {seed}: it can be fetched"),
                    }
                }
            }
        }
        // One fetch for each expiry, one at the start, and one after each refusal.
        assert!(
            fetches <= expiries + 1 + refused_fetches,
            "seed {seed}: {fetches} of {expiries}"
        );
        let longest = u32::try_from(now.duration_since(begun).as_secs() / 5).unwrap();
        assert!(
            refused_fetches <= longest + 1,
            "seed {seed}: {refused_fetches}"
        );
    }
}

#[test]
fn a_request_without_the_given_token_is_sent_again_with_it() {
    let mut state = TokenState::fixed(TokenForm::Simple);
    let now = Instant::now();
    assert_eq!(state.generation(), 1);
    let without = state.rejected(0, TokenRejection::Missing, now);
    assert_eq!(without, TokenStep::Go);
    let with = state.rejected(1, TokenRejection::Invalid, now);
    assert_eq!(with, TokenStep::Final, "it cannot be fetched");
}
