//! The rules one by one, and a crowd of callers against a server whose users and roles change.

use super::*;
use crate::error::ServerError;

fn refusal() -> ServerError {
    ServerError::read(
        3,
        "etcdserver: authentication failed, invalid user ID or password",
    )
}

fn fetched(state: &mut State, outcome: Fetched, now: Instant) {
    assert!(state.fetching, "nobody fetches");
    state.fetched(outcome, now, 0.5);
}

fn with_token(form: Form) -> (State, Instant) {
    let (mut state, now) = (State::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), Step::Fetch);
    fetched(&mut state, Fetched::Token(form), now);
    (state, now + HELD)
}

#[test]
fn the_first_request_fetches_and_the_others_wait_for_it() {
    let (mut state, now) = (State::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), Step::Fetch);
    assert_eq!(state.need(now), Step::Join);
    fetched(&mut state, Fetched::Token(Form::Simple), now);
    assert_eq!((state.need(now), state.generation()), (Step::Go, 1));
}

#[test]
fn a_complaint_about_an_older_token_takes_the_newer_one() {
    let (mut state, now) = with_token(Form::Simple);
    assert_eq!(state.complain(1, Complaint::Invalid, now), Step::Fetch);
    assert_eq!(state.complain(1, Complaint::Missing, now), Step::Join);
    fetched(&mut state, Fetched::Token(Form::Simple), now);
    assert_eq!(state.complain(1, Complaint::Invalid, now), Step::Go);
    assert_eq!(state.generation(), 2);
}

#[test]
fn an_old_revision_asks_for_another_jwt_but_a_simple_token_stays() {
    let (mut state, now) = with_token(Form::Simple);
    assert_eq!(state.complain(1, Complaint::Old, now), Step::Go);
    let (mut state, now) = with_token(Form::Jwt);
    assert_eq!(state.complain(1, Complaint::Old, now), Step::Fetch);
}

#[test]
fn a_wrong_password_is_answered_from_memory_and_asked_about_ever_less_often() {
    let (mut state, mut now) = (State::fetched_by_need(), Instant::now());
    for pause in [5, 10, 20, 30, 30] {
        assert_eq!(state.need(now), Step::Fetch);
        fetched(&mut state, Fetched::Refused(refusal()), now);
        let pause = Duration::from_secs(pause);
        assert_eq!(state.need(now), Step::Refused(refusal()));
        let almost = now + pause - Duration::from_millis(1);
        assert_eq!(state.need(almost), Step::Refused(refusal()));
        assert_eq!(
            state.complain(0, Complaint::Missing, almost),
            Step::Refused(refusal())
        );
        now += pause;
    }
    assert_eq!(state.need(now), Step::Fetch);
    fetched(&mut state, Fetched::Token(Form::Simple), now);
    assert_eq!(
        state.complain(1, Complaint::Invalid, now + HELD),
        Step::Fetch
    );
    fetched(&mut state, Fetched::Refused(refusal()), now + HELD);
    let again = now + HELD + Duration::from_secs(5);
    assert_eq!(state.need(again), Step::Fetch, "a new series begins at 5 s");
}

#[test]
fn any_other_answer_stands_for_a_moment_and_takes_no_token_away() {
    let unknown = ServerError::read(2, "auth: something new");
    let (mut state, mut now) = (State::fetched_by_need(), Instant::now());
    for _ in 0..20 {
        assert_eq!(state.need(now), Step::Fetch);
        fetched(&mut state, Fetched::Refused(unknown.clone()), now);
        assert_eq!(state.need(now), Step::Refused(unknown.clone()));
        now += Duration::from_secs(1);
    }
    let (mut state, now) = with_token(Form::Simple);
    assert_eq!(state.complain(1, Complaint::Invalid, now), Step::Fetch);
    fetched(&mut state, Fetched::Refused(unknown.clone()), now);
    assert_eq!(state.need(now), Step::Go, "the token may be good elsewhere");
    let refused = Step::Refused(unknown);
    assert_eq!(state.complain(1, Complaint::Invalid, now), refused);
}

