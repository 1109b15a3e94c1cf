//! The decisions of a call, in every class and in random orders of failures.

use proptest::prelude::*;

use super::RequestClass::{Forwarded, Repeatable, Write};
use super::*;
use crate::grpc::connect::connect_error::{ConnectError, RequestSent};

const TIMEOUT: Duration = Duration::from_secs(5);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn answer(text: &str) -> AttemptFailure {
    AttemptFailure::Status(ServerError::read(2, &format!("etcdserver: {text}")))
}

fn broken(sent: RequestSent) -> AttemptFailure {
    AttemptFailure::Broken(ConnectError {
        sent,
        ..ConnectError::unconnected("connection reset by the server")
    })
}

fn failed(failure: AttemptFailure) -> Outcome {
    Outcome::Failed {
        endpoint: "http://a:1".into(),
        failure,
        is_open: true,
    }
}

fn refused(text: &str) -> RpcError {
    RpcError::Connection(ConnectError::unconnected(text))
}

/// An answer that rejects a user, not a token.
fn wrong_password() -> RpcError {
    let text = "etcdserver: authentication failed, invalid user ID or password";
    RpcError::Status(ServerError::read(2, text))
}

/// The error of a call, without known failures of its endpoints.
fn error(attempts: Attempts, next: Next, now: Instant) -> Error {
    let Next::Fail(failure) = next else {
        panic!("{next:?}");
    };
    attempts.into_error(failure, now, "http://a:1,http://b:1".into(), || None)
}

#[test]
fn a_read_with_other_members_gets_a_third_of_the_time_and_at_least_a_second() {
    let now = Instant::now();
    let limit = |class, timeout, has_other_member| {
        let attempts = Attempts::new(class, timeout, now);
        attempts.attempt_deadline(has_other_member, now).unwrap() - now
    };
    assert_eq!(limit(Repeatable, ms(6000), true), ms(2000));
    assert_eq!(limit(Repeatable, ms(2000), true), ms(1000));
    assert_eq!(limit(Repeatable, ms(500), true), ms(500));
    assert_eq!(limit(Repeatable, ms(6000), false), ms(6000));
    for class in [Write, Forwarded] {
        assert_eq!(limit(class, ms(6000), true), ms(6000));
    }
}

#[test]
fn nothing_is_sent_after_the_deadline() {
    let now = Instant::now();
    for class in [Repeatable, Write, Forwarded] {
        let attempts = Attempts::new(class, TIMEOUT, now);
        assert!(attempts.attempt_deadline(true, now + TIMEOUT).is_none());
        let last = now + TIMEOUT - ms(1);
        assert_eq!(attempts.attempt_deadline(true, last), Some(now + TIMEOUT));
    }
}

#[test]
fn only_requests_that_fail_on_a_working_connection_are_spaced() {
    let now = Instant::now();
    let pause = |outcome: Outcome| {
        let mut attempts = Attempts::new(Repeatable, TIMEOUT, now);
        match attempts.on(outcome, now, 1.0) {
            Next::Retry { at } => at.map(|at| at - now),
            next => panic!("{next:?}"),
        }
    };
    assert_eq!(pause(failed(answer("no leader"))), Some(ms(25)));
    assert_eq!(pause(failed(broken(RequestSent::Maybe))), Some(ms(25)));
    let ended = Outcome::Failed {
        endpoint: "http://a:1".into(),
        failure: broken(RequestSent::Maybe),
        is_open: false,
    };
    assert_eq!(pause(ended), None);
    assert_eq!(pause(failed(AttemptFailure::Silence)), None);
    assert_eq!(
        pause(Outcome::NotConnected(refused("connection refused"))),
        None
    );
}

#[test]
fn the_waits_grow_and_the_call_ends_before_a_wait_that_is_too_long() {
    let begun = Instant::now();
    let mut attempts = Attempts::new(Repeatable, TIMEOUT, begun);
    let (mut now, mut waits) = (begun, Vec::new());
    let next = loop {
        match attempts.on(failed(answer("no leader")), now, 1.0) {
            Next::Retry { at } => {
                waits.push(at.unwrap() - now);
                now = at.unwrap();
            }
            next => break next,
        }
    };
    assert_eq!(waits[..6], [25, 50, 100, 200, 400, 500].map(ms));
    assert!(now < begun + TIMEOUT && now + ms(500) >= begun + TIMEOUT);
    assert!(matches!(next, Next::Fail(CallFailure::TooLate)));
    let error = error(attempts, next, now);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.attempts() as usize, waits.len() + 1);
    let text = error.to_string();
    assert!(
        text.contains("no answer in 5s") && text.contains("no leader"),
        "{text}"
    );
}

#[test]
fn a_rejected_token_is_renewed_before_the_next_attempt() {
    let now = Instant::now();
    for class in [Repeatable, Write, Forwarded] {
        let mut attempts = Attempts::new(class, TIMEOUT, now);
        let next = attempts.on(failed(answer("invalid auth token")), now, 1.0);
        assert!(matches!(next, Next::RenewToken(_)), "{next:?}");
        let next = attempts.on(Outcome::TokenRenewed, now, 1.0);
        assert!(matches!(next, Next::Retry { at: Some(at) } if at == now + ms(25)));
        // The fetch failed for now: the next attempt fetches again.
        let next = attempts.on(failed(answer("invalid auth token")), now, 1.0);
        assert!(matches!(next, Next::RenewToken(_)), "{next:?}");
        let next = attempts.on(Outcome::TokenNotRenewed(refused("refused")), now, 1.0);
        assert!(matches!(next, Next::Retry { at: Some(at) } if at == now + ms(50)));
        assert_eq!(attempts.failed(), 3);
        let next = attempts.on(failed(answer("invalid auth token")), now, 1.0);
        assert!(matches!(next, Next::RenewToken(_)), "{next:?}");
        let next = attempts.on(Outcome::TokenNotRenewed(wrong_password()), now, 1.0);
        assert!(matches!(next, Next::Fail(CallFailure::TokenRefused(_))));
        let error = error(attempts, next, now);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert_eq!(error.attempts(), 4);
    }
}

#[test]
fn a_call_without_a_new_token_before_its_deadline_is_a_timeout() {
    let now = Instant::now();
    let mut attempts = Attempts::new(Write, TIMEOUT, now);
    attempts.on(failed(answer("invalid auth token")), now, 1.0);
    let late = now + TIMEOUT;
    let next = attempts.on(Outcome::DeadlinePassed, late, 1.0);
    let error = error(attempts, next, late);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.outcome_unknown());
}

#[test]
fn the_error_names_the_failure_the_endpoint_and_the_obstacle() {
    let now = Instant::now();
    let all = "http://a:1,http://b:1";
    // Without a connection, no single endpoint failed.
    let mut attempts = Attempts::new(Write, TIMEOUT, now);
    let expired = RpcError::Connection(ConnectError::tls("expired"));
    let next = attempts.on(Outcome::NotConnected(expired), now, 1.0);
    let tls = error(attempts, next, now);
    assert_eq!((tls.kind(), tls.endpoint()), (ErrorKind::Tls, Some(all)));
    let mut attempts = Attempts::new(Write, TIMEOUT, now);
    let next = attempts.on(failed(AttemptFailure::Silence), now + ms(1200), 1.0);
    let silent = error(attempts, next, now + ms(1200));
    assert_eq!(silent.endpoint(), Some("http://a:1"));
    assert!(silent.outcome_unknown());
    assert!(silent.to_string().contains("no answer in 1.2s"), "{silent}");
    let mut attempts = Attempts::new(Write, TIMEOUT, now);
    let next = attempts.on(Outcome::DeadlinePassed, now + TIMEOUT, 1.0);
    let Next::Fail(failure) = next else {
        panic!("{next:?}");
    };
    let obstacle = || Some("every stream is in use".to_owned());
    let late = attempts.into_error(failure, now + TIMEOUT, all.into(), obstacle);
    assert_eq!((late.kind(), late.attempts()), (ErrorKind::Timeout, 1));
    assert!(
        late.to_string().contains("every stream is in use"),
        "{late}"
    );
}