#[test]
fn authentication_that_is_off_needs_no_token_until_it_is_missed() {
    let (mut state, now) = (State::fetched_by_need(), Instant::now());
    assert_eq!(state.need(now), Step::Fetch);
    fetched(&mut state, Fetched::NotEnabled, now);
    assert_eq!(state.need(now), Step::Go);
    assert_eq!(
        state.complain(1, Complaint::Missing, now + HELD),
        Step::Fetch
    );
}

#[test]
fn a_fetch_that_fails_is_repeated_after_a_growing_wait() {
    let (mut state, mut now) = (State::fetched_by_need(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(state.need(now), Step::Fetch);
        fetched(&mut state, Fetched::Failed, now);
        let Step::Wait(until) = state.need(now) else {
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
fn a_server_that_refuses_every_token_is_not_asked_for_thousands() {
    let (mut state, begun) = (State::fetched_by_need(), Instant::now());
    let (mut now, mut fetches) = (begun, 0);
    while now < begun + Duration::from_secs(60) {
        match state.complain(state.generation(), Complaint::Invalid, now) {
            Step::Fetch => {
                fetches += 1;
                fetched(&mut state, Fetched::Token(Form::Jwt), now);
            }
            Step::Wait(until) => now = until,
            step => panic!("{step:?}"),
        }
        now += Duration::from_millis(1);
    }
    assert!((60..=140).contains(&fetches), "{fetches}");
}

#[test]
fn a_token_that_was_given_is_never_fetched() {
    let now = Instant::now();
    let mut state = State::fixed(Form::Jwt);
    assert_eq!(state.need(now), Step::Go);
    for complaint in [Complaint::Invalid, Complaint::Missing, Complaint::Old] {
        assert_eq!(state.complain(1, complaint, now), Step::Final);
    }
    assert_eq!(state.complain(1, Complaint::Denied, now), Step::Go);
    let mut simple = State::fixed(Form::Simple);
    assert_eq!(simple.complain(1, Complaint::Old, now), Step::Go);
}

#[test]
fn a_denial_that_may_mean_the_token_is_checked_once_with_a_fresh_one() {
    let (mut state, now) = with_token(Form::Simple);
    assert_eq!(state.complain(1, Complaint::Denied, now), Step::Fetch);
    fetched(&mut state, Fetched::Token(Form::Simple), now);
    assert_eq!(state.complain(2, Complaint::Denied, now), Step::Go);
}

#[test]
fn a_jwt_has_three_parts() {
    assert_eq!(Form::of("eyJh.eyJl.c2ln"), Form::Jwt);
    assert_eq!(Form::of("nUxSLqDIvMFPocRX.17"), Form::Simple);
    assert_eq!(Form::of(""), Form::Simple);
}

/// A server in miniature: which generation of token it takes, and whether the password is right.
struct Server {
    valid: u64,
    right: bool,
}

/// Callers that each have a request to send with the token of some generation.
#[test]
fn in_any_order_of_events_tokens_are_fetched_one_at_a_time_and_each_for_a_reason() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut state, begun) = (State::fetched_by_need(), Instant::now());
        let mut now = begun;
        let mut server = Server {
            valid: 0,
            right: true,
        };
        let (mut fetching, mut fetches, mut expiries, mut refused_fetches) =
            (false, 0u32, 0u32, 0u32);
        // What each caller sent its request with, while it is under way.
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
                        state.fetched(Fetched::Failed, now, random.f64());
                    } else if server.right {
                        state.fetched(Fetched::Token(Form::Simple), now, random.f64());
                        server.valid = state.generation();
                        fetches += 1;
                    } else {
                        state.fetched(Fetched::Refused(refusal()), now, random.f64());
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
                        Some(sent) => state.complain(sent, Complaint::Invalid, now),
                    };
                    match step {
                        Step::Go => callers[caller] = Some(state.generation()),
                        Step::Fetch => {
                            assert!(!fetching, "seed {seed}: two fetches at once");
                            fetching = true;
                        }
                        Step::Join => assert!(fetching, "seed {seed}: joins nothing"),
                        Step::Refused(_) => callers[caller] = None,
                        Step::Wait(until) => assert!(until > now, "seed {seed}"),
                        Step::Final => panic!("seed {seed}: it can be fetched"),
                    }
                }
            }
        }
        // One for each expiry, one to begin with, and one after each time that there was none.
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