/// A failure, whether it is temporary, and whether the request may have been executed.
fn failures() -> Vec<(AttemptFailure, bool, bool)> {
    vec![
        (answer("no leader"), true, false),
        (answer("request timed out"), true, true),
        (answer("invalid auth token"), true, false),
        (answer("duplicate key given in txn request"), false, false),
        (broken(RequestSent::No), true, false),
        (broken(RequestSent::Maybe), true, true),
        (AttemptFailure::Silence, true, true),
    ]
}

proptest! {
    /// Calls with random failures, waits and tokens: each call ends, in time; a write is not sent
    /// again after an attempt that may have been executed; and its error has this information.
    #[test]
    fn a_call_ends_in_time_and_a_write_is_executed_at_most_once(
        is_write in any::<bool>(),
        steps in prop::collection::vec((0..9usize, 0..3u8, 0..400u64, 0.0..1.0f64), 1..60),
    ) {
        let begun = Instant::now();
        let class = if is_write { Write } else { Repeatable };
        let mut attempts = Attempts::new(class, TIMEOUT, begun);
        let deadline = attempts.deadline();
        let mut now = begun;
        let mut maybe_executed = false;
        let mut noted = 0;
        for (failure, token, took, random) in steps {
            prop_assert!(now < deadline, "an attempt begins in time");
            prop_assert!(!(is_write && maybe_executed), "a write is sent again");
            now += ms(took);
            let mut temporary = true;
            let outcome = if now >= deadline {
                Outcome::DeadlinePassed
            } else if let Some((failure, passes, executed)) = failures().get(failure).cloned() {
                noted += 1;
                maybe_executed |= executed;
                temporary = passes;
                failed(failure)
            } else {
                noted += 1;
                Outcome::NotConnected(refused("connection refused"))
            };
            let late = now >= deadline;
            let mut next = attempts.on(outcome, now, random);
            if let Next::RenewToken(_) = next {
                let outcome = match token {
                    0 => Outcome::TokenRenewed,
                    1 => {
                        noted += 1;
                        Outcome::TokenNotRenewed(refused("connection refused"))
                    }
                    _ => Outcome::TokenNotRenewed(wrong_password()),
                };
                next = attempts.on(outcome, now, random);
            }
            prop_assert_eq!(attempts.failed(), noted);
            match next {
                Next::Retry { at } => {
                    prop_assert!(temporary && !late);
                    now = at.unwrap_or(now);
                }
                Next::Fail(CallFailure::TooLate) => {
                    let longest = BETWEEN_ATTEMPTS.last(1.0);
                    prop_assert!(late || now + longest >= deadline, "it gives up too early");
                    return Ok(());
                }
                Next::Fail(failure) => {
                    let final_failure = matches!(failure, CallFailure::Final { .. });
                    let error = attempts.into_error(failure, now, "all".into(), || None);
                    if final_failure {
                        prop_assert!(!temporary || is_write && maybe_executed);
                        prop_assert_eq!(error.outcome_unknown(), is_write && maybe_executed);
                    }
                    prop_assert_eq!(error.attempts(), noted);
                    return Ok(());
                }
                Next::RenewToken(_) => prop_assert!(false, "renewed twice"),
            }
        }
    }
}

#[test]
fn a_wait_that_ends_at_the_deadline_is_too_long() {
    let now = Instant::now();
    let end = now + TIMEOUT;
    let next = |at| {
        let mut attempts = Attempts::new(Repeatable, TIMEOUT, now);
        let next = attempts.on(failed(answer("too many requests")), at, 0.0);
        assert_eq!(attempts.last().map(|(at, _)| at), Some(Some("http://a:1")));
        next
    };
    assert!(matches!(next(end), Next::Fail(CallFailure::TooLate)));
    let retry = next(end - ms(1));
    assert!(
        matches!(retry, Next::Retry { at: None }),
        "there is nothing to wait for"
    );
}

#[test]
fn a_late_failure_is_a_timeout_only_if_a_new_token_could_help() {
    let kind = |text: &str| kind_of_late(&answer(text));
    assert_eq!(kind("invalid auth token"), ErrorKind::Timeout);
    let password = "authentication failed, invalid user ID or password";
    assert_eq!(kind(password), ErrorKind::Unauthenticated);
    assert_eq!(kind("no leader"), ErrorKind::Unavailable);
}
